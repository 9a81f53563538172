"""A systemd user service for each workspace that is to be mounted at every login.

Data flow: mount --service -> unit file -> systemctl --user -> `mount --foreground` -> ready.

Not a `.mount` unit: the user manager may not unmount what FUSE mounted (systemd#18431). Stopping it
is our own `umount`, which waits until everything is uploaded; what is not when the time is up stays
in the journal on this device. It is also run when somebody has unmounted by command, and then finds
nothing (the `-`): that is no failure, after which the manager would mount again.
"""

import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from parsec_fs.cli.exit_codes import CommandError, ExitCode
from parsec_fs.config import Home
from parsec_fs.directory import Workspace
from parsec_fs.protocol.hashing import sha256

STOP_S: Final = 90
_UNIT: Final = """[Unit]
Description=parsec-fs: {title} at {place}
StartLimitIntervalSec=300
StartLimitBurst=5

[Service]
Type=notify
ExecStart={start}
ExecStop=-{stop}
TimeoutStartSec=infinity
TimeoutStopSec={stop_s}
KillMode=mixed
Restart=on-failure
RestartSec=5

[Install]
WantedBy=default.target
"""


def unit_name(home: Home, workspace: Workspace) -> str:
    """One per state folder and workspace."""
    mark = sha256(os.fsencode(home.root) + b"\0" + workspace.realm).hex()
    return f"parsec-fs-{mark[:16]}.service"


def unit_text(home: Home, workspace: Workspace, place: Path, mount: Sequence[str]) -> str:
    """The unit file; `mount` are the arguments that serve the workspace. Raises CommandError."""
    program = [sys.executable, "-Pm", "parsec_fs"]
    stop = [*program, "--home", str(home.root), "umount", workspace.realm.hex()]
    return _UNIT.format(
        title=_words(workspace.title),
        place=_words(str(place)),
        start=_command([*program, *mount, "--foreground"]),
        stop=_command(stop),
        stop_s=STOP_S,
    )


def _words(text: str) -> str:
    """In a description: no specifier, no continued line, one line."""
    return text.replace("%", "%%").replace("\\", "/").replace("\n", " ")


def _command(words: Sequence[str]) -> str:
    """A command line as systemd.service(5) quotes it: each word as it is. Raises CommandError."""
    return " ".join(_quoted(word) for word in words)


def _quoted(word: str) -> str:
    if not word.isprintable():
        raise CommandError(
            ExitCode.USAGE, "a service cannot have a folder whose name has control characters"
        )
    escaped = word.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + escaped.replace("%", "%%").replace("$", "$$") + '"'


def install(environment: Mapping[str, str], name: str, text: str) -> Path:
    """Write the unit, enable and start it; where it is. Raises CommandError."""
    config = environment.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    path = Path(config) / "systemd" / "user" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    _systemctl("daemon-reload")
    _systemctl("enable", name)
    _systemctl("restart", name)
    return path


def _systemctl(*words: str) -> None:
    try:
        done = subprocess.run(["systemctl", "--user", *words], capture_output=True, text=True)
    except FileNotFoundError as error:
        raise CommandError(ExitCode.FAILED, "this machine has no systemd (systemctl)") from error
    if done.returncode:
        raise CommandError(
            ExitCode.FAILED,
            f"systemctl --user {' '.join(words)}: {done.stderr.strip()}. Nothing is lost; see: "
            f"journalctl --user -u {words[-1]}",
        )


def notify_ready(environment: Mapping[str, str]) -> None:
    """Tell the manager that started this process that it serves (sd_notify(3)), if one did."""
    address = environment.get("NOTIFY_SOCKET", "")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
        out.connect("\0" + address[1:] if address[0] == "@" else address)
        out.send(b"READY=1\n")

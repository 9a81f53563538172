"""Unmounting without the device's keys: for `lock --umount`, and for a device that locks itself.

Data flow: lock files of daemons -> who is mounted -> fusermount3 -> daemon journals all, and ends.

Nothing here opens the device file: who locks a device must not be asked for its passphrase. A mount
that is in use is never taken away by force, because a program that is writing would lose what it
has not written; it is named instead, with who uses it.
"""

import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import trio

from parsec_fs.cli.exit_codes import CommandError, ExitCode
from parsec_fs.cli.mountpoint import mount_type
from parsec_fs.config import Home, WorkspacePaths
from parsec_fs.control import CommandFailedError, call
from parsec_fs.lockfile import holder
from parsec_fs.plain_text import plain_name
from parsec_fs.protocol.errors import OfflineError

Json = dict[str, Any]
_END_S: Final = 30.0
_TRIES: Final = 5
"""The daemon itself uses the mount for an instant when it tells watchers of a change."""
_AGAIN_S: Final = 0.2
_SHOWN: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenMount:
    """A workspace that a daemon serves in a folder, as far as it is known without keys."""

    title: str
    mountpoint: str
    paths: WorkspacePaths

    def json(self) -> Json:
        """Name and folder."""
        return {"workspace": self.title, "mountpoint": self.mountpoint}


def open_mounts(home: Home) -> list[OpenMount]:
    """What is mounted from this state folder, by folder."""
    found = []
    for folder in home.workspaces.iterdir() if home.workspaces.exists() else ():
        paths = WorkspacePaths(root=folder)
        running = holder(paths.lock)
        if running is not None and mount_type(Path(running.mountpoint)) is not None:
            title = str(_ask(paths, "status").get("name", running.mountpoint))
            found.append(OpenMount(title=title, mountpoint=running.mountpoint, paths=paths))
    return sorted(found, key=lambda one: one.mountpoint)


def unused_s(one: OpenMount) -> float:
    """Seconds since a program used this mount; 0 if its daemon does not say."""
    return float(_ask(one.paths, "idle").get("idle_s", 0))


def close(one: OpenMount) -> int:
    """Unmount, and wait until the daemon has journalled everything and ended; how many changes the
    server does not have yet: they wait on this device. Raises CommandError, naming who uses it."""
    pending = int(_ask(one.paths, "status").get("changes", {}).get("local", 0))
    unmount(one.mountpoint)
    wait_for_end(one.paths.lock)
    return pending


def unmount(mountpoint: str) -> None:
    """Not lazily: a folder that is in use stays mounted. Raises CommandError."""
    for left in reversed(range(_TRIES)):
        done = subprocess.run(
            ["fusermount3", "-u", "--", mountpoint], capture_output=True, text=True, timeout=60
        )
        if not done.returncode:
            return
        users = users_of(mountpoint)
        if users or not left:
            break
        time.sleep(_AGAIN_S)
    reason = done.stderr.strip().removeprefix("fusermount3: ")
    by = f"; used by {', '.join(users[:_SHOWN])}" if users else ""
    more = f" and {len(users) - _SHOWN} more" if len(users) > _SHOWN else ""
    raise CommandError(
        ExitCode.BUSY,
        f"{mountpoint} stays mounted, open for whoever uses this session: {reason}{by}{more}. "
        "Nothing is lost. Close what uses it, then type the command again. "
        f"Everything that uses it: fuser -vm {mountpoint}",
    )


def wait_for_end(lock: Path) -> None:
    """Until no daemon holds this lock. Raises CommandError."""
    deadline = time.monotonic() + _END_S
    while holder(lock) is not None:
        if time.monotonic() > deadline:
            raise CommandError(ExitCode.TIMEOUT, "unmounted, but its daemon is still busy")
        time.sleep(0.02)


def users_of(mountpoint: str) -> list[str]:
    """Programs that work in this folder or have a file of it open, as far as this user may see
    them: `bash (4711)`."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        if any(place == mountpoint or place.startswith(mountpoint + "/") for place in _used(entry)):
            found.append((int(entry.name), _name(entry)))
    return [f"{name} ({pid})" for pid, name in sorted(found)]


def _used(process: Path) -> Iterator[str]:
    """Folders and files that a process holds; what has ended meanwhile holds nothing."""
    try:
        links = [process / "cwd", process / "root", *(process / "fd").iterdir()]
    except OSError:
        return
    for link in links:
        try:
            yield os.readlink(link)
        except OSError:
            continue


def _name(process: Path) -> str:
    try:
        return plain_name((process / "comm").read_bytes().strip())
    except OSError:
        return "a program"


def _ask(paths: WorkspacePaths, command: str) -> Json:
    """What the daemon says; nothing if it does not answer."""
    try:
        return trio.run(call, paths.socket, command)
    except (OfflineError, CommandFailedError):
        return {}

"""One command to a mounted folder: servers, organization, device, workspace, mount; and back.

Data flow: scripts/quickstart -> services.py (servers) -> parsec-fs (device, mount) -> summary.

Every step looks first whether it is done already, so that a second run resumes, also after a run
that ended half-way. What a failed first run made is taken away again; what holds data never is.
"""

import argparse
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from services import Addresses, ServiceError, Services

from parsec_fs.cli.exit_codes import CommandError, ExitCode, exit_code
from parsec_fs.cli.mountpoint import check_fuse, mount_type
from parsec_fs.config import Home, home_of
from parsec_fs.protocol.errors import ParsecFSError

WORKSPACE = "quickstart"
Json = dict[str, Any]


class Progress:
    """One line per step, with the seconds it takes if that is more than one."""

    def __init__(self) -> None:
        self._text = ""
        self._since = 0.0
        self._shown = 0

    def __call__(self, text: str) -> None:
        """This is what happens now; call it again while it lasts."""
        if text != self._text:
            self.done()
            self._text, self._since, self._shown = text, time.monotonic(), 0
        seconds = int(time.monotonic() - self._since)
        if seconds > self._shown and sys.stderr.isatty():
            print(f"\r  {text} ... {seconds} s", end="", file=sys.stderr, flush=True)
            self._shown = seconds

    def done(self) -> None:
        """The step before is over."""
        if not self._text:
            return
        seconds = time.monotonic() - self._since
        start = "\r\x1b[K" if sys.stderr.isatty() else ""
        if seconds >= 1 or not sys.stderr.isatty():
            print(f"{start}  {self._text}: {seconds:.1f} s", file=sys.stderr, flush=True)
        self._text = ""


class CliError(ServiceError):
    """A parsec-fs command failed."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


def parsec_fs(home: Home, step: Progress, text: str, *arguments: str) -> Json:
    """A command of parsec-fs, with progress while it runs; its JSON document."""
    command = [sys.executable, "-Pm", "parsec_fs", "--json", "--home", str(home.root), *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        while True:
            step(text)
            try:
                output, errors = process.communicate(timeout=0.2)
                break
            except subprocess.TimeoutExpired:
                continue
    try:
        document: Json = json.loads(output)
    except ValueError:
        document = {"error": errors.decode(errors="replace").strip()[-800:]}
    if process.returncode:
        raise CliError(document.get("error", "failed"), process.returncode)
    return document


class Quickstart:
    """One installation in `home`."""

    def __init__(self, home: Home, step: Progress) -> None:
        self._home = home
        self._step = step
        self._services = Services(home.services)
        self._notes = home.services / "quickstart.json"

    def up(self, folder: Path | None, validators: int) -> Json:
        """Everything running and mounted; what `summary` shows."""
        has_device = (self._home.device / "device.dat").exists()
        if has_device and not self._services.exist():
            raise ServiceError(
                f"{self._home.root} holds a device of another server, not of a quickstart.\n"
                "Choose another state folder: --home DIR"
            )
        mountpoint = self._choose(folder)
        check_fuse()
        self._check_folder(mountpoint)
        was_running = self._services.pid() is not None
        try:
            if not self._services.exist():
                self._step("drawing keys, writing configuration")
                self._services.create(validators=validators)
            self._services.start(self._step)
            self._enrol()
            return self._mount(mountpoint)
        except BaseException:
            if not was_running:
                self._undo(has_device)
            raise

    def _undo(self, had_device: bool) -> None:
        """A first run that failed leaves nothing; a later one leaves what was there, stopped."""
        self._services.stop(self._step)
        if had_device or (self._home.device / "device.dat").exists():
            return
        shutil.rmtree(self._home.services, ignore_errors=True)
        shutil.rmtree(self._home.device, ignore_errors=True)

    def _choose(self, folder: Path | None) -> Path:
        """The folder: as given, else as the last time, else ~/Parsec."""
        if folder is not None:
            return Path(os.path.abspath(folder))
        if self._notes.exists():
            return Path(json.loads(self._notes.read_text())["folder"])
        return Path.home() / "Parsec"

    def _check_folder(self, folder: Path) -> None:
        """Before anything is started: a live mount is resumed, anything else must be empty."""
        if mount_type(folder) is not None:
            return
        if folder.exists() and not folder.is_dir():
            raise CommandError(ExitCode.NOT_EMPTY, f"{folder} is a file; choose another folder")
        if folder.is_dir() and any(folder.iterdir()):
            raise CommandError(
                ExitCode.NOT_EMPTY, f"{folder} is not empty; choose another folder or empty it"
            )

    def _enrol(self) -> None:
        addresses = self._services.addresses()
        if not (self._home.device / "device.dat").exists():
            self._found(addresses)
        if WORKSPACE not in [one["name"] for one in self._workspaces()]:
            self._run("creating the workspace", "workspace", "create", WORKSPACE)

    def _found(self, addresses: Addresses) -> None:
        chains = [part for url in addresses.rpc_urls for part in ("--chain", url)]
        token = self._services.draw_token()
        try:
            self._run(
                "founding your organization",
                *("org", "create", "quickstart", "--server", addresses.server_url),
                *("--genesis", str(self._services.genesis), "--token-file", str(token)),
                *chains,
            )
        finally:
            token.unlink(missing_ok=True)

    def _workspaces(self) -> list[Json]:
        found: list[Json] = self._run("looking for the workspace", "workspace", "list")[
            "workspaces"
        ]
        return found

    def _mount(self, folder: Path) -> Json:
        mounted = {one["name"]: one["mountpoint"] for one in self._workspaces()}[WORKSPACE]
        if mounted is not None:
            return self._summary(Path(mounted))
        created = not folder.exists()
        try:
            self._run("mounting", "mount", WORKSPACE, str(folder))
        except BaseException:
            if created and folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
            raise
        self._notes.write_text(json.dumps({"folder": str(folder)}))
        return self._summary(folder)

    def _run(self, text: str, *arguments: str) -> Json:
        return parsec_fs(self._home, self._step, text, *arguments)

    def _summary(self, folder: Path) -> Json:
        addresses = self._services.addresses()
        return {
            "folder": str(folder),
            "home": str(self._home.root),
            "server": addresses.server_url,
            "chain": addresses.rpc_urls,
            "pid": self._services.pid(),
        }

    def down(self) -> bool:
        """Unmount, then stop the servers. False if nothing ran."""
        ran = False
        if (self._home.device / "device.dat").exists():
            for one in self._run("looking for mounts", "status")["workspaces"]:
                self._unmount(one["name"])
                ran = True
        return self._services.stop(self._step) or ran

    def _unmount(self, name: str) -> None:
        if self._services.pid() is None:
            # Nobody could take the uploads: they stay on this device, and go up after a resume.
            self._run("unmounting", "umount", name, "--no-wait")
            return
        self._run("uploading the rest, unmounting", "umount", name)

    def status(self) -> Json:
        """What runs."""
        document: Json = {
            "home": str(self._home.root),
            "installed": self._services.exist(),
            "servers": self._services.pid() is not None,
            "workspaces": [],
        }
        if (self._home.device / "device.dat").exists():
            document["workspaces"] = self._run("asking", "status")["workspaces"]
        return document


@contextmanager
def one_at_a_time(home: Path) -> Iterator[None]:
    """Two starts in one folder would take it from each other. The lock is the home folder itself:
    no file is left behind, and a folder that was made only for it is removed again."""
    created = not home.exists()
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(home, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise ServiceError(f"another quickstart works in {home} right now") from error
    finally:
        os.close(descriptor)
        if created and not any(home.iterdir()):
            home.rmdir()


def summary_lines(document: Json, home_option: str) -> list[str]:
    """What to know after the start."""
    tool = Path(sys.executable).parent / "parsec-fs"
    count = len(document["chain"])
    return [
        "",
        f"Your folder: {document['folder']}",
        f"  server   {document['server']} (SQLite, blocks in a folder), chain of {count} "
        f"validator{'s' if count > 1 else ''}, all on this machine",
        f"  state    {document['home']} (device keys opened by a key file, mode 0600)",
        "",
        f"  echo hello > {document['folder']}/hello.txt",
        f"  {tool} wait --audited{home_option}",
        f"  {tool} status{home_option}",
        "",
        f"For the day this machine is lost, a kit on paper: {tool} recovery create{home_option}",
        f"Stop: {Path(__file__).parent / 'quickstart'} --stop{home_option}   Again: without --stop",
    ]


def status_lines(document: Json) -> list[str]:
    """What runs, for people."""
    if not document["installed"]:
        return [f"nothing is installed in {document['home']}"]
    lines = [f"servers: {'running' if document['servers'] else 'stopped'}"]
    for one in document["workspaces"]:
        lines.append(f"{one['name']}: {one['state']['word']}, mounted at {one['mountpoint']}")
    if not document["workspaces"]:
        lines.append("nothing is mounted")
    return lines


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(prog="scripts/quickstart", description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, help="empty folder to mount on (~/Parsec)")
    parser.add_argument("--home", type=Path, help="folder for all state")
    parser.add_argument("--validators", type=int, default=1, help="1 by default, 4 for a test net")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--stop", action="store_true", help="unmount and stop the servers")
    action.add_argument("--status", action="store_true", help="show what runs")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """Exit code as of parsec-fs."""
    options = parse(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # cleaned up like Ctrl-C
    step = Progress()
    home_option = f" --home {options.home}" if options.home else ""
    try:
        home = home_of(options.home, environment, working_directory=Path.cwd())
        quickstart = Quickstart(home, step)
        if options.stop:
            ran = quickstart.down()
            document, lines = {"stopped": ran}, ["stopped" if ran else "nothing was running"]
        elif options.status:
            document = quickstart.status()
            lines = status_lines(document)
        else:
            with one_at_a_time(home.root):
                document = quickstart.up(options.folder, options.validators)
            lines = summary_lines(document, home_option)
    except CliError as error:
        return _fail(step, str(error), error.code)
    except ParsecFSError as error:
        return _fail(step, str(error), exit_code(error))
    except (ServiceError, OSError) as error:
        return _fail(step, str(error), ExitCode.FAILED)
    except KeyboardInterrupt:
        return _fail(step, "interrupted; what it started is stopped again", ExitCode.INTERRUPTED)
    step.done()
    print(json.dumps(document, indent=2) if options.json else "\n".join(lines))
    return 0


def _fail(step: Progress, message: str, code: int) -> int:
    step.done()
    print(f"quickstart: {message}", file=sys.stderr)
    return int(code)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))

"""The real product as a peer of `scripts/bench_mount`: servers, chain, device, workspace, mount.

Data flow: bench_mount -> Product.start -> quickstart (servers, parsec-fs) -> folder -> stop.

Signed uploads, checkpoints and audits go on while rows are measured, and `changes` says how far
they are. What is not audited in the end was not measured: its rows are marked invalid.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench_peers import Peer
from quickstart import WORKSPACE, CliError, Json, Progress, Quickstart, parsec_fs
from services import Services

from parsec_fs.config import Home, home_of

AUDIT_S = 300
WAITS = 5
"""A wait is for what is logged when it begins; what is logged meanwhile needs another."""
END_S = 30.0


@dataclass(frozen=True, kw_only=True)
class Changes:
    """Counted by the daemon: changes on this device only, records logged, records audited."""

    local: int
    logged: int
    audited: int

    def text(self) -> str:
        """For the line below a row."""
        return f"{self.local:,} local, {self.logged:,} logged, {self.audited:,} audited"


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A row of one round: its figure, and the changes when it ended (None: not counted)."""

    row: str
    value: float
    after: Changes | None


def unaudited(rounds: list[Measured], end: Changes) -> set[str]:
    """Rows of one round that changed something which is not audited in the end.

    The log is in order: with nothing left on the device, what was logged when a row ended is
    audited iff so many records are. A row that ended with changes still local needs all of them.
    """
    everything = end.local == 0 and end.audited >= end.logged
    return {
        one.row
        for one in rounds
        if one.after is not None
        and not everything
        and (one.after.local > 0 or one.after.logged > end.audited)
    }


class Quiet(Progress):
    """Steps are not shown."""

    def __call__(self, text: str) -> None:
        """Nothing."""


class Product(Peer):
    """This project as people use it, each round a new installation with everything of its own."""

    name = "parsec-fs"

    def __init__(self, backing: Path, *, server_options: Sequence[str] = ()) -> None:
        super().__init__(backing)
        self._home: Home = home_of(self.backing, {}, working_directory=Path.cwd())
        self._quickstart = Quickstart(self._home, Quiet())
        self._server_options = server_options
        self._daemon: int | None = None

    def start(self) -> Path:
        """Servers up, organization founded, workspace mounted. Raises ServiceError."""
        self.backing.mkdir(mode=0o700)
        Services(self._home.services).create(validators=1, server_options=self._server_options)
        self.resume()
        return self.mountpoint

    def resume(self) -> None:
        """What is not up yet is started."""
        self._quickstart.up(self.mountpoint, 1)
        self._daemon = self._status()["pid"]

    def pid(self) -> int:
        """The daemon."""
        assert self._daemon is not None
        return self._daemon

    def _ask(self, *arguments: str) -> Json:
        return parsec_fs(self._home, Quiet(), "", *arguments)

    def _status(self) -> Json:
        found: Json
        (found,) = self._ask("status")["workspaces"]
        return found

    def changes(self) -> Changes:
        """How far the changes made so far are, now."""
        counted = self._status()["changes"]
        return Changes(**{name: counted[name] for name in ("local", "logged", "audited")})

    def settle(self) -> Changes:
        """Wait until everything is audited; how far it came."""
        for _ in range(WAITS):
            try:
                self._ask("wait", WORKSPACE, "--audited", "--timeout", str(AUDIT_S))
            except CliError as error:
                print(f"not everything is audited: {error}", file=sys.stderr)
                break
            found = self.changes()
            if found.local == 0 and found.audited >= found.logged:
                return found
        return self.changes()

    def stop(self) -> None:
        """Mount, daemon, servers and state gone, whatever happened; a second Ctrl-C waits."""
        with uninterrupted():
            subprocess.run(
                ["fusermount3", "-uz", str(self.mountpoint)], capture_output=True, check=False
            )
            try:
                self.end()
            finally:
                shutil.rmtree(self.backing, ignore_errors=True)
                shutil.rmtree(self.mountpoint, ignore_errors=True)

    def end(self) -> None:
        """No process is left, once it is unmounted."""
        try:
            self._end_daemon()
        finally:
            Services(self._home.services).stop(Quiet())

    def _end_daemon(self) -> None:
        """It ends by itself when unmounted; one that does not is killed."""
        if self._daemon is None:
            return
        deadline = time.monotonic() + END_S
        while Path(f"/proc/{self._daemon}").exists():
            if time.monotonic() > deadline:
                os.kill(self._daemon, signal.SIGKILL)
                break
            time.sleep(0.05)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Ctrl-C waits until this is over."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)

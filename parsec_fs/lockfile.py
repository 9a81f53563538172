"""One daemon per workspace folder, one process per invitation: lock files that say who holds them.

Data flow: daemon (also where it is mounted), greeting -> `held` -> command line reads `holder`.

The lock is the kernel's, so a killed daemon never leaves a locked folder behind, and a pid that was
given to another program since then fools nobody: whoever holds the lock is alive.
"""

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from parsec_fs.protocol.errors import LocalError


class LockedError(LocalError):
    """Another process holds the lock."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """The process that uses the folder, and its mountpoint."""

    pid: int
    mountpoint: str


@contextmanager
def held(path: Path, mountpoint: str = "") -> Iterator[None]:
    """Hold the lock; without a mountpoint for what is no mount. Raises LockedError, naming the
    process that has it."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with path.open("a+") as file:
        if not _lock_soon(file):
            other = _read(file)
            raise LockedError(f"in use already by {_describe(other)}")
        file.truncate(0)
        file.write(json.dumps({"pid": os.getpid(), "mountpoint": mountpoint}))
        file.flush()
        yield


def holder(path: Path) -> Holder | None:
    """Who holds the lock now, if anyone."""
    try:
        with path.open("r+") as file:
            return None if _try_lock(file) else _read(file)
    except FileNotFoundError:
        return None


def last_mountpoint(path: Path) -> str | None:
    """Where the folder was mounted by whoever held the lock last."""
    try:
        with path.open("r") as file:
            found = _read(file)
    except FileNotFoundError:
        return None
    return found.mountpoint if found else None


def _describe(other: Holder | None) -> str:
    if other is None:
        return "a process"
    place = f", mounted at {other.mountpoint}" if other.mountpoint else ""
    return f"process {other.pid}{place}"


def _lock_soon(file: IO[str]) -> bool:
    """Tries a few times: `holder` of another program locks for an instant to see if it can."""
    for _ in range(10):
        if _try_lock(file):
            return True
        time.sleep(0.02)
    return False


def _try_lock(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _read(file: IO[str]) -> Holder | None:
    file.seek(0)
    try:
        document = json.loads(file.read())
        return Holder(pid=int(document["pid"]), mountpoint=str(document["mountpoint"]))
    except (ValueError, LookupError, TypeError):
        return None

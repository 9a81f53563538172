"""Unmounting without the device's keys: for `lock --umount`, and for a device that locks itself.

Data flow: lock files of daemons -> who serves what -> fusermount3 -> daemon journals all, and ends.

Nothing here opens the device file: who locks a device must not be asked for its passphrase. A mount
that is in use is never taken away by force, because a program that is writing would lose what it
has not written; it is named instead, with who uses it. A daemon that hangs is waited for only so
long, and keeps no other mount from being closed.
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
from parsec_fs.cli.mountpoint import mount_type, real_place
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
_ANSWER_S: Final = 5.0
_UNMOUNT_S: Final = 60.0
_PAUSE_S: Final = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenMount:
    """A workspace that a daemon serves in a folder, or starts or ends to serve there, as far as it
    is known without keys."""

    title: str
    mountpoint: str
    pid: int
    paths: WorkspacePaths

    def json(self) -> Json:
        """Name and folder."""
        return {"workspace": self.title, "mountpoint": self.mountpoint}


@dataclass(frozen=True, slots=True, kw_only=True)
class Closed:
    """A mount that is gone. `pending`: at least so many changes are not sent, None if its daemon
    did not say. `ended`: has its process ended, too?"""

    mount: OpenMount
    pending: int | None
    ended: bool


def open_mounts(home: Home) -> list[OpenMount]:
    """What daemons of this state folder serve, by folder; also what is not mounted yet."""
    found = []
    for folder in home.workspaces.iterdir() if home.workspaces.exists() else ():
        paths = WorkspacePaths(root=folder)
        running = holder(paths.lock)
        if running is not None and running.mountpoint:
            title = str((_ask(paths, "status") or {}).get("name", running.mountpoint))
            place = running.mountpoint
            found.append(OpenMount(title=title, mountpoint=place, pid=running.pid, paths=paths))
    return sorted(found, key=lambda one: one.mountpoint)


def unused_s(one: OpenMount) -> float | None:
    """Seconds since a program used this mount; None if its daemon does not say."""
    answer = _ask(one.paths, "idle")
    return None if answer is None else float(answer.get("idle_s", 0))


def close(one: OpenMount) -> Closed:
    """Unmount, and wait until the daemon has journalled everything and ended. What is not sent
    waits on this device. Raises CommandError, naming who uses the mount."""
    if not _wait_for_mount(one):
        return Closed(mount=one, pending=None, ended=holder(one.paths.lock) is None)
    pending = _pending(one.paths)
    unmount(one.mountpoint)
    try:
        wait_for_end(one.paths.lock)
    except CommandError:
        return Closed(mount=one, pending=pending, ended=False)
    return Closed(mount=one, pending=pending, ended=True)


def _wait_for_mount(one: OpenMount) -> bool:
    """Wait for a daemon that is still opening its workspace, so that it is not left out; False if
    it ended meanwhile, or mounts nothing for a long time."""
    deadline = time.monotonic() + _END_S
    while mount_type(Path(one.mountpoint)) is None:
        if holder(one.paths.lock) is None or time.monotonic() > deadline:
            return False
        time.sleep(_PAUSE_S)
    return True


def _pending(paths: WorkspacePaths) -> int | None:
    answer = _ask(paths, "status")
    try:
        return None if answer is None else int(answer["changes"]["local"])
    except (LookupError, TypeError, ValueError):
        return None


def unmount(mountpoint: str) -> None:
    """Not lazily: a folder that is in use stays mounted. Raises CommandError."""
    for left in reversed(range(_TRIES)):
        reason = _refused(mountpoint)
        if reason is None:
            return
        users = users_of(mountpoint)
        if users or not left:
            break
        time.sleep(_AGAIN_S)
    by = f"; used by {', '.join(users[:_SHOWN])}" if users else ""
    more = f" and {len(users) - _SHOWN} more" if len(users) > _SHOWN else ""
    raise CommandError(
        ExitCode.BUSY,
        f"{mountpoint} stays mounted, open for whoever uses this session: {reason}{by}{more}. "
        "Nothing is lost. Close what uses it, then type the command again. "
        f"Everything that uses it: fuser -vm {mountpoint}",
    )


def _refused(mountpoint: str) -> str | None:
    """Unmount once; why not, or None. Raises CommandError if that cannot be tried, or hangs."""
    command = ["fusermount3", "-u", "--", mountpoint]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_UNMOUNT_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CommandError(
            ExitCode.BUSY,
            f"{mountpoint} stays mounted, open for whoever uses this session: {error}. What its "
            "daemon has journalled is kept. Type the command again",
        ) from error
    return done.stderr.strip().removeprefix("fusermount3: ") if done.returncode else None


def wait_for_end(lock: Path) -> None:
    """Until no daemon holds this lock. Raises CommandError."""
    deadline = time.monotonic() + _END_S
    while holder(lock) is not None:
        if time.monotonic() > deadline:
            raise CommandError(ExitCode.TIMEOUT, "unmounted, but its daemon is still busy")
        time.sleep(_PAUSE_S)


def users_of(mountpoint: str) -> list[str]:
    """Programs that work in this folder, were started from it or have a file of it open or mapped,
    as far as this user may see them: `bash (4711)`."""
    found, place = [], str(real_place(Path(mountpoint)))
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        if any(used == place or used.startswith(place + "/") for used in _used(entry)):
            found.append((int(entry.name), _name(entry)))
    return [f"{name} ({pid})" for pid, name in sorted(found)]


def _used(process: Path) -> Iterator[str]:
    """Folders and files that a process holds; what has ended meanwhile holds nothing."""
    try:
        links = [*(process / name for name in ("cwd", "root", "exe")), *(process / "fd").iterdir()]
    except OSError:
        return
    for link in links:
        try:
            yield os.readlink(link)
        except OSError:
            continue
    yield from _mapped(process)


def _mapped(process: Path) -> Iterator[str]:
    """Files that a process reads through its memory; it may have closed them."""
    try:
        lines = os.fsdecode((process / "maps").read_bytes()).split("\n")
    except OSError:
        return
    for line in lines:
        fields = line.split(maxsplit=5)  # addresses, permissions, offset, device, inode, path
        if len(fields) == 6:
            yield fields[5]


def _name(process: Path) -> str:
    try:
        return plain_name((process / "comm").read_bytes().strip())
    except OSError:
        return "a program"


def _ask(paths: WorkspacePaths, command: str, within_s: float = _ANSWER_S) -> Json | None:
    """What the daemon says; None if it does not answer in time."""
    try:
        return trio.run(_answer, paths.socket, command, within_s)
    except (OfflineError, CommandFailedError):
        return None


async def _answer(socket: Path, command: str, within_s: float) -> Json:
    try:
        with trio.fail_after(within_s):
            return await call(socket, command)
    except (trio.TooSlowError, trio.BrokenResourceError) as error:
        raise OfflineError(f"the daemon at {socket} does not answer") from error

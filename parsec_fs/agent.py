"""The agent: keeps the file key of an unlocked device in memory, for one login session.

Data flow: `parsec-fs unlock` -> private socket -> `Agent` -> every later command of this user.

It holds one key, for one lock: a device file whose lock was exchanged since gets nothing. It ends,
and overwrites the key, when it is told to lock, when nobody asked for the idle time, and when its
socket is gone, as at the end of a login session. The idle time runs on while the machine sleeps.
Other users are kept out by the socket's mode and by the kernel's word on who is calling. This
user's own programs are not: what runs as you can ask for the key while it is unlocked.
"""

import ctypes
import os
import resource
import stat
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import trio

from parsec_fs.config import Home
from parsec_fs.control import Handler, Json, Progress, call, serve_control
from parsec_fs.lockfile import holder
from parsec_fs.protocol.errors import DeviceFileError, InputError, OfflineError
from parsec_fs.protocol.hashing import sha256

RUNTIME_VARIABLE: Final = "XDG_RUNTIME_DIR"
_LOOK_S: Final = 1.0
_NOT_DUMPABLE: Final = 4
"""PR_SET_DUMPABLE: no core file, and no debugger of the same user."""


def agent_sockets(home: Home, environment: Mapping[str, str]) -> tuple[Path, ...]:
    """Where the agent of this home may listen, best first: the session's private folder, else the
    home itself. A runtime folder that others can enter is not used."""
    inside = home.device / "agent.sock"
    runtime = environment.get(RUNTIME_VARIABLE)
    if not runtime or not _is_private(Path(runtime)):
        return (inside,)
    name = sha256(os.fsencode(os.path.realpath(home.root))).hex()[:16]
    return Path(runtime) / f"parsec-fs-{name}.sock", inside


def agent_lock(home: Home) -> Path:
    """Held by the agent of this home while it runs; says where it listens."""
    return home.device / "agent.pid"


def running_agent(home: Home) -> Path | None:
    """Where the agent of this home says that it listens, whatever session started it."""
    found = holder(agent_lock(home))
    return Path(found.mountpoint) if found and found.mountpoint else None


def sockets_to_ask(home: Home, environment: Mapping[str, str]) -> tuple[Path, ...]:
    """Where the agent of this home can be, best first."""
    places, running = agent_sockets(home, environment), running_agent(home)
    return places if running is None or running in places else (running, *places)


def ends_with_session(home: Home) -> bool:
    """Does the agent lose its socket when its user logs out? In the home itself nobody takes it
    away."""
    running = running_agent(home)
    return running is not None and running.parent != home.device


def _is_private(folder: Path) -> bool:
    try:
        found = folder.stat()
    except OSError:
        return False
    return (
        stat.S_ISDIR(found.st_mode)
        and found.st_uid == os.geteuid()
        and not stat.S_IMODE(found.st_mode) & 0o077
    )


def uptime() -> float:
    """Seconds, running on while the machine sleeps: a closed laptop grows idle too."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Agent:
    """One key at most. `clock`: seconds that never go back."""

    def __init__(self, clock: Callable[[], float] = uptime) -> None:
        self._clock = clock
        self._lock = ""
        self._key = bytearray()
        self._idle_s = 0.0
        self._used_at = clock()
        self._forgotten = self._told = self._unmounts = self._session_ended = False

    @property
    def unused_s(self) -> float:
        """How long nobody must have used a mount before that is ended, too: the idle time, or 0
        if the login session has ended, which nobody comes back to."""
        return 0.0 if self._session_ended else self._idle_s

    def leaves_mounts(self) -> bool:
        """Whoever typed `lock` has decided about the mounts; what ends by itself does as it was
        told when it began."""
        return self._told or not self._unmounts

    def handlers(self) -> Mapping[str, Handler]:
        """Commands of its socket."""
        return {"hold": self._hold, "key": self._give, "lock": self._forget, "state": self._state}

    async def serve(
        self, path: Path, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Answer at `path` until there is nothing to hold any more."""
        async with trio.open_nursery() as nursery:
            await nursery.start(_listen, path, self.handlers())
            mark = _mark_of(path)
            task_status.started()
            while not self._forgotten:
                await trio.sleep(_LOOK_S)
                self._session_ended = mark != _mark_of(path)
                if self._session_ended or self.is_over():
                    break
            self.wipe()
            nursery.cancel_scope.cancel()

    def wipe(self) -> None:
        """Overwrite the key. Copies that Python made on the way to a socket are beyond reach."""
        self._key[:] = bytes(len(self._key))
        self._key = bytearray()
        self._lock = ""
        self._forgotten = True

    def is_over(self) -> bool:
        """Has nobody asked for as long as the idle time?"""
        return bool(self._idle_s) and self._clock() - self._used_at >= self._idle_s

    async def _hold(self, parameters: Json, progress: Progress) -> Json:
        try:
            key, idle_s = bytes.fromhex(parameters["key"]), float(parameters["idle_s"])
            lock, unmounts = str(parameters["lock"]), bool(parameters.get("umount"))
        except (LookupError, ValueError, TypeError) as error:
            raise InputError(
                "the agent does not understand this; is it of this version?"
            ) from error
        self._key[:] = bytes(len(self._key))
        self._key, self._lock = bytearray(key), lock
        self._idle_s, self._used_at, self._forgotten = idle_s, self._clock(), False
        self._unmounts = unmounts
        return await self._state({}, progress)

    async def _give(self, parameters: Json, progress: Progress) -> Json:
        if self.is_over():
            # Before its own look at the clock: the first question after a night is too late.
            self.wipe()
        if not self._key or parameters.get("lock") != self._lock:
            raise DeviceFileError("locked")
        self._used_at = self._clock()
        return {"key": self._key.hex()}

    async def _forget(self, parameters: Json, progress: Progress) -> Json:
        self._told = True
        self.wipe()
        return {}

    async def _state(self, parameters: Json, progress: Progress) -> Json:
        return {"unlocked": bool(self._key) and not self.is_over(), "idle_s": self._idle_s}


def _mark_of(path: Path) -> tuple[int, int] | None:
    """Which socket lies there, if one does."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


async def _listen(
    path: Path,
    handlers: Mapping[str, Handler],
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    def failed(error: BaseException) -> int:
        return 12 if isinstance(error, DeviceFileError) else 1

    await serve_control(
        path, handlers, exit_code=failed, only_uid=os.geteuid(), task_status=task_status
    )


def harden() -> None:
    """No core file, no debugger: as far as a process can keep its memory to itself."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.CDLL(None).prctl(_NOT_DUMPABLE, 0, 0, 0, 0)


async def ask_agent(sockets: tuple[Path, ...], command: str, parameters: Json) -> Json:
    """Answer of the first agent of this user that listens. Raises OfflineError if none does,
    CommandFailedError if it is locked."""
    for path in sockets[:-1]:
        try:
            return await call(path, command, parameters, only_uid=os.geteuid())
        except OfflineError:
            continue
    return await call(sockets[-1], command, parameters, only_uid=os.geteuid())

"""The control socket of a running daemon: one JSON line asks, JSON lines answer.

Data flow: command line -> unix socket, mode 0600 -> daemon's handlers -> lines -> command line.

    {"command": "wait", "parameters": {...}}
    {"progress": {...}}  any number of times
    {"result": {...}}    or    {"error": "text", "exit": 20}

Whoever can open the socket of a daemon is this user; nothing secret travels over it. The agent
uses the same lines and does carry a secret: there both ends ask the kernel who the other one is
(`only_uid`). A client that goes away cancels its own command and nothing else.
"""

import json
import logging
import os
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final

import trio

from parsec_fs.protocol.errors import InputError, OfflineError, ParsecFSError
from parsec_fs.protocol.limits import MIB

Json = dict[str, Any]
Progress = Callable[[Json], Awaitable[None]]
Handler = Callable[[Json, Progress], Awaitable[Json]]

_LOG: Final = logging.getLogger(__name__)
_LINE_MAX_SIZE: Final = 16 * MIB
_CONNECT_TIMEOUT_S: Final = 5.0


class CommandFailedError(ParsecFSError):
    """A daemon refused or failed a command; `exit` is the exit code that it asks for."""

    def __init__(self, message: str, exit: int) -> None:
        super().__init__(message)
        self.exit = exit


async def serve_control(
    path: Path,
    handlers: Mapping[str, Handler],
    *,
    exit_code: Callable[[BaseException], int],
    only_uid: int | None = None,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Answer commands until cancelled. The caller holds the lock of the folder. `only_uid`: hang up
    on every other user's process, whatever the mode of the socket has become."""

    async def answer(stream: trio.SocketStream) -> None:
        async with stream:
            if only_uid is None or peer_uid(stream) == only_uid:
                await _answer(stream, handlers, exit_code)

    with _listening(path) as listener:
        async with trio.open_nursery() as nursery:
            await nursery.start(trio.serve_listeners, answer, [listener])
            task_status.started()


def peer_uid(stream: trio.SocketStream) -> int:
    """User of the process at the other end, as the kernel knows it."""
    size = struct.calcsize("3i")
    credentials = stream.socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    return int(struct.unpack("3i", credentials)[1])


@contextmanager
def _listening(path: Path) -> Iterator[trio.SocketListener]:
    path.unlink(missing_ok=True)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        with _short(path) as name:
            sock.bind(name)
    finally:
        os.umask(before)
    sock.listen(16)
    try:
        yield trio.SocketListener(trio.socket.from_stdlib_socket(sock))
    finally:
        path.unlink(missing_ok=True)


@contextmanager
def _short(path: Path) -> Iterator[str]:
    """A name of the socket that fits into the 107 bytes of an address, however deep it lies."""
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


async def _answer(
    stream: trio.SocketStream,
    handlers: Mapping[str, Handler],
    exit_code: Callable[[BaseException], int],
) -> None:
    async def progress(document: Json) -> None:
        await _send(stream, {"progress": document})

    try:
        line = await _Lines(stream).next()
        if line is None:
            return
        answers: list[Json] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_cancel_when_gone, stream, nursery.cancel_scope)
            answers.append(await _result(line, handlers, progress, exit_code))
            nursery.cancel_scope.cancel()
        for answer in answers:
            await _send(stream, answer)
    except (trio.BrokenResourceError, trio.ClosedResourceError, OfflineError):
        return


async def _result(
    line: bytes,
    handlers: Mapping[str, Handler],
    progress: Progress,
    exit_code: Callable[[BaseException], int],
) -> Json:
    """The last line of an answer. A bug in a command is logged and must not end the mount."""
    try:
        handler, parameters = _parse(line, handlers)
        return {"result": await handler(parameters, progress)}
    except (ParsecFSError, TimeoutError) as error:
        return {"error": str(error), "exit": int(exit_code(error))}
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        return {}
    except Exception:
        _LOG.exception("event=command-failed")
        return {"error": "internal error, see the daemon's log", "exit": 1}


async def _cancel_when_gone(stream: trio.SocketStream, scope: trio.CancelScope) -> None:
    """A client sends one line; whatever comes after it means that it has gone away."""
    await stream.receive_some(1)
    scope.cancel()


def _parse(line: bytes, handlers: Mapping[str, Handler]) -> tuple[Handler, Json]:
    try:
        document = json.loads(line)
        return handlers[document["command"]], dict(document.get("parameters") or {})
    except (ValueError, LookupError, TypeError) as error:
        raise InputError("the daemon does not know this command; is it of this version?") from error


async def _send(stream: trio.SocketStream, document: Json) -> None:
    await stream.send_all(json.dumps(document).encode() + b"\n")


class _Lines:
    """Lines of a stream, bounded."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._buffer = bytearray()

    async def next(self) -> bytes | None:
        """One line, or None at the end. Raises OfflineError for a line without end."""
        while (end := self._buffer.find(b"\n")) < 0:
            part = await self._stream.receive_some()
            if not part:
                return None
            self._buffer += part
            if len(self._buffer) > _LINE_MAX_SIZE:
                raise OfflineError("control socket: line without end")
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line


@asynccontextmanager
async def _connected(path: Path) -> AsyncIterator[trio.SocketStream]:
    try:
        with trio.fail_after(_CONNECT_TIMEOUT_S), _short(path) as name:
            stream = await trio.open_unix_socket(name)
    except (OSError, trio.TooSlowError) as error:
        raise OfflineError(f"no daemon answers at {path}") from error
    async with stream:
        yield stream


async def call(
    path: Path,
    command: str,
    parameters: Json | None = None,
    *,
    progress: Callable[[Json], None] = lambda _: None,
    only_uid: int | None = None,
) -> Json:
    """Result of a command; with `only_uid` only of that user's process, which is told nothing
    otherwise. Raises OfflineError if no daemon listens, CommandFailedError."""
    async with _connected(path) as stream:
        if only_uid is not None and peer_uid(stream) != only_uid:
            raise OfflineError(f"{path} belongs to another user's process: it is told nothing")
        await _send(stream, {"command": command, "parameters": parameters or {}})
        lines = _Lines(stream)
        while (line := await lines.next()) is not None:
            document = json.loads(line)
            if "progress" in document:
                progress(document["progress"])
            elif "error" in document:
                raise CommandFailedError(document["error"], document["exit"])
            else:
                result: Json = document["result"]
                return result
    raise OfflineError("the daemon went away while it worked on this")

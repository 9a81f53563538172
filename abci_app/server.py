"""The socket that CometBFT talks to: four connections, each a strict queue.

Data flow: CometBFT -> unix socket or loopback TCP -> `wire` -> Application -> answers in order.

One task per connection; between reading a request and storing its answer nothing is awaited, so
the application needs no lock. All answers to what one read brought are written at once, which
also honours Flush. An exception in the application is a bug: it is answered as such, and the node
stops rather than continue from a state that nobody understands.
"""

import errno
import logging
import os
import stat
from urllib.parse import urlsplit

import trio
from google.protobuf.message import DecodeError

from abci_app import abci_pb2 as pb
from abci_app.application import Application
from abci_app.wire import FrameReader, frame
from parsec_fs.protocol.errors import DataError, InputError

LOG = logging.getLogger(__name__)
READ_SIZE = 64 * 1024
SOCKET_PATH_MAX_SIZE = 100
"""The kernel's limit is 107 bytes."""


async def serve(
    app: Application,
    address: str,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve `unix:///path` or `tcp://127.0.0.1:port` until cancelled. Raises InputError."""
    listener = await open_listener(address)

    async def handler(stream: trio.SocketStream) -> None:
        await serve_connection(app, stream)

    async with listener:
        task_status.started()
        await trio.serve_listeners(handler, [listener])


async def open_listener(address: str) -> trio.SocketListener:
    """Listening socket for an address. Raises InputError."""
    parts = urlsplit(address)
    if parts.scheme == "unix":
        return await _unix_listener(trio.Path(parts.path))
    if parts.scheme != "tcp" or parts.hostname not in ("127.0.0.1", "::1", "localhost"):
        raise InputError(f"{address}: expected unix:///path or tcp://127.0.0.1:port")
    # Whoever reaches this socket controls the validator's view: never beyond this machine.
    listeners = await trio.open_tcp_listeners(parts.port or 0, host=parts.hostname)
    for extra in listeners[1:]:
        await extra.aclose()
    return listeners[0]


async def _unix_listener(path: trio.Path) -> trio.SocketListener:
    if len(os.fsencode(path)) > SOCKET_PATH_MAX_SIZE:
        raise InputError(f"{path}: the path of a unix socket must be shorter")
    await _remove_stale(path)
    unix = trio.socket.socket(trio.socket.AF_UNIX)
    mask = os.umask(0o077)
    try:
        await unix.bind(os.fspath(path))
    finally:
        os.umask(mask)
    unix.listen(16)
    return trio.SocketListener(unix)


async def _remove_stale(path: trio.Path) -> None:
    """A socket left by a killed process would block the next start; nothing else is removed."""
    if not await path.exists():
        return
    if not stat.S_ISSOCK((await path.stat()).st_mode):
        raise InputError(f"{path}: exists and is not a socket")
    try:
        probe = await trio.open_unix_socket(os.fspath(path))
    except OSError as error:
        if error.errno != errno.ECONNREFUSED:
            raise
        await path.unlink()
    else:
        await probe.aclose()
        raise InputError(f"{path}: another process is serving it")


async def serve_connection(app: Application, stream: trio.abc.HalfCloseableStream) -> None:
    """Answer one connection until the peer closes it or something is wrong."""
    reader = FrameReader()
    try:
        async for data in stream:
            reader.feed(data)
            answers, healthy = _answer_all(app, reader)
            await stream.send_all(answers)
            if not healthy:
                return
    except trio.BrokenResourceError:
        LOG.info("the node dropped a connection")
    finally:
        await trio.aclose_forcefully(stream)


def _answer_all(app: Application, reader: FrameReader) -> tuple[bytes, bool]:
    """Answers to every complete request, in order; False if the connection must end."""
    answers = bytearray()
    try:
        for message in reader.messages():
            response = app.handle(pb.Request.FromString(message))
            answers += frame(response.SerializeToString())
    except (DataError, DecodeError) as error:
        LOG.warning("closing a connection: %s", error)
        return bytes(answers), False
    except Exception as error:
        LOG.exception("request failed; the node will stop")
        exception = pb.Response(exception=pb.ExceptionResponse(error=str(error)))
        return bytes(answers) + frame(exception.SerializeToString()), False
    return bytes(answers), True

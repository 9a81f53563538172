"""Reading an answer without trusting its sender to stop.

Data flow: transport, chain_node -> HTTP answer -> this -> bytes or lines of bounded size.

Bytes are taken as they come from the wire. Compression is neither asked for nor undone: a few KiB
that expand to GiB would be in memory before any count of them.
"""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager, aclosing
from typing import Final

import httpx

from parsec_fs.protocol.errors import OfflineError
from parsec_fs.protocol.limits import KIB

LINE_MAX_SIZE: Final = 64 * KIB
"""An event is a line of some 70 bytes; what is longer was not written by our server."""

PLAIN: Final = {"Accept-Encoding": "identity"}
"""Request headers that ask for an answer that `body_of` and `lines_of` read."""


async def body_of(answer: httpx.Response, max_size: int) -> bytes:
    """The whole body. Raises OfflineError above `max_size` bytes or if it is compressed."""
    body = bytearray()
    async with _raw(answer) as parts:
        async for part in parts:
            body += part
            if len(body) > max_size:
                raise OfflineError("the answer does not end")
    return bytes(body)


async def lines_of(answer: httpx.Response) -> AsyncGenerator[str, None]:
    """Lines as they come, without their ends (LF or CRLF); what follows the last end is no line.

    Raises OfflineError for a line above LINE_MAX_SIZE bytes, also before its end has come.
    """
    rest = bytearray()
    async with _raw(answer) as parts:
        async for part in parts:
            *ended, unended = part.split(b"\n")
            for piece in ended:
                yield _extended(rest, piece).removesuffix(b"\r").decode(errors="replace")
                rest.clear()
            _extended(rest, unended)


def _extended(line: bytearray, piece: bytes) -> bytearray:
    if len(line) + len(piece) > LINE_MAX_SIZE:
        raise OfflineError("a line of the answer does not end")
    line += piece
    return line


def _raw(answer: httpx.Response) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
    if answer.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise OfflineError("the answer is compressed, which was not asked for")
    parts = answer.aiter_raw()
    assert isinstance(parts, AsyncGenerator)
    return aclosing(parts)

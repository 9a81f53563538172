"""Answers that do not end, lines that do not end, answers that would expand.

Data flow: a server that sends what it likes -> Transport, HttpChainNode -> bytes or OfflineError.
"""

import gzip
from collections.abc import AsyncIterator, Callable

import httpx
import pytest

from parsec_fs.protocol.errors import OfflineError
from parsec_fs.remote.bounded import LINE_MAX_SIZE
from parsec_fs.remote.chain_node import HttpChainNode
from parsec_fs.remote.transport import Transport

# Generators inside of httpx, left to the collector when an answer is not read to its end.
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*(BoundAsyncStream|AsyncIteratorByteStream).__aiter__"
)
ENDLESS = 1 << 40


class Server:
    """Sends `parts` to everyone; counts what it got rid of."""

    def __init__(self, parts: Callable[[], AsyncIterator[bytes]], encoding: str = "") -> None:
        self._parts = parts
        self._headers = {"Content-Encoding": encoding} if encoding else {}
        self.asked: list[str] = []
        self.sent = 0

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request.headers["Accept-Encoding"])
        return httpx.Response(200, headers=self._headers, content=self._count())

    async def _count(self) -> AsyncIterator[bytes]:
        async for part in self._parts():
            self.sent += len(part)
            yield part

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=httpx.MockTransport(self))


def these(*parts: bytes) -> Callable[[], AsyncIterator[bytes]]:
    async def send() -> AsyncIterator[bytes]:
        for part in parts:
            yield part

    return send


async def endless() -> AsyncIterator[bytes]:
    for _ in range(ENDLESS):
        yield b"x" * 1000


async def lines_from(server: Server) -> list[str]:
    async with server.client() as http, Transport(http, "http://server").lines("/", {}) as lines:
        return [line async for line in lines]


async def body_from(server: Server, max_size: int) -> bytes:
    async with server.client() as http:
        transport = Transport(http, "http://server")
        return (await transport.send("GET", "/", b"", {}, max_size=max_size)).body


@pytest.mark.parametrize(
    "parts",
    [
        (b"data: 1\n: alive\r\n\ndata: 2\n",),
        (b"dat", b"a: 1", b"\n: alive\r", b"\n", b"\ndata: 2\nunended"),
        tuple(bytes([one]) for one in b"data: 1\n: alive\n\ndata: 2\n"),
    ],
)
async def test_lines_however_they_are_cut(parts: tuple[bytes, ...]) -> None:
    assert await lines_from(Server(these(*parts))) == ["data: 1", ": alive", "", "data: 2"]


async def test_a_line_of_the_largest_size_is_read() -> None:
    longest = b"x" * LINE_MAX_SIZE
    assert await lines_from(Server(these(longest, b"\n"))) == [longest.decode()]
    with pytest.raises(OfflineError):
        await lines_from(Server(these(longest, b"x\n")))


async def test_a_line_without_end_is_cut_off() -> None:
    server = Server(endless)
    with pytest.raises(OfflineError):
        await lines_from(server)
    assert server.sent <= LINE_MAX_SIZE + 1000


async def test_an_answer_without_end_is_cut_off() -> None:
    server = Server(endless)
    with pytest.raises(OfflineError):
        await body_from(server, 5000)
    assert server.sent <= 6000
    assert await body_from(Server(these(b"x" * 5000)), 5000) == b"x" * 5000


async def test_a_compressed_answer_is_not_expanded() -> None:
    packed = gzip.compress(bytes(1000))
    server = Server(these(packed), encoding="gzip")
    with pytest.raises(OfflineError):
        await body_from(server, 5000)
    with pytest.raises(OfflineError):
        await lines_from(server)
    async with server.client() as http:
        with pytest.raises(OfflineError):
            await HttpChainNode("http://node", http).call("status", {})
    assert server.sent == 0
    assert server.asked == ["identity"] * 3


async def test_a_chain_node_without_end_is_cut_off() -> None:
    async with Server(endless).client() as http:
        with pytest.raises(OfflineError):
            await HttpChainNode("http://node", http).call("status", {})

"""The ABCI socket: answers in order, Flush in its place, bad peers dropped, bugs reported."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import trio

from abci_app import abci_pb2 as pb
from abci_app.application import Application
from abci_app.server import open_listener, serve
from abci_app.wire import FrameReader, frame
from parsec_fs.protocol.errors import InputError
from tests.support.abci import COMMIT, INFO, START_MS, MemoryStore, block, check, init_chain
from tests.support.servers import FakePublisher

FLUSH = pb.Request(flush=pb.FlushRequest())

Connect = Callable[[], Awaitable["Peer"]]


class Peer:
    """The node's side of one connection."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self._reader = FrameReader()
        self._ready: list[pb.Response] = []

    async def send(self, *requests: pb.Request) -> None:
        await self.stream.send_all(b"".join(frame(one.SerializeToString()) for one in requests))

    async def receive(self) -> pb.Response:
        """Next answer; EndOfChannel if the server closed."""
        while not self._ready:
            data = await self.stream.receive_some()
            if not data:
                raise trio.EndOfChannel
            self._reader.feed(data)
            self._ready += [pb.Response.FromString(one) for one in self._reader.messages()]
        return self._ready.pop(0)


@pytest.fixture
def publisher() -> FakePublisher:
    return FakePublisher()


@pytest.fixture
async def address(tmp_path: Path, publisher: FakePublisher) -> AsyncIterator[str]:
    app = Application(MemoryStore(), version="test")
    app.handle(init_chain(publisher))
    address = f"unix://{tmp_path / 'abci.sock'}"
    async with trio.open_nursery() as nursery:
        await nursery.start(serve, app, address)
        yield address
        nursery.cancel_scope.cancel()


@pytest.fixture
async def connect(address: str) -> AsyncIterator[Connect]:
    """Opens connections that are closed after the test."""
    async with AsyncExitStack() as stack:

        async def open_peer() -> Peer:
            stream = await trio.open_unix_socket(address.removeprefix("unix://"))
            return Peer(await stack.enter_async_context(stream))

        yield open_peer


def echo(text: str) -> pb.Request:
    return pb.Request(echo=pb.EchoRequest(message=text))


async def test_answers_come_in_order(connect: Connect) -> None:
    peer = await connect()
    requests = [echo(str(number)) for number in range(500)] + [FLUSH, INFO, FLUSH]
    await peer.send(*requests)
    answers = [await peer.receive() for _ in requests]
    assert [one.echo.message for one in answers[:500]] == [str(number) for number in range(500)]
    assert [one.WhichOneof("value") for one in answers[500:]] == ["flush", "info", "flush"]


async def test_byte_by_byte_request_is_answered(connect: Connect) -> None:
    peer = await connect()
    for byte in frame(echo("x" * 300).SerializeToString()):
        await peer.stream.send_all(bytes([byte]))
    assert (await peer.receive()).echo.message == "x" * 300


async def test_four_connections_share_one_state(connect: Connect, publisher: FakePublisher) -> None:
    query, _snapshot, mempool, consensus = [await connect() for _ in range(4)]
    tx = publisher.next_tx(START_MS)
    await mempool.send(check(tx), FLUSH)
    assert (await mempool.receive()).check_tx.code == 0
    await consensus.send(block(1, [tx]), FLUSH, COMMIT, FLUSH)
    app_hash = (await consensus.receive()).finalize_block.app_hash
    for _ in range(3):
        await consensus.receive()
    await query.send(INFO, FLUSH)
    assert (await query.receive()).info.last_block_app_hash == app_hash


@pytest.mark.expects_log("closing a connection")
@pytest.mark.parametrize("junk", [b"\xff\xff\xff\xff\xff", frame(b"\xff\xff"), frame(b"\x0a\x05")])
async def test_junk_closes_only_its_connection(connect: Connect, junk: bytes) -> None:
    good, bad = await connect(), await connect()
    await bad.stream.send_all(junk)
    with pytest.raises(trio.EndOfChannel):
        await bad.receive()
    await good.send(echo("still here"))
    assert (await good.receive()).echo.message == "still here"


@pytest.mark.expects_log("request failed; the node will stop")
async def test_failure_is_reported_after_the_answers_before_it(connect: Connect) -> None:
    peer = await connect()
    await peer.send(echo("first"), COMMIT, echo("never"))
    assert (await peer.receive()).echo.message == "first"
    assert "Commit without FinalizeBlock" in (await peer.receive()).exception.error
    with pytest.raises(trio.EndOfChannel):
        await peer.receive()


async def test_peer_that_leaves_in_the_middle_harms_nobody(connect: Connect) -> None:
    leaving = await connect()
    await leaving.stream.send_all(frame(echo("x").SerializeToString())[:2])
    await leaving.stream.aclose()
    staying = await connect()
    await staying.send(FLUSH)
    assert (await staying.receive()).WhichOneof("value") == "flush"


async def test_second_server_on_one_socket_is_refused(address: str) -> None:
    with pytest.raises(InputError):
        await open_listener(address)


async def test_stale_socket_file_is_replaced(tmp_path: Path) -> None:
    address = f"unix://{tmp_path / 'stale.sock'}"
    listener = await open_listener(address)
    await listener.aclose()
    await (await open_listener(address)).aclose()


@pytest.mark.parametrize(
    "address",
    ["tcp://0.0.0.0:1", "http://127.0.0.1", "tcp://example.org:1", "unix:///" + "long/" * 30],
)
async def test_address_that_is_not_local_is_refused(address: str) -> None:
    with pytest.raises(InputError):
        await open_listener(address)


async def test_loopback_tcp_works(publisher: FakePublisher) -> None:
    async with await open_listener("tcp://127.0.0.1:0") as listener:
        assert listener.socket.getsockname()[0] == "127.0.0.1"

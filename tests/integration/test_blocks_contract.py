"""Every block store keeps the same contract: durable, create-only, what was put is what is got.

Data flow: one suite -> directory, S3 (a real server) -> same answers.
"""

import errno
import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from parsec_fs.protocol.errors import InputError, OfflineError, RefusedError
from parsec_fs.protocol.hashing import sha256
from parsec_fs.protocol.ids import BlockId, RealmId
from parsec_fs.remote.blocks import BlockClient
from server.blocks.base import BlockStore, Redirect, Stored, block_name
from server.blocks.directory import DirectoryStore, write_all
from server.blocks.s3 import S3Address, S3Store, is_s3, parse_address
from tests.support.block_batches import put_many
from tests.support.devices import RawDevice, new_org
from tests.support.s3 import running_s3
from tests.support.server import in_process, outside

REALM = RealmId(b"r" * 32)


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Address]:
    with running_s3(tmp_path_factory.mktemp("s3")) as address:
        yield address


@pytest.fixture(params=["directory", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> BlockStore:
    if request.param == "directory":
        return DirectoryStore(tmp_path / "blocks")
    opened = S3Store(request.getfixturevalue("s3"))
    opened.set_up()
    return opened


def new_block() -> BlockId:
    return BlockId(os.urandom(16))


async def contents(store: BlockStore, block: BlockId) -> bytes | None:
    """What a device gets, wherever it is sent."""
    found = await store.get(REALM, block)
    if not isinstance(found, Redirect):
        return found
    async with httpx.AsyncClient(trust_env=False) as client:
        answer = await client.get(found.url)
    return answer.content if answer.status_code == 200 else None


async def put(store: BlockStore, realm: RealmId, block: BlockId, data: bytes) -> bool:
    """One block; False if other bytes are there."""
    stored = (await store.put(realm, {block: data}))[block]
    assert stored is not Stored.FULL
    return stored is Stored.DURABLE


async def test_put_and_get(store: BlockStore) -> None:
    block = new_block()
    assert await contents(store, block) is None
    assert await put(store, REALM, block, b"sealed" * 100_000)
    assert await contents(store, block) == b"sealed" * 100_000


async def test_nothing_is_replaced(store: BlockStore) -> None:
    block = new_block()
    assert await put(store, REALM, block, b"first")
    assert await put(store, REALM, block, b"first")
    assert not await put(store, REALM, block, b"other")
    assert await contents(store, block) == b"first"


async def test_each_of_many_is_stored_or_refused_for_itself(store: BlockStore) -> None:
    taken, same, *new = [new_block() for _ in range(20)]
    await store.put(REALM, {taken: b"first", same: b"same"})
    blocks = {taken: b"other", same: b"same"} | {block: block * 1000 for block in new}
    found = await store.put(REALM, blocks)
    assert found == dict.fromkeys(blocks, Stored.DURABLE) | {taken: Stored.TAKEN}
    assert await contents(store, taken) == b"first"
    for block in new:
        assert await contents(store, block) == block * 1000


async def test_a_full_disk_refuses_what_does_not_fit(tmp_path: Path) -> None:
    def write(descriptor: int, data: bytes) -> None:
        if len(data) > 1000:
            os.write(descriptor, data[:1000])
            raise OSError(errno.ENOSPC, "no room")
        write_all(descriptor, data)

    store = DirectoryStore(tmp_path / "blocks", write=write)
    large, small = new_block(), new_block()
    found = await store.put(REALM, {large: bytes(1001), small: b"small"})
    assert found == {large: Stored.FULL, small: Stored.DURABLE}
    assert await contents(store, large) is None
    assert await contents(store, small) == b"small"
    assert list((tmp_path / "blocks" / "incoming").iterdir()) == []


@pytest.mark.expects_log("cannot be read")
async def test_what_cannot_be_read_again_costs_no_other_block(tmp_path: Path) -> None:
    """It was linked before a crash, never entered, and lies on a bad sector since."""
    store = DirectoryStore(tmp_path / "blocks")
    pieces = replace(outside(tmp_path), blocks=store)
    async with in_process(tmp_path, pieces=pieces) as running, running.http() as http:
        alice = await new_org(http, running.identity.registration)
        realm = await alice.create_realm()
        bad, *new = [BlockId(bytes((number,)) * 16) for number in range(3)]
        (tmp_path / "blocks" / block_name(realm, bad)).mkdir(parents=True)
        blocks = dict.fromkeys([bad, *new], b"sealed")
        for _ in range(2):
            assert await put_many(alice, realm, blocks) == ["UNAVAILABLE", "OK", "OK"]
        client = BlockClient(alice.signer, realm)
        with pytest.raises(OfflineError):
            await client.put(bad, b"sealed", digest=sha256(b"sealed"))
        assert await client.get(new[0]) == b"sealed"


class Unreadable(BaseHTTPRequestHandler):
    """S3 storage that has a block, of zeros for its id, and does not show it."""

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(412 if bytes(16).hex() in self.path else 200)

    def do_GET(self) -> None:
        self._answer(403)

    def _answer(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.mark.expects_log("does not show")
async def test_what_s3_does_not_show_costs_no_other_block() -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Unreadable) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            store = S3Store(
                S3Address(
                    endpoint=f"127.0.0.1:{server.server_port}",
                    bucket="blocks",
                    secure=False,
                    access_key="a",
                    secret_key="s",
                )
            )
            new = [new_block() for _ in range(3)]
            bad = BlockId(bytes(16))
            found = await store.put(REALM, dict.fromkeys([bad, *new], b"sealed"))
        finally:
            server.shutdown()
    assert found == dict.fromkeys(new, Stored.DURABLE) | {bad: Stored.FAILED}


async def test_realms_are_apart(store: BlockStore) -> None:
    block, other = new_block(), RealmId(b"o" * 32)
    assert await put(store, REALM, block, b"first")
    assert await put(store, other, block, b"other")
    assert await contents(store, block) == b"first"


async def test_devices_follow_the_server_to_storage(tmp_path: Path, s3: S3Address) -> None:
    """The presigned URL works for the real client, and only for minutes and for this block."""
    storage = S3Store(s3)
    storage.set_up()
    pieces = replace(outside(tmp_path), blocks=storage)
    async with in_process(tmp_path, pieces=pieces) as running, running.http() as http:
        alice = await new_org(http, running.identity.registration)
        realm = await alice.create_realm()
        async with httpx.AsyncClient(
            mounts={"http://server.test": FromHere(http._transport)},
            base_url="http://server.test",
            trust_env=False,
        ) as both:
            device = RawDevice(both, alice.anchor, alice.secrets)
            blocks = BlockClient(device.signer, realm)
            block = new_block()
            with pytest.raises(RefusedError, match="NOT_FOUND"):
                await blocks.get(block)
            await blocks.put(block, b"sealed", digest=sha256(b"sealed"))
            assert await blocks.get(block) == b"sealed"
            with pytest.raises(RefusedError, match="EXISTS"):
                await blocks.put(block, b"other", digest=sha256(b"other"))


class FromHere(httpx.AsyncBaseTransport):
    """A server of this process, as if it answered over a socket of this machine."""

    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self._inner = inner

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        answer = await self._inner.handle_async_request(request)
        answer.extensions["network_stream"] = self
        return answer

    def get_extra_info(self, name: str) -> object:
        """As a stream of httpcore has it."""
        return {"server_addr": ("127.0.0.1", 80)}.get(name)


def test_leftovers_of_a_crash_are_removed(tmp_path: Path) -> None:
    DirectoryStore(tmp_path)
    (tmp_path / "incoming" / "half").write_bytes(b"half a blo")
    DirectoryStore(tmp_path)
    assert list((tmp_path / "incoming").iterdir()) == []


def test_names_spread_and_stay_inside() -> None:
    assert block_name(REALM, BlockId(bytes(16))) == f"{'72' * 32}/00/{'00' * 16}"


def test_addresses(tmp_path: Path) -> None:
    assert is_s3("s3+https://storage.example/blocks")
    assert not is_s3("/var/lib/blocks")
    keys = tmp_path / "keys.json"
    keys.write_text('{"accessKey": "a", "secretKey": "very secret"}')
    address = parse_address("s3+https://storage.example:9000/blocks", keys)
    assert (address.endpoint, address.bucket, address.secure) == (
        "storage.example:9000",
        "blocks",
        True,
    )
    assert "very secret" not in repr(address)
    for text, file in (("s3+https://x", keys), ("s3+http://x/a/b", keys), ("s3+http://x/b", None)):
        with pytest.raises(InputError):
            parse_address(text, file)
    keys.write_text("[]")
    with pytest.raises(InputError, match="accessKey"):
        parse_address("s3+http://x/b", keys)


def test_unreachable_storage_is_one_line() -> None:
    store = S3Store(
        S3Address(
            endpoint="127.0.0.1:1", bucket="blocks", secure=False, access_key="a", secret_key="s"
        )
    )
    with pytest.raises(InputError, match="not usable"):
        store.set_up()

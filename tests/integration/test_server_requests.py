"""Whatever arrives over HTTP: authentication, limits, malformed input, quotas, errors inside.

Data flow: raw HTTP -> application -> an `Answer` with a documented outcome, and nothing else.
"""

from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from parsec_fs.protocol.codec import decode, encode, encode_trusted
from parsec_fs.protocol.commands import (
    AUTH_HEADER,
    Answer,
    Authorization,
    Nothing,
    OpenSession,
    Outcome,
    PutMail,
    RealmList,
    SessionOpened,
    request_to_sign,
    sign_request,
)
from parsec_fs.protocol.errors import RefusedError, StorageFullError
from parsec_fs.protocol.hashing import read_stamp, sha256
from parsec_fs.protocol.ids import BlockId, DeviceId, RealmId
from parsec_fs.remote.blocks import BlockClient
from server.app import Outside
from server.blocks.base import Redirect, Stored
from server.config import Config, Quotas, Rate
from server.http.endpoint import STATUS
from server.store.database import Database
from tests.support.block_batches import put_many
from tests.support.devices import RawDevice, new_object, new_org
from tests.support.server import InProcess, config_for_tests, in_process, outside

LIST = "/v1/realm/list"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[InProcess]:
    async with in_process(tmp_path) as running:
        yield running


@pytest.fixture
async def http(server: InProcess) -> AsyncIterator[httpx.AsyncClient]:
    async with server.http() as client:
        yield client


@pytest.fixture
async def alice(http: httpx.AsyncClient, server: InProcess) -> RawDevice:
    return await new_org(http, server.identity.registration)


async def open_session(http: httpx.AsyncClient, alice: RawDevice) -> SessionOpened:
    request = encode(OpenSession(org=alice.anchor.org, device=alice.id))
    answer = decode(Answer, (await http.post("/v1/session/open", content=request)).content)
    return decode(SessionOpened, answer.body)


def authorization(
    alice: RawDevice,
    opened: SessionOpened,
    counter: int,
    *,
    path: str = LIST,
    method: str = "POST",
    body: bytes = encode(Nothing()),  # noqa: B008
) -> dict[str, str]:
    request = request_to_sign(
        server_log=alice.anchor.server.server_log,
        org=alice.anchor.org,
        session=opened.session,
        nonce=opened.nonce,
        counter=counter,
        method=method,
        path=path,
        body_hash=sha256(body),
    )
    return {AUTH_HEADER: sign_request(request, alice.key)}


async def ask(
    http: httpx.AsyncClient, headers: dict[str, str], body: bytes | None = None, path: str = LIST
) -> Outcome:
    content = encode(Nothing()) if body is None else body
    response = await http.post(path, content=content, headers=headers)
    outcome = Outcome(decode(Answer, response.content).outcome)
    assert response.status_code == STATUS[outcome]
    return outcome


async def test_each_counter_is_used_once(http: httpx.AsyncClient, alice: RawDevice) -> None:
    """Replayed requests are refused; overtaking ones are not."""
    opened = await open_session(http, alice)
    for counter in (5, 7, 6, 2000):
        assert await ask(http, authorization(alice, opened, counter)) is Outcome.OK
    for counter in (5, 6, 7, 2000, 900):
        used = await ask(http, authorization(alice, opened, counter))
        assert used is Outcome.NOT_AUTHENTICATED


async def test_signature_covers_everything(http: httpx.AsyncClient, alice: RawDevice) -> None:
    opened = await open_session(http, alice)
    wrong = [
        authorization(alice, opened, 1, path="/v1/realm/create"),
        authorization(alice, opened, 1, method="PUT"),
        authorization(alice, opened, 1, body=b"\x91\x00"),
        authorization(alice, replace(opened, nonce=bytes(32)), 1),
        authorization(alice, replace(opened, session=bytes(16)), 1),
        {AUTH_HEADER: "zz"},
        {
            AUTH_HEADER: encode(
                Authorization(session=bytes(16), counter=1, signature=bytes(64))
            ).hex()
        },
        {},
    ]
    for headers in wrong:
        assert await ask(http, headers) is Outcome.NOT_AUTHENTICATED
    assert await ask(http, authorization(alice, opened, 1)) is Outcome.OK


async def test_unknown_devices_get_sessions_that_lead_nowhere(
    http: httpx.AsyncClient, alice: RawDevice
) -> None:
    request = encode(OpenSession(org=alice.anchor.org, device=DeviceId(bytes(16))))
    answer = decode(Answer, (await http.post("/v1/session/open", content=request)).content)
    assert answer.outcome == Outcome.OK
    opened = decode(SessionOpened, answer.body)
    assert await ask(http, authorization(alice, opened, 1)) is Outcome.NOT_AUTHENTICATED


async def test_malformed_and_oversized_bodies(http: httpx.AsyncClient, alice: RawDevice) -> None:
    opened = await open_session(http, alice)
    for counter, body in enumerate((b"", b"\xc0", b"\x91\x00", b"\x90\x90")):
        headers = authorization(alice, opened, counter, body=body)
        assert await ask(http, headers, body) is Outcome.BAD_REQUEST
    assert await ask(http, {}, bytes(2**17)) is Outcome.TOO_LARGE


async def test_unknown_commands(http: httpx.AsyncClient) -> None:
    assert await ask(http, {}, path="/v1/realm/destroy") is Outcome.NOT_FOUND
    response = await http.get(LIST)
    assert decode(Answer, response.content).outcome == Outcome.NOT_FOUND
    response = await http.get("/v1/blocks/xx/yy")
    assert decode(Answer, response.content).outcome == Outcome.NOT_AUTHENTICATED


async def test_sessions_expire(tmp_path: Path) -> None:
    now = 0.0
    pieces = replace(outside(tmp_path), monotonic=lambda: now)
    async with in_process(tmp_path, pieces=pieces) as running, running.http() as http:
        alice = await new_org(http, running.identity.registration)
        opened = await open_session(http, alice)
        now = 599.0
        assert await ask(http, authorization(alice, opened, 1)) is Outcome.OK
        now = 601.0
        assert await ask(http, authorization(alice, opened, 2)) is Outcome.NOT_AUTHENTICATED


def small(**quotas: object) -> Config:
    return config_for_tests(quotas=replace(Quotas(), **quotas))  # type: ignore[arg-type]


async def test_requests_and_stamps_are_bounded(tmp_path: Path) -> None:
    config = small(
        requests=Rate(per_second=0, burst=12),
        stamps=Rate(per_second=0, burst=1),
        unsigned=Rate(per_second=0, burst=3),
    )
    async with in_process(tmp_path, config=config) as running, running.http() as http:
        alice = await new_org(http, running.identity.registration)
        realm = await alice.create_realm()
        await alice.server.observe(realm, read_stamp(b"1"))
        with pytest.raises(RefusedError, match="QUOTA"):
            await alice.server.observe(realm, read_stamp(b"2"))
        with pytest.raises(RefusedError, match="QUOTA"):
            for _ in range(12):
                await alice.pull_org()
        put = PutMail(address=bytes(32), slot=0, data=b"x")
        await alice.public.put_mail(put)
        with pytest.raises(RefusedError, match="QUOTA"):
            await alice.public.put_mail(put)


async def test_realms_have_a_size(tmp_path: Path) -> None:
    config = small(realm_bytes=100)
    async with in_process(tmp_path, config=config) as running, running.http() as http:
        alice = await new_org(http, running.identity.registration)
        realm = await alice.create_realm()
        big = alice.sign(
            realm, alice.record(realm, new_object(), payload=bytes(101)), payloads=(bytes(101),)
        )
        with pytest.raises(StorageFullError, match="no room") as refused:
            await alice.send(realm, big)
        assert refused.value.outcome == "QUOTA"
        path = f"/v1/blocks/{realm.hex()}/{bytes(16).hex()}"
        answer = await alice.signer.send("PUT", path, bytes(101))
        assert answer.status == 507
        assert (await alice.signer.send("PUT", path, bytes(60))).status == 200
        other = f"/v1/blocks/{realm.hex()}/{(b'1' * 16).hex()}"
        assert (await alice.signer.send("PUT", other, bytes(60))).status == 507
        blocks = [BlockId(bytes((number,)) * 16) for number in range(2, 6)]
        sizes = (20, 21, 20, 1)
        found = await put_many(alice, realm, dict(zip(blocks, map(bytes, sizes), strict=True)))
        assert found == ["OK", "QUOTA", "OK", "QUOTA"], "those that do not fit, and no other"
        assert await BlockClient(alice.signer, realm).get(blocks[2]) == bytes(20)


async def test_organizations_and_mail_are_bounded(tmp_path: Path) -> None:
    config = small(orgs=1, mails=1)
    async with in_process(tmp_path, config=config) as running, running.http() as http:
        alice = await new_org(http, running.identity.registration)
        with pytest.raises(RefusedError, match="QUOTA"):
            await new_org(http, running.identity.registration)
        await alice.public.put_mail(PutMail(address=bytes(32), slot=0, data=b"x"))
        with pytest.raises(RefusedError, match="QUOTA"):
            await alice.public.put_mail(PutMail(address=bytes(32), slot=1, data=b"x"))


class BrokenBlocks:
    """A store whose disk is gone, or which sends devices elsewhere."""

    def __init__(self) -> None:
        self.broken = True

    async def put(self, realm: RealmId, blocks: Mapping[BlockId, bytes]) -> dict[BlockId, Stored]:
        if self.broken:
            raise OSError("disk is gone: /secret/path")
        return dict.fromkeys(blocks, Stored.DURABLE)

    async def get(self, realm: bytes, block: bytes) -> Redirect:
        return Redirect(url="https://storage.example/presigned")


@pytest.mark.expects_log("PUT .* failed")
async def test_failures_inside_show_nothing(tmp_path: Path) -> None:
    blocks = BrokenBlocks()
    pieces = Outside(
        database=Database(f"sqlite:///{tmp_path / 'server.sqlite'}"), blocks=blocks, nodes=()
    )
    async with in_process(tmp_path, pieces=pieces) as running, running.http() as http:
        alice = await new_org(http, running.identity.registration)
        realm = await alice.create_realm()
        path = f"/v1/blocks/{realm.hex()}/{bytes(16).hex()}"
        answer = await alice.signer.send("PUT", path, b"x")
        assert (answer.status, decode(Answer, answer.body).outcome) == (503, Outcome.UNAVAILABLE)
        assert b"secret" not in answer.body
        # Nobody is sent to storage for what was never stored: it may answer anything.
        nothing = await alice.signer.send("GET", path)
        assert (nothing.status, decode(Answer, nothing.body).outcome) == (404, Outcome.NOT_FOUND)
        blocks.broken = False
        assert (await alice.signer.send("PUT", path, b"x")).status == 200
        redirect = await alice.signer.send("GET", path)
        assert redirect.status == 307
        assert redirect.headers["location"] == "https://storage.example/presigned"


async def test_answers_are_canonical(http: httpx.AsyncClient, alice: RawDevice) -> None:
    answer = await alice.signer.send("POST", LIST, encode(Nothing()))
    decoded = decode(Answer, answer.body)
    assert encode(decoded) == answer.body
    assert encode_trusted(decode(RealmList, decoded.body)) == decoded.body

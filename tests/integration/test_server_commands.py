"""Every command of the server over HTTP, as devices use it.

Data flow: RawDevice -> ASGI -> real server over SQLite -> replayed and compared with signed heads.
"""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from parsec_fs.protocol.certificates import CONTRIBUTOR, NO_ROLE, READER
from parsec_fs.protocol.commands import Outcome, PutMail, ReadMail
from parsec_fs.protocol.commits import Precondition
from parsec_fs.protocol.errors import RefusedError
from parsec_fs.protocol.hashing import payload_hash, read_stamp, sha256
from parsec_fs.protocol.ids import NO_HASH, BlockId, Hash, LogId, RealmId
from parsec_fs.remote.blocks import BlockClient
from tests.support.devices import PAYLOAD, RawDevice, founding, new_object, new_org
from tests.support.server import InProcess, in_process


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


async def test_info_names_the_server(alice: RawDevice, server: InProcess) -> None:
    info = await alice.public.info()
    assert info.registration == server.identity.registration


async def test_commit_is_logged_and_replayed(alice: RawDevice) -> None:
    realm = await alice.create_realm()
    objects = [new_object() for _ in range(3)]
    report = await alice.write(realm, *objects)
    assert report.fates[0].index == 2
    assert set(alice.realms[realm].objects) == set(objects)
    (found,) = await alice.server.read_payloads(realm, (payload_hash(PAYLOAD),))
    assert found == PAYLOAD

"""The same server over PostgreSQL, and several servers over one database.

Data flow: devices -> two server processes' worth of state -> one PostgreSQL -> replayed logs agree.
"""

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
import trio
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import make_url

from parsec_fs.protocol.certificates import CONTRIBUTOR
from parsec_fs.protocol.commands import CreateOrg
from parsec_fs.protocol.errors import RefusedError
from parsec_fs.protocol.ids import LogId, RealmId
from parsec_fs.remote.server_client import PublicClient
from parsec_fs.remote.transport import Transport
from server.app import Outside, wall_ms
from server.blocks.directory import DirectoryStore
from server.log.verify import verify_database
from server.store import epochs
from server.store.database import Database
from server.store.schema import metadata
from tests.support.chain_double import ChainDouble
from tests.support.devices import RawDevice, founding, new_object, new_org
from tests.support.permits import token_for
from tests.support.postgresql import running_postgresql
from tests.support.server import BASE_URL, InProcess, in_process, server_identity
from tests.support.servers import CHAIN_ID
from tests.support.waiting import eventually

IDENTITY = server_identity(epoch_ms=100)


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    with running_postgresql() as url:
        yield url


@pytest.fixture
def url(cluster: str) -> str:
    """A fresh database in the cluster."""
    name = f"test{os.urandom(8).hex()}"
    parsed = make_url(cluster)
    host = str(parsed.query["host"])
    with psycopg.connect(
        host=host, user=parsed.username, dbname="postgres", autocommit=True
    ) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    return parsed.set(database=name).render_as_string()


@asynccontextmanager
async def serving(url: str, folder: Path, *nodes: ChainDouble) -> AsyncIterator[InProcess]:
    pieces = Outside(database=Database(url), blocks=DirectoryStore(folder / "blocks"), nodes=nodes)
    async with in_process(folder, identity=IDENTITY, pieces=pieces) as running:
        yield running


async def test_history_survives_a_restart(url: str, tmp_path: Path) -> None:
    async with serving(url, tmp_path) as running, running.http() as http:
        alice = await new_org(http, IDENTITY.registration)
        realm = await alice.create_realm()
        target = new_object()
        await alice.write(realm, target, new_object())
        await alice.write(realm, target)
        stale = alice.sign(realm, alice.record(realm, new_object()), key_index=9)
        refused = (await alice.send(realm, stale)).fates[0]
        head = await alice.pull(realm)
    async with serving(url, tmp_path) as running, running.http() as http:
        again = RawDevice(http, alice.anchor, alice.secrets)
        assert (await again.pull(realm)).log_root == head.log_root
        assert (await again.send(realm, stale)).fates[0].raw == refused.raw
    database = Database(url)
    with database.reading() as transaction:
        assert verify_database(transaction, IDENTITY, CHAIN_ID).leaves == 4 + 4
    database.close()


async def test_one_token_founds_once_at_two_servers(url: str, tmp_path: Path) -> None:
    """The second transaction waits for the token's row and finds it spent."""
    outcomes: list[str] = []

    async def found(server: InProcess, request: CreateOrg) -> None:
        async with server.http() as http:
            try:
                await PublicClient(Transport(http, BASE_URL)).create_org(request)
                outcomes.append("OK")
            except RefusedError as error:
                outcomes.append(error.outcome)

    async with serving(url, tmp_path) as one, serving(url, tmp_path) as two:
        token = token_for(IDENTITY.registration)
        async with trio.open_nursery() as nursery:
            for server in (one, two) * 3:
                request, _, _ = founding(IDENTITY.registration)
                nursery.start_soon(found, server, replace(request, token=token))
    assert sorted(outcomes) == [*["NOT_ALLOWED"] * 5, "OK"]


async def test_migrations_make_the_schema(url: str, tmp_path: Path) -> None:
    async with serving(url, tmp_path) as running:
        database = running.server.services.database
        with database.reading() as transaction:
            assert compare_metadata(MigrationContext.configure(transaction), metadata) == []


async def keep_writing(device: RawDevice, realm: RealmId, count: int) -> None:
    for _ in range(count):
        report = await device.write(realm, new_object())
        assert report.fates[0].index is not None


async def test_two_servers_share_a_database(url: str, tmp_path: Path) -> None:
    """Both append to one log; neither forks it, one of them publishes, all promises are kept."""
    chain = ChainDouble(IDENTITY.registration, wall_ms=wall_ms)
    async with AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(serving(url, tmp_path, chain)) for _ in range(2)]
        https = [await stack.enter_async_context(one.http()) for one in servers]
        for one in servers:
            await eventually(lambda one=one: is_open(one))  # type: ignore[misc]
        alice = await new_org(https[0], IDENTITY.registration)
        bob = await alice.add_user(https[1])
        realm = await alice.create_realm()
        await alice.give(realm, bob.secrets.user, CONTRIBUTOR)
        await bob.pull(realm)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(keep_writing, alice, realm, 15)
            nursery.start_soon(keep_writing, bob, realm, 15)
        heads = [await alice.pull(realm), await bob.pull(realm)]
        assert heads[0].log_root == heads[1].log_root
        assert heads[0].size == 2 + 1 + 30
        await alice.pull_org()
        await (await alice.add_user(https[0])).pull_org()
        database = servers[0].server.services.database
        await eventually(lambda: published(database, heads[1].due_epoch))
        found = await alice.server.read_epochs(0, 1000, (LogId(realm),))
        state = found.epochs[heads[1].due_epoch].logs[0].state[0]
        assert state.size == heads[1].size
    assert len(set(chain.sent)) == len(chain.statements())
    database = Database(url)
    with database.reading() as transaction:
        verify_database(transaction, IDENTITY, CHAIN_ID)
    database.close()


async def is_open(running: InProcess) -> bool:
    return running.server.services.is_open()


async def published(database: Database, epoch: int) -> bool:
    return await database.read(epochs.count_final) > epoch

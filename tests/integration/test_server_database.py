"""The database: schema, edits that are noticed, what `show` tells.

Data flow: a server's work -> SQLite -> verification, restoration, migrations.
"""

import json
import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text

from parsec_fs.protocol.errors import InputError, VerificationError
from parsec_fs.protocol.hashing import read_stamp
from parsec_fs.protocol.ids import LogId, ServerLogId
from server.app import wall_ms
from server.log.books import newest_org, newest_realm
from server.log.verify import VerifiedDatabase, verify_database
from server.store import epochs
from server.store.database import Database
from server.store.schema import metadata
from server.store.server_row import open_server
from tests.support.chain_double import ChainDouble
from tests.support.devices import RawDevice, new_object, new_org
from tests.support.server import InProcess, in_process, make_home, server_identity
from tests.support.servers import CHAIN_ID
from tests.support.waiting import eventually

IDENTITY = server_identity(epoch_ms=100)


async def work(folder: Path) -> RawDevice:
    """Two realms, two users, every kind of leaf, all of it in final epochs."""
    chain = ChainDouble(IDENTITY.registration, wall_ms=wall_ms)
    async with in_process(folder, identity=IDENTITY, nodes=[chain]) as running:
        await eventually(lambda: is_open(running))
        async with running.http() as http:
            alice = await new_org(http, IDENTITY.registration)
            await alice.add_user(http)
            for _ in range(2):
                realm = await alice.create_realm()
                target = new_object()
                await alice.write(realm, target, new_object())
                await alice.write(realm, target)
                await alice.server.observe(realm, read_stamp(b"x"))
                body, boxes = alice.rotation(realm)
                await alice.server.append_certificate(LogId(realm), body, boxes)
                head = await alice.pull(realm)
                await eventually(lambda due=head.due_epoch: published(running, due))  # type: ignore[misc]
    return alice


async def is_open(running: InProcess) -> bool:
    return running.server.services.is_open()


async def published(running: InProcess, epoch: int) -> bool:
    return await running.server.services.database.read(epochs.count_final) > epoch


@pytest.fixture(scope="module")
def worked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RawDevice]:
    folder = tmp_path_factory.mktemp("worked")
    return folder, trio.run(work, folder)


@pytest.fixture
async def opened(worked: tuple[Path, RawDevice], tmp_path: Path) -> AsyncIterator[Database]:
    """A copy of the database, for a test to damage."""
    shutil.copytree(worked[0], tmp_path / "copy")
    database = Database(f"sqlite:///{tmp_path / 'copy/server.sqlite'}")
    yield database
    database.close()


def verify(database: Database) -> VerifiedDatabase:
    with database.reading() as transaction:
        return verify_database(transaction, IDENTITY, CHAIN_ID)


async def test_roles_from_before_auditors_are_not_read_with_todays_numbers(
    opened: Database,
) -> None:
    with opened.writing() as transaction:
        transaction.execute(text("UPDATE alembic_version SET version_num = '0003'"))
    with pytest.raises(InputError, match="other numbers"):
        opened.migrate()
    with opened.reading() as transaction:
        version = transaction.execute(text("SELECT version_num FROM alembic_version")).scalar_one()
    assert version == "0003"


async def test_everything_follows_from_the_leaves(opened: Database) -> None:
    found = verify(opened)
    assert (found.logs, found.leaves) == (3, 5 + 2 + 2 * 6)
    assert found.epochs >= 2


EDITS = [
    "UPDATE leaves SET time_ms = time_ms + 1 WHERE kind = 2",
    "UPDATE leaves SET body_hash = zeroblob(32) WHERE kind = 3",
    "DELETE FROM leaves WHERE kind = 3",
    "UPDATE logs SET map_root = zeroblob(32) WHERE org = log",
    "UPDATE logs SET time_ms = time_ms + 1",
    "DELETE FROM objects WHERE version = 1",
    "UPDATE objects SET operations = operations + 1",
    "UPDATE objects SET commit_hash = zeroblob(32)",
    "UPDATE objects SET record = (SELECT record FROM former_objects LIMIT 1)",
    "DELETE FROM former_objects",
    "UPDATE former_objects SET until_leaf = until_leaf + 1",
    "UPDATE former_objects SET history = zeroblob(32)",
    "INSERT INTO former_objects SELECT *, 9 FROM objects LIMIT 1",
    "UPDATE chains SET sequence = sequence + 1",
    "UPDATE cuts SET size = size + 1000",
    "UPDATE cuts SET log_root = zeroblob(32) WHERE epoch = (SELECT max(epoch) FROM cuts)",
    "DELETE FROM cuts WHERE epoch = (SELECT max(epoch) FROM cuts)",
    "UPDATE epochs SET salt = zeroblob(32) WHERE epoch = 1",
    "UPDATE epochs SET statement = (SELECT statement FROM epochs WHERE epoch = 0) WHERE epoch = 1",
]


@pytest.mark.parametrize("edit", EDITS)
async def test_edits_are_noticed(opened: Database, edit: str) -> None:
    with opened.writing() as transaction:
        assert transaction.execute(text(edit)).rowcount
    with pytest.raises(VerificationError):
        verify(opened)


async def test_damaged_summaries_are_never_signed(
    opened: Database, worked: tuple[Path, RawDevice]
) -> None:
    """A state is loaded only if it leads to the stored roots."""
    alice = worked[1]
    realm = next(iter(alice.realms))
    with opened.writing() as transaction:
        transaction.execute(text("UPDATE objects SET operations = operations + 1"))
        transaction.execute(text("UPDATE logs SET map_root = zeroblob(32) WHERE org = log"))
    with opened.reading() as transaction:
        with pytest.raises(VerificationError, match="damaged"):
            newest_realm(transaction, realm, None, context=alice.anchor.context())
        with pytest.raises(VerificationError, match="damaged"):
            newest_org(transaction, alice.anchor.org, None)


async def test_migrations_make_the_schema(opened: Database) -> None:
    with opened.reading() as transaction:
        found = compare_metadata(MigrationContext.configure(transaction), metadata)
    assert found == []


async def test_databases_are_not_mixed_up(opened: Database) -> None:
    with opened.writing() as transaction:
        assert open_server(transaction, IDENTITY.server_log, CHAIN_ID) > 0
        with pytest.raises(InputError, match="another server"):
            open_server(transaction, ServerLogId(bytes(32)), CHAIN_ID)
        with pytest.raises(InputError, match="another chain"):
            open_server(transaction, IDENTITY.server_log, b"other")


def test_unusable_urls_are_refused(tmp_path: Path) -> None:
    for url in ("nonsense", "oracle://x", "mysql://x"):
        with pytest.raises(InputError, match="database URL"):
            Database(url)
    with pytest.raises(InputError, match="cannot be opened"):
        Database(f"sqlite:///{tmp_path}/no/such/folder.sqlite").migrate()


async def test_show_prints_what_there_is(tmp_path: Path) -> None:
    identity = make_home(tmp_path / "home", epoch_ms=100)
    chain = ChainDouble(identity.registration, wall_ms=wall_ms)
    async with in_process(tmp_path / "home", identity=identity, nodes=[chain]) as running:
        await eventually(lambda: is_open(running))
        async with running.http() as http:
            await new_org(http, identity.registration)
        await eventually(lambda: published(running, 0))
    program = str(Path(sys.executable).parent / "parsec-server")
    command = [program, "show", "--home", str(tmp_path / "home"), "--verify"]
    with trio.fail_after(60):
        done = await trio.run_process(command, capture_stdout=True)
    shown = json.loads(done.stdout)
    assert [log["kind"] for log in shown["logs"]] == ["org"]
    assert shown["verified"]["leaves"] == 3
    assert shown["final_epochs"] >= 1

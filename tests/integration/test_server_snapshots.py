"""Snapshots over HTTP: the map at any size, in pages of any length, for members only (rule 34).

Data flow: devices -> server process with SQLite, or server over PostgreSQL -> snapshot == replay.
"""

import os
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import AsyncExitStack, closing
from dataclasses import replace
from pathlib import Path

import httpx
import psycopg
import pytest
from sqlalchemy import make_url

from parsec_fs.protocol.certificates import CONTRIBUTOR, NO_ROLE, READER, Role
from parsec_fs.protocol.codec import encode
from parsec_fs.protocol.commands import Outcome
from parsec_fs.protocol.errors import RefusedError
from parsec_fs.protocol.hashing import map_key, map_value, object_record_hash
from parsec_fs.protocol.ids import DeviceId, Hash, LogId, ObjectId, RealmId
from parsec_fs.protocol.realm_state import object_entry, verify_leaf
from server.app import Outside
from server.blocks.directory import DirectoryStore
from server.log.verify import verify_database
from server.store.database import Database
from tests.support.devices import RawDevice, new_object, new_org
from tests.support.postgresql import running_postgresql
from tests.support.server import in_process, make_home, server_identity, socket_server
from tests.support.servers import CHAIN_ID
from tests.support.snapshot_reader import items_at, replay, take

IDENTITY = server_identity(epoch_ms=100)


@pytest.fixture(params=["sqlite", "postgresql"])
async def alice(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[RawDevice]:
    """A device of a server process on a real socket, or of a server over PostgreSQL."""
    async with AsyncExitStack() as stack:
        if request.param == "sqlite":
            identity, database = make_home(tmp_path), f"sqlite:///{tmp_path / 'server.sqlite'}"
            process = await stack.enter_async_context(socket_server(tmp_path))
            client = httpx.AsyncClient(base_url=process.url, trust_env=False, timeout=60)
            http = await stack.enter_async_context(client)
        else:
            identity, database = IDENTITY, request.getfixturevalue("postgresql_url")
            pieces = Outside(
                database=Database(database), blocks=DirectoryStore(tmp_path / "blocks"), nodes=[]
            )
            running = await stack.enter_async_context(
                in_process(tmp_path, identity=IDENTITY, pieces=pieces)
            )
            http = await stack.enter_async_context(running.http())
        yield await new_org(http, identity.registration)
        with closing(Database(database)) as opened, opened.reading() as transaction:
            verify_database(transaction, identity, CHAIN_ID)


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    with running_postgresql() as url:
        yield url


@pytest.fixture
def postgresql_url(cluster: str) -> str:
    """A fresh database in the cluster."""
    name = f"test{os.urandom(8).hex()}"
    parsed = make_url(cluster)
    with psycopg.connect(
        host=str(parsed.query["host"]), user=parsed.username, dbname="postgres", autocommit=True
    ) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    return parsed.set(database=name).render_as_string()


async def live(alice: RawDevice, bob: RawDevice) -> tuple[RealmId, list[ObjectId]]:
    """A realm with new, changed and deleted objects, some of them twice in one request, roles given
    and taken, keys rotated."""
    realm = await alice.create_realm()
    await alice.give(realm, bob.secrets.user, CONTRIBUTOR)
    objects = [new_object() for _ in range(23)]
    await alice.write(realm, *objects[:15])
    await bob.pull(realm)
    await bob.write(realm, *objects[5:20])
    await alice.pull(realm)
    await twice(alice, realm, objects[0])
    await alice.give(realm, bob.secrets.user, READER)
    body, boxes = alice.rotation(realm)
    await alice.server.append_certificate(LogId(realm), body, boxes)
    await alice.pull(realm)
    gone = [alice.record(realm, one, delete=True) for one in objects[3:7]]
    await alice.send(realm, alice.sign(realm, *gone, payloads=()))
    await alice.pull(realm)
    await alice.write(realm, *objects[20:])
    return realm, objects


async def twice(device: RawDevice, realm: RealmId, target: ObjectId) -> None:
    """Three versions of an object in one request."""
    record, commits = device.record(realm, target), []
    for count in range(3):
        commits.append(device.sign(realm, record))
        write = object_record_hash(commits[count].hash, encode(record))
        record = replace(record, version=record.version + 1, base=write)
    report = await device.send(realm, *commits)
    assert all(one.refusal is None for one in report.fates)
    await device.pull(realm)


async def refused(outcome: Outcome, call: Awaitable[object]) -> None:
    """The call is answered with this outcome."""
    with pytest.raises(RefusedError) as error:
        await call
    assert error.value.outcome == outcome.name


async def test_the_map_at_every_size_equals_the_replay(alice: RawDevice) -> None:
    bob = await alice.add_user(alice.http)
    realm, _ = await live(alice, bob)
    _, objects = await replay(alice, realm)
    for size, expected in enumerate(objects):
        found = await items_at(alice, realm, size, most=4 + size % 5)
        assert {one: item.state for one, item in found.items()} == expected
        assert list(found) == sorted(expected)
    assert len(objects) > 12


async def test_snapshot_of_an_old_size_goes_on_to_the_newest(alice: RawDevice) -> None:
    """Bob's newest record vouches for a size; the realm lives on; whoever asks for bob's word gets
    that size, and reaches the newest state by replaying the rest."""
    bob = await alice.add_user(alice.http)
    realm, objects = await live(alice, bob)
    await alice.give(realm, bob.secrets.user, CONTRIBUTOR)
    await bob.pull(realm)
    size = bob.realms[realm].state.position.size
    await bob.write(realm, objects[0], objects[22])
    await alice.pull(realm)
    for _ in range(3):
        await alice.write(realm, *objects[10:23], new_object())
    gone = [alice.record(realm, one, delete=True) for one in objects[12:20]]
    await alice.send(realm, alice.sign(realm, *gone, payloads=()))
    states, all_objects = await replay(alice, realm)
    state, items = await take(alice, realm, [bob.id], most=4)
    assert (state.base, state.position) == (size, states[size].position)
    assert (state.roles, state.key) == (states[size].roles, states[size].key)
    assert (state.rotations, state.map.root()) == (states[size].rotations, states[size].map.root())
    now = {one.object: one.state for one in items}
    assert now == all_objects[size]
    found = await alice.server.read_leaves(LogId(realm), size, 1000)
    for leaf in found.leaves:
        step = verify_leaf(state, leaf, org=alice.org_state(), objects=now.get)
        state, now = step.state, now | {record.object: new for record, new in step.objects}
    assert (state.position, state.map.root()) == (states[-1].position, states[-1].map.root())
    assert now == all_objects[-1]


async def test_the_newest_of_several_vouchers_counts(alice: RawDevice) -> None:
    bob = await alice.add_user(alice.http)
    realm, objects = await live(alice, bob)
    newest = alice.realms[realm].state.position.size
    await alice.write(realm, objects[0])
    (old, _), (new, _) = [await take(alice, realm, ids, most=100) for ids in ([bob.id], [alice.id])]
    assert (old.base < new.base, new.base) == (True, newest)
    both, _ = await take(alice, realm, sorted((alice.id, bob.id)), most=100)
    assert both.base == newest


async def test_who_has_not_written_vouches_for_nothing(alice: RawDevice) -> None:
    bob = await alice.add_user(alice.http)
    realm = await alice.create_realm()
    await refused(Outcome.NOT_FOUND, alice.server.read_snapshot(realm, (bob.id,)))
    await refused(Outcome.NOT_FOUND, alice.server.read_snapshot(realm, (DeviceId(bytes(16)),)))


async def test_a_false_voucher_is_passed_over(alice: RawDevice) -> None:
    """A device that signs roots which the log never had keeps nobody from the others' word."""
    bob = await alice.add_user(alice.http)
    realm, objects = await live(alice, bob)
    await alice.give(realm, bob.secrets.user, CONTRIBUTOR)
    await bob.pull(realm)
    known = bob.realms[realm]
    record, true = bob.record(realm, objects[0]), known.state
    known.state = replace(true, map=true.map.set(Hash(bytes(32)), Hash(bytes(32))))
    lie = bob.sign(realm, record)
    known.state = true
    assert (await bob.send(realm, lie)).fates[0].refusal is None
    await refused(Outcome.NOT_FOUND, alice.server.read_snapshot(realm, (bob.id,)))
    state, _ = await take(alice, realm, sorted((alice.id, bob.id)), most=100)
    assert 0 < state.base < true.position.size


async def test_strangers_and_former_members_get_nothing(alice: RawDevice) -> None:
    """A54: the same answer as for a realm that does not exist."""
    bob = await alice.add_user(alice.http)
    realm, _ = await live(alice, bob)
    stranger = await alice.add_user(alice.http)
    await alice.give(realm, bob.secrets.user, NO_ROLE)
    for device in (stranger, bob):
        for asked in (realm, RealmId(bytes(32))):
            server = device.server
            await refused(Outcome.NOT_ALLOWED, server.read_snapshot(asked, (alice.id,)))
            await refused(Outcome.NOT_ALLOWED, server.read_snapshot_page(asked, 1, (), 10))


async def test_any_key_of_the_map_is_proven_present_or_absent(alice: RawDevice) -> None:
    bob = await alice.add_user(alice.http)
    realm, objects = await live(alice, bob)
    known = alice.realms[realm]
    for one in objects:
        key, value = object_entry(one, known.objects[one])
        assert (await alice.server.read_opening(LogId(realm), key)).value == value
    role = await alice.server.read_opening(LogId(realm), map_key(b"role", bob.secrets.user))
    assert role.value == map_value(encode(Role(user=bob.secrets.user, role=READER)))
    absent, _ = object_entry(new_object(), known.objects[objects[0]])
    assert (await bob.server.read_opening(LogId(realm), absent)).value is None
    org = LogId(alice.anchor.org)
    await alice.pull_org()
    registered = await bob.server.read_opening(org, map_key(b"realm", realm))
    assert registered.value == alice.org_state().map.get(map_key(b"realm", realm)) is not None
    proven = await bob.server.read_proof(org, 0, alice.org_state().position.size)
    assert proven.root == alice.org_state().position.root()


async def test_strangers_get_no_proofs_and_members_none_beyond_the_log(alice: RawDevice) -> None:
    realm = await alice.create_realm()
    stranger = await alice.add_user(alice.http)
    for log in (LogId(realm), LogId(bytes(32))):
        await refused(Outcome.NOT_ALLOWED, stranger.server.read_proof(log, 0, 1))
        await refused(Outcome.NOT_ALLOWED, stranger.server.read_opening(log, Hash(bytes(32))))
    for index, size in ((0, 3), (1, 1), (2, 2), (0, 0), (0, 2**64 - 1), (2**64 - 1, 2**64 - 1)):
        await refused(Outcome.INVALID, alice.server.read_proof(LogId(realm), index, size))


async def test_sizes_beyond_the_log_are_refused(alice: RawDevice) -> None:
    realm = await alice.create_realm()
    for size in (alice.realms[realm].state.position.size + 1, 2**64 - 1):
        await refused(Outcome.INVALID, alice.server.read_snapshot_page(realm, size, (), 10))
    page = await alice.server.read_snapshot_page(realm, 2, (), 2**32 - 1)
    assert (page.items, page.more) == ((), 0)


async def prove_everything(alice: RawDevice, realm: RealmId) -> None:
    """Leaves at both ends of subtrees, in prefixes of all shapes, up to the newest head."""
    states, _ = await replay(alice, realm)
    leaves = (await alice.server.read_leaves(LogId(realm), 0, 1000)).leaves
    newest = len(leaves)
    for size in (1, 2, 255, 256, 257, 511, 512, newest - 1, newest):
        for index in {0, 255, 256, 511, size - 1}:
            if index < size:
                found = await alice.server.read_proof(LogId(realm), index, size)
                assert found.leaf == leaves[index].header
                assert found.root == states[size].position.root()
                assert found.head.head.log_root == states[newest].position.root()


async def test_frontiers_of_long_logs_come_from_stored_subtrees(alice: RawDevice) -> None:
    """Beyond 512 leaves subtrees of two heights are stored."""
    realm = await alice.create_realm()
    target = new_object()
    record, commits = alice.record(realm, target), []
    for _ in range(530):
        commits.append(alice.sign(realm, record))
        write = object_record_hash(commits[-1].hash, encode(record))
        record = replace(record, version=record.version + 1, base=write)
    for at in range(0, len(commits), 100):
        await alice.send(realm, *commits[at : at + 100])
    await alice.pull(realm)
    await alice.write(realm, new_object())
    state, items = await take(alice, realm, [alice.id], most=10)
    assert state.base == 532
    assert [one.state.version for one in items] == [530]
    await prove_everything(alice, realm)
    for size in (2, 3, 256, 257, 300, 513, 532):
        found = await items_at(alice, realm, size, most=10)
        assert [one.state.version for one in found.values()] == ([size - 2] if size > 2 else [])

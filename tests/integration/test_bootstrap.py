"""A device joins a realm with a long log: usable after a snapshot, verified after the replay.

Data flow: one device writes -> a second one opens the realm -> tree, state, history, restarts.
"""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from parsec_fs.protocol.certificates import OWNER, Role
from parsec_fs.protocol.codec import encode
from parsec_fs.protocol.errors import ForkError, OfflineError, VerificationError
from parsec_fs.protocol.hashing import object_record_hash
from parsec_fs.protocol.ids import Hash, RealmId, UserId
from parsec_fs.remote.server_client import ServerClient
from parsec_fs.storage.realm_tables import StoredObject
from parsec_fs.workspace.audit_view import Unaudited
from tests.support.honest_snapshots import Told
from tests.support.laptops import Laptop, found, in_step, laptop, second_device
from tests.support.lying_snapshots import Lie, LyingClient
from tests.support.server import in_process

ROUNDS = 40
FILES = ("a", "d/b", "d/c")


@asynccontextmanager
async def joining(
    tmp_path: Path, lie: Lie | None = None
) -> AsyncIterator[tuple[Laptop, Laptop, RealmId]]:
    """A realm with many more leaves than objects, and a device that has not opened it yet."""
    async with in_process(tmp_path / "server") as server:
        alice = await found(server)
        async with laptop(server, alice, tmp_path / "one", "one") as one:
            realm = await one.create_realm()
            await one.open(realm)
            await fill(one)
            other = await second_device(one)
            async with laptop(server, other, tmp_path / "two", "two") as two:
                if lie is not None:
                    two.client = LyingClient(two.client, lie)
                yield one, two, realm


async def fill(one: Laptop) -> None:
    """Files that are written again and again, and some that are gone."""
    one.mkdir("d")
    for path in FILES:
        one.make(path, b"0")
    one.make("large", bytes(3_000_000))
    one.make("gone", b"x")
    await one.push()
    one.unlink("gone")
    for number in range(ROUNDS):
        one.write(FILES[number % len(FILES)], str(number).encode())
        await one.push()


async def test_the_tree_is_there_after_a_snapshot(tmp_path: Path) -> None:
    async with joining(tmp_path) as (one, two, realm):
        await two.open(realm)
        replica = two.workspace.replica
        assert replica.base() >= ROUNDS
        assert replica.size() == one.workspace.replica.size()
        assert replica.seen() == one.workspace.replica.seen()
        assert await two.walk() == await one.walk()
        assert two.names_in_store() == one.names_in_store()
        assert two.wire.count("/v1/log/leaves") == 2, "the organization's log, and the tail"


async def replay(two: Laptop) -> None:
    """What runs in the background, to its end."""
    failures: list[VerificationError] = []
    with trio.fail_after(20):
        await two.workspace.bootstrap.run(two.workspace.sync.pull_once, failures.append)
    assert failures == []


def history(one: Laptop, path: str) -> list[tuple[int, bytes, bytes | None]]:
    """What `log PATH` reads: versions with leaf and author."""
    store = one.workspace.store
    rows = []
    for version, index in store.operations(one.node(path).id):
        leaf = store.leaf(index)
        assert leaf is not None
        rows.append((version, leaf.header, leaf.author))
    return rows


async def test_the_replay_ends_in_the_whole_history(tmp_path: Path) -> None:
    async with joining(tmp_path) as (one, two, realm):
        await two.open(realm)
        assert history(two, "a") != history(one, "a")
        await replay(two)
        theirs, ours = one.workspace.replica, two.workspace.replica
        assert (ours.base(), ours.state.chains) == (0, theirs.state.chains)
        for path in (*FILES, "d", "large"):
            assert history(two, path) == history(one, path)
        assert [ours.roots_at(n) for n in range(ours.size() + 1)] == [
            theirs.roots_at(n) for n in range(theirs.size() + 1)
        ]
        assert ours.store.certificates() == theirs.store.certificates()
        assert objects(two) == objects(one)
        assert not (ours_folder := list(two.folder.rglob("replay.db*"))), ours_folder


def objects(one: Laptop) -> list[StoredObject | None]:
    """Every row of the store, but for what only this device can read."""
    store = one.workspace.store
    ids = [id for id, _ in store.states_after(b"", 10_000)]
    rows = [store.object(id) for id in ids]
    return [None if row is None else replace(row, flat=None) for row in rows]


async def test_both_write_while_one_replays(tmp_path: Path) -> None:
    async with joining(tmp_path) as (one, two, realm):
        await two.open(realm)
        two.make("new", b"2")
        two.write("a", b"from two")
        one.write("d/b", b"from one")
        await in_step(one, two)
        assert two.workspace.replica.base() > 0
        await replay(two)
        one.write("a", b"later")
        two.write("d/c", b"later")
        shown = await in_step(one, two)
        assert (shown["a"], shown["new"], shown["d/c"]) == (b"later", b"2", b"later")


async def test_a_restart_goes_on_with_the_replay(tmp_path: Path) -> None:
    """Ended after the replica of the past has reached the end, and before that counted."""
    async with joining(tmp_path) as (_, two, realm):
        await two.open(realm)
        past = two.workspace.bootstrap.open_past()
        await past.pull()
        await two.workspace.store.fill_in(past.store, two.workspace.replica.slices.pause)
        copy = two.crash(tmp_path / "copy")
        before = await two.walk()
    async with in_process(tmp_path / "server") as server:
        async with laptop(server, two.identity, copy, "two") as again:
            await again.open(realm)
            assert again.workspace.replica.base() > 0
            assert await again.walk() == before
            await replay(again)
            assert again.workspace.replica.base() == 0
            size = again.workspace.replica.size()
            asked = again.wire.count("/v1/log/leaves")
            assert asked <= 4, f"{size} leaves were replayed before, and kept"
            again.write("a", b"after")
            await again.push()
        async with laptop(server, two.identity, copy, "two") as last:
            await last.open(realm)
            assert last.workspace.replica.base() == 0
            await last.workspace.replica.ready()
            assert await last.read("a") == b"after"


async def test_a_restart_before_the_snapshot_counts_begins_again(tmp_path: Path) -> None:
    async with joining(tmp_path) as (one, two, realm):
        broken = two.client = Breaking(two.client)
        with pytest.raises(OfflineError):
            await two.open(realm)
        assert two.parts is not None
        assert two.parts.store.position().size == 0
        two.parts.close()
        broken.working = True
        await two.open(realm)
        assert await two.walk() == await one.walk()
        assert two.names_in_store() == one.names_in_store()


class Breaking(ServerClient):
    """The line breaks while payloads are fetched, after some have come."""

    def __init__(self, client: ServerClient) -> None:
        vars(self).update(vars(client))

    working = False

    async def read_payloads(self, realm: RealmId, hashes: tuple[Hash, ...]) -> tuple[bytes, ...]:
        """One, then none."""
        if self.working:
            return await super().read_payloads(realm, hashes)
        if len(hashes) == 1:
            raise OfflineError("cut")
        return (await super().read_payloads(realm, hashes))[:1]


async def test_a_device_that_has_signed_before_replays_first(tmp_path: Path) -> None:
    """Rule 26: it would not know its own records."""
    async with joining(tmp_path) as (one, two, realm):
        await two.open(realm)
        two.write("a", b"from two")
        await two.push()
        two.workspace.close()
        two.parts = None
        shutil.rmtree(two.folder / realm.hex()[:8])
        await two.open(realm)
        replica = two.workspace.replica
        assert replica.base() == 0
        assert two.identity.secrets.device in replica.state.chains
        two.write("a", b"again")
        assert (await in_step(one, two))["a"] == b"again"


async def test_without_another_device_the_log_is_replayed(tmp_path: Path) -> None:
    async with in_process(tmp_path / "server") as server:
        alice = await found(server)
        async with laptop(server, alice, tmp_path / "one", "one") as one:
            realm = await one.create_realm()
            await one.open(realm)
            assert one.workspace.replica.base() == 0
            assert one.wire.count("/v1/realm/snapshot") == 0


class AuditFirst(Unaudited):
    """An auditor that has to catch up before the first head is believed."""

    def __init__(self, two: Laptop) -> None:
        self._two = two
        self.bases: list[int] = []

    def most_due(self) -> int:
        """Nothing, at first."""
        return super().most_due() if self.bases else -1

    async def catch_up(self, epochs: int) -> None:
        """As the auditor: what lies below the base is not asked for."""
        self.bases.append(self._two.workspace.replica.base())


async def test_the_audit_does_not_replay_what_is_about_to_be_opened(tmp_path: Path) -> None:
    """It would fetch the whole log in the middle of taking the snapshot."""
    async with joining(tmp_path) as (one, two, realm):
        audit = two.org.audit = AuditFirst(two)
        await two.open(realm)
        replica = two.workspace.replica
        assert audit.bases[0] > one.workspace.replica.size() >= replica.base() > 0
        assert await two.walk() == await one.walk()


# What a lying server tells


def older_content(told: Told) -> Told:
    """The second to last version of an object, as it truly was."""
    items = [one for one in told.items if one.state.version > 1]
    state = replace(items[0].state, version=items[0].state.version - 1)
    record = replace(items[0].record, version=state.version)
    write = object_record_hash(items[0].commit, encode(record))
    old = replace(items[0], state=replace(state, write=write), record=record)
    return replace(told, items=tuple(old if one is items[0] else one for one in told.items))


def less(told: Told) -> Told:
    """One object is left out."""
    items = told.items[1:]
    return replace(told, items=items, start=replace(told.start, objects=len(items)))


def stranger(told: Told) -> Told:
    """Somebody else is a member."""
    role = Role(user=UserId(b"m" * 16), role=OWNER)
    return replace(told, start=replace(told.start, roles=(*told.start.roles, role)))


def planted_key(told: Told) -> Told:
    """A key that the server knows."""
    false = replace(told.start.rotations[-1], commitment=Hash(bytes(32)))
    rotations = (*told.start.rotations[:-1], false)
    return replace(told, start=replace(told.start, rotations=rotations))


def other_leaf(told: Told) -> Told:
    """Another last leaf than the voucher's author saw."""
    last = replace(told.start.last, time_ms=told.start.last.time_ms + 1)
    return replace(told, start=replace(told.start, last=last))


@pytest.mark.parametrize(
    ("lie", "why"),
    [
        (older_content, "map root that was vouched for"),
        (less, "map root that was vouched for"),
        (stranger, "map root that was vouched for"),
        (planted_key, "map root that was vouched for"),
        (other_leaf, "log root that was vouched for"),
    ],
)
async def test_a_false_snapshot_is_not_believed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, lie: Lie, why: str
) -> None:
    """The whole log is replayed instead, and nothing of the lie is left."""
    caplog.set_level("INFO")
    async with joining(tmp_path, lie) as (one, two, realm):
        await two.open(realm)
        assert why in caplog.text
        replica = two.workspace.replica
        assert (replica.base(), replica.state.chains) == (0, one.workspace.replica.state.chains)
        assert replica.state.roles == one.workspace.replica.state.roles
        assert await two.walk() == await one.walk()
        assert two.names_in_store() == one.names_in_store()
        two.write("a", b"sealed under the true key")
        await in_step(one, two)


@pytest.mark.allows_log("replay: ")
async def test_another_past_than_the_snapshot_goes_to_the_auditor(tmp_path: Path) -> None:
    """As if the voucher's author had been shown another branch: nothing is completed."""
    async with joining(tmp_path) as (_, two, realm):
        await two.open(realm)
        store, replica = two.workspace.store, two.workspace.replica
        base = store.base()
        assert base is not None
        async with store.writing() as write:
            write.base(replace(base, state=replace(base.state, log_root=Hash(bytes(32)))))
        failures: list[VerificationError] = []
        with trio.move_on_after(0.5):
            await two.workspace.bootstrap.run(two.workspace.sync.pull_once, failures.append)
        assert isinstance(failures[0], ForkError)
        assert len(failures[0].evidence) == 2, "the signed heads of both"
        assert replica.base() == base.state.size
        with pytest.raises(ForkError):
            replica.check_past()

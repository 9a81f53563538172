"""Roles are given and taken by command, against the real server: who reads, writes, is told what.

Data flow: `Sharing` of one device -> server -> devices of others, which never heard of it before.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import pytest

from parsec_fs.blind_audit import blind_audit
from parsec_fs.chronicle import Chronicle
from parsec_fs.config import Home
from parsec_fs.connection import connect
from parsec_fs.discovery import find_all, find_workspaces
from parsec_fs.people import members_of
from parsec_fs.people_log import Since
from parsec_fs.protocol.certificates import (
    AUDITOR,
    CONTRIBUTOR,
    MANAGER,
    NO_ROLE,
    OUTSIDER,
    OWNER,
    READER,
)
from parsec_fs.protocol.codec import decode
from parsec_fs.protocol.commands import AppendCertificate
from parsec_fs.protocol.errors import ForbiddenError, InputError, RefusedError
from parsec_fs.protocol.ids import RealmId
from parsec_fs.workspace.sharing import Sharing
from tests.support.laptops import (
    Laptop,
    found,
    in_step,
    laptop,
    place_of,
    second_user,
    set_role,
)
from tests.support.server import InProcess, in_process


@dataclass(kw_only=True)
class Shared:
    """Alice's open workspace, and bob, who has no role in it yet."""

    server: InProcess
    folder: Path
    alice: Laptop
    bob: Laptop
    realm: RealmId

    @property
    def sharing(self) -> Sharing:
        """Alice's."""
        return self.alice.workspace.sharing

    async def give(self, role: int) -> bool:
        """Bob's role from now on."""
        return await self.sharing.set_role(self.bob.author.secrets.user, role)


@pytest.fixture
async def shared(tmp_path: Path) -> AsyncIterator[Shared]:
    async with (
        in_process(tmp_path / "server") as server,
        laptop(server, await found(server), tmp_path / "one", "one") as alice,
    ):
        realm = await alice.create_realm()
        await alice.open(realm)
        alice.make("before", b"from before")
        await alice.push()
        identity = await second_user(alice)
        async with laptop(server, identity, tmp_path / "two", "two") as bob:
            yield Shared(server=server, folder=tmp_path, alice=alice, bob=bob, realm=realm)


async def test_new_member_finds_the_workspace_and_reads_all(shared: Shared) -> None:
    assert await shared.give(CONTRIBUTOR)
    assert not await shared.give(CONTRIBUTOR)
    assert shared.alice.workspace.keys.newest().index == 2
    home = Home(root=shared.folder / "bob")
    async with connect(home, shared.bob.identity, clients=shared.server.http) as connection:
        assert [one.title for one in await find_workspaces(connection)] == ["docs"]
    await shared.bob.open(shared.realm)
    shared.bob.make("mine", b"from bob")
    shown = await in_step(shared.bob, shared.alice)
    assert set(shown.values()) >= {b"from before", b"from bob"}
    rows = members_of(shared.alice.org.state, shared.alice.workspace.replica.state)
    assert [(one["name"], one["role"]) for one in rows] == [
        ("alice", "owner"),
        ("bob", "contributor"),
    ]


async def test_another_role_takes_no_new_key_and_none_takes_one(shared: Shared) -> None:
    await shared.give(READER)
    await shared.give(CONTRIBUTOR)
    assert shared.alice.workspace.keys.newest().index == 2
    await shared.bob.open(shared.realm)
    await shared.give(NO_ROLE)
    assert shared.alice.workspace.keys.newest().index == 3
    shared.alice.make("after", b"not for bob")
    await shared.alice.push()
    with pytest.raises(RefusedError, match="NOT_ALLOWED"):
        await shared.bob.pull()
    assert b"not for bob" not in (await shared.bob.walk()).values()


class OvertakenLine(httpx.AsyncBaseTransport):
    """Something happens just before a new key arrives at the server."""

    def __init__(self, server: InProcess) -> None:
        self._inner = place_of(server).line()
        self.overtake: Callable[[], Awaitable[None]] | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        body = await request.aread()
        overtake = self.overtake
        is_append = request.url.path.endswith("/append")
        if overtake is not None and is_append and decode(AppendCertificate, body).boxes:
            self.overtake = None
            await overtake()
        return await self._inner.handle_async_request(request)


async def test_another_device_may_be_the_first_to_make_the_key(tmp_path: Path) -> None:
    """All learn of a role at once: whoever gave it is told nothing but that it is given."""
    async with in_process(tmp_path / "server") as server:
        line = OvertakenLine(server)
        place = replace(place_of(server), line=lambda: line)
        async with laptop(place, await found(server), tmp_path / "one", "one") as alice:
            realm = await alice.create_realm()
            await alice.open(realm)
            bob, carol = [await second_user(alice, name) for name in ("bob", "carol")]
            await alice.workspace.sharing.set_role(bob.secrets.user, CONTRIBUTOR)
            async with laptop(server, bob, tmp_path / "two", "two") as other:
                await other.open(realm)

                made = []

                async def first() -> None:
                    await other.pull()
                    await other.workspace.rekeying.rotate()
                    made.append(other)

                line.overtake = first
                assert await alice.workspace.sharing.set_role(carol.secrets.user, READER)
                assert made == [other]
            assert alice.workspace.keys.newest().index == 3
            assert not alice.workspace.rekeying.wanted()


async def test_an_auditor_gets_no_key_replays_everything_and_can_become_a_reader(
    shared: Shared,
) -> None:
    """No key is made for an auditor; one is when they may read, and when they may no more."""
    await shared.give(AUDITOR)
    assert shared.alice.workspace.keys.newest().index == 1
    home, realm = Home(root=shared.folder / "bob"), shared.realm
    async with connect(home, shared.bob.identity, clients=shared.server.http) as connection:
        named, closed = await find_all(connection)
        assert (named, [one.realm for one in closed]) == ((), [realm])
        assert closed[0].title == realm.hex()[:8]
        async with blind_audit(home, connection, closed[0]) as blind:
            known = shared.alice.workspace.replica.state
            await blind.replica.pull()
            assert blind.replica.state.map.root() == known.map.root()
            assert blind.replica.state.position == known.position
            assert not blind.store.count(), "no payload was asked for"
            chronicle = Chronicle(home=home, connection=connection, since=Since())
            roles = [dict(one.details)["role"] for one in chronicle.of_realm(blind.store)[::2]]
            assert roles == ["owner", "auditor"]
            (change,) = chronicle.changes(blind.store)
            assert (change["by"]["name"], change["epoch"]) == ("alice", None)
            last = blind.replica.leaf_header(blind.replica.size() - 1).time_ms
            later = replace(chronicle, since=Since(time_ms=last))
            assert later.changes(blind.store) == []
    with pytest.raises(RefusedError, match=f"parsec-fs audit {realm.hex()[:8]}"):
        await shared.bob.open(realm)
    shared.bob.workspace.close()

    await shared.give(READER)
    assert shared.alice.workspace.keys.newest().index == 2
    await shared.bob.open(realm)
    assert b"from before" in (await shared.bob.walk()).values()
    assert not shared.alice.workspace.rekeying.wanted()

    await shared.give(AUDITOR)
    assert shared.alice.workspace.keys.newest().index == 3
    shared.alice.make("after", b"not for an auditor")
    await shared.alice.push()
    with pytest.raises(RefusedError, match="An auditor verifies it without opening it"):
        await shared.bob.pull()
    await shared.give(NO_ROLE)
    assert shared.alice.workspace.keys.newest().index == 3, "an auditor held nothing to lose"


async def test_unsent_work_goes_on_under_the_key_that_follows(shared: Shared) -> None:
    """Bob writes while somebody else is removed: his changes are sealed under the next key."""
    await shared.give(CONTRIBUTOR)
    await shared.bob.open(shared.realm)
    carol = await second_user(shared.alice, "carol")
    await shared.sharing.set_role(carol.secrets.user, READER)
    shared.bob.make("queued", b"written before the removal")
    await shared.sharing.set_role(carol.secrets.user, NO_ROLE)
    shown = await in_step(shared.bob, shared.alice)
    assert b"written before the removal" in shown.values()
    assert shared.bob.workspace.keys.newest().index == 4


async def test_key_that_nobody_made_is_made_by_whoever_comes_first(shared: Shared) -> None:
    """The sharing device ends between role and key: bob cannot open anything, alice's device sees
    in the log that a key is due."""
    await shared.give(CONTRIBUTOR)
    carol = await second_user(shared.alice, "carol")
    rekeying = shared.alice.workspace.rekeying
    await shared.bob.open(shared.realm)
    await set_role(shared.alice, carol.secrets.user, READER)
    await shared.bob.pull()
    assert shared.bob.workspace.rekeying.wanted()
    assert not shared.bob.workspace.rekeying.problem()
    await shared.bob.workspace.sync.rekey_once()
    await shared.alice.pull()
    assert not rekeying.wanted()
    async with laptop(shared.server, carol, shared.folder / "three", "three") as other:
        await other.open(shared.realm)
        assert b"from before" in (await other.walk()).values()


async def test_who_may_not_is_told_before_anything_is_sent(shared: Shared) -> None:
    await shared.give(MANAGER)
    await shared.bob.open(shared.realm)
    alice = shared.alice.author.secrets.user
    bobs = shared.bob.workspace.sharing
    size = shared.bob.workspace.replica.size()
    with pytest.raises(ForbiddenError, match="your role does not allow"):
        await bobs.set_role(alice, NO_ROLE)
    with pytest.raises(ForbiddenError, match="your role does not allow"):
        await bobs.set_role(shared.bob.author.secrets.user, OWNER)
    carol = await second_user(shared.alice, "carol")
    await bobs.set_role(carol.secrets.user, CONTRIBUTOR)
    with pytest.raises(InputError, match="keeps an owner"):
        await shared.sharing.set_role(alice, NO_ROLE)
    assert shared.bob.workspace.replica.size() == size + 2


async def test_roles_are_judged_by_the_log_as_it_is_now(shared: Shared) -> None:
    """Alice's device has not heard of what bob, another owner, did since."""
    carol, bob = await second_user(shared.alice, "carol"), shared.bob
    await shared.give(OWNER)
    await bob.open(shared.realm)
    await bob.workspace.sharing.set_role(carol.secrets.user, READER)
    assert shared.alice.workspace.replica.state.role(carol.secrets.user) == NO_ROLE
    assert await shared.sharing.set_role(carol.secrets.user, NO_ROLE)
    assert shared.alice.workspace.replica.state.role(carol.secrets.user) == NO_ROLE
    await bob.pull()
    assert bob.workspace.replica.state.role(carol.secrets.user) == NO_ROLE

    dave = await second_user(shared.alice, "dave")
    await bob.workspace.sharing.set_role(shared.alice.author.secrets.user, READER)
    with pytest.raises(ForbiddenError, match="your role does not allow"):
        await shared.sharing.set_role(dave.secrets.user, READER)


async def test_an_outsider_is_neither_owner_nor_manager(shared: Shared) -> None:
    """Told before anything is sent, in words: exit code 13."""
    outsider = await second_user(shared.alice, "eve", profile=OUTSIDER)
    for role in (MANAGER, OWNER):
        with pytest.raises(ForbiddenError, match=r"outsider.*Give another role"):
            await shared.sharing.set_role(outsider.secrets.user, role)
    assert await shared.sharing.set_role(outsider.secrets.user, CONTRIBUTOR)

"""A device and a person are revoked against the real server: who is refused, what keys follow.

Data flow: certificate -> server -> org log -> rekeying of whoever comes first -> who reads what.
"""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import trio

from parsec_fs.cli.exit_codes import ExitCode, exit_code
from parsec_fs.config import Home
from parsec_fs.connection import connect
from parsec_fs.control import Json
from parsec_fs.daemon_commands import DaemonCommands
from parsec_fs.discovery import find_workspaces
from parsec_fs.enrolment import device_content, make_rotation
from parsec_fs.identity import Author, Identity
from parsec_fs.last_owners import owned_alone
from parsec_fs.people import find_device, members_of
from parsec_fs.protocol import membership
from parsec_fs.protocol.certificates import (
    CONTRIBUTOR,
    DEVICE_REVOKED,
    MANAGER,
    NO_ROLE,
    OWNER,
    READER,
    Device,
    DeviceRevoked,
    User,
    UserRevoked,
    peek_certificate,
    sign_certificate,
)
from parsec_fs.protocol.codec import encode_trusted
from parsec_fs.protocol.commands import BoxAnswer
from parsec_fs.protocol.errors import (
    DeviceRevokedError,
    ForbiddenError,
    InputError,
    OfflineError,
    OutdatedError,
    RefusedError,
)
from parsec_fs.protocol.hashing import map_value
from parsec_fs.protocol.ids import DeviceId, RealmId, UserId
from parsec_fs.protocol.log_state import DeviceChain
from parsec_fs.protocol.membership import OrgState
from parsec_fs.protocol.records import CERTIFICATE, Leaf
from parsec_fs.protocol.sealing import RealmKey
from parsec_fs.revocation import Revoked, revocation, revoke_device
from parsec_fs.user_keys import make_user_key, user_key_due
from parsec_fs.workspace.realm_keys import seal_previous_key
from parsec_fs.workspace.replica_checks import ReplicaChecks
from parsec_fs.workspace.strict_open import all_logged_is_here
from server.decisions.effects import next_leaf
from tests.support.identities import founded, user_content
from tests.support.laptops import Laptop, alone, in_step, laptop, second_device, second_user
from tests.support.server import InProcess
from tests.support.waiting import until

pytestmark = pytest.mark.allows_log("REVOKED|this device was revoked")


async def revoke(by: Laptop, content: DeviceRevoked | UserRevoked) -> None:
    """As the commands do it, without the user key that follows."""
    org = await by.org.pull()
    body = revocation(content, org=org, seen=by.org.seen(), author=by.author)
    await by.client.append_certificate(by.org.log, body)


def device_of(one: Laptop) -> DeviceId:
    return one.author.secrets.device


async def test_stolen_device_gets_nothing_and_keys_change(tmp_path: Path) -> None:
    async with alone(tmp_path) as (server, one, realm):
        identity = await second_device(one)
        async with laptop(server, identity, tmp_path / "two", "two") as two:
            await two.open(realm)
            two.make("unsent", b"stays here")
            await revoke(one, DeviceRevoked(device=device_of(two)))
            await one.pull()
            assert "was revoked" in one.workspace.rekeying.problem()
            assert user_key_due(one.org.state, one.author.secrets.user)
            await one.workspace.sync.rekey_once()
            assert not one.workspace.rekeying.wanted()
            user = one.org.state.users[one.author.secrets.user]
            assert (user.generation, one.workspace.keys.newest().index) == (2, 2)
            one.make("after", b"not for a thief")
            await one.push()
            for asked in (two.pull, two.push, two.org.pull):
                with pytest.raises(DeviceRevokedError, match="this device was revoked"):
                    await asked()
            assert b"stays here" in (await two.walk()).values()
            sync = two.workspace.sync
            async with trio.open_nursery() as nursery:
                await nursery.start(sync.run)
                await until(lambda: sync.standing.revoked, timeout_s=20)
                with pytest.raises(DeviceRevokedError):
                    await sync.wait_logged()
                nursery.cancel_scope.cancel()
            assert find_device(one.org.state, device_of(two).hex()).revoked is not None


async def nothing(document: Json) -> None:
    """Progress that nobody looks at."""


async def test_a_revoked_device_says_so_and_reads_on_after_a_restart(tmp_path: Path) -> None:
    async with alone(tmp_path) as (server, one, realm):
        identity = await second_device(one)
        async with laptop(server, identity, tmp_path / "two", "two") as two:
            await two.open(realm)
            two.make("unsent", b"stays here")
            await revoke(one, DeviceRevoked(device=device_of(two)))
            with pytest.raises(DeviceRevokedError) as told:
                await two.pull()
            two.workspace.sync.standing.report(told.value, "pull")
            await two.workspace.sync.standing.remember()
            two.wire.cut = True
            await two.restart()
            workspace, sync = two.workspace, two.workspace.sync
            sync.standing.trouble = "the server cannot be reached"
            assert "this device was revoked" in sync.progress().trouble
            commands = DaemonCommands(
                workspace=workspace,
                auditor=cast(Any, None),
                facts=cast(Any, None),
                history=cast(Any, None),
                conflicts=cast(Any, None),
                idle_s=lambda: 0.0,
            )
            with pytest.raises(DeviceRevokedError) as never, trio.fail_after(20):
                await commands.wait({"state": "logged"}, nothing)
            assert exit_code(never.value) == ExitCode.REVOKED
            assert await two.read("unsent") == b"stays here"


async def test_strict_reads_go_on_when_the_device_is_told(tmp_path: Path) -> None:
    """First the server is asked, and says it; then nobody is asked any more."""
    async with alone(tmp_path) as (server, one, realm):
        identity = await second_device(one)
        async with laptop(server, identity, tmp_path / "two", "two") as two:
            await two.open(realm)
            await revoke(one, DeviceRevoked(device=device_of(two)))
            parts = (two.filesystem, two.workspace.replica, two.workspace.sync)
            for revoked in (False, True):
                assert two.workspace.sync.standing.revoked is revoked
                await all_logged_is_here(*parts, random=os.urandom, timeout_s=20)
                two.wire.cut = True
            two.workspace.sync.standing.pulled()
            with pytest.raises(OfflineError):
                await all_logged_is_here(*parts, random=os.urandom, timeout_s=20)


async def test_revoking_again_finishes_what_was_interrupted(tmp_path: Path) -> None:
    """The certificate was taken, and the command ended before the new user key."""
    async with alone(tmp_path) as (server, one, _):
        stolen = (await second_device(one)).secrets.device
        await revoke(one, DeviceRevoked(device=stolen))
        home = Home(root=tmp_path / "home")
        async with connect(home, one.identity, clients=server.http) as connection:
            for renewed in (True, False):
                found = find_device(await connection.org.pull(), "second")
                done = await revoke_device(connection, found)
                assert done == Revoked(before=True, renewed=renewed)
                assert connection.org.state.users[one.author.secrets.user].generation == 2
            with pytest.raises(InputError, match="does not revoke itself"):
                await revoke_device(connection, connection.org.state.devices[device_of(one)])


async def revoke_and_expect_a_key(one: Laptop, content: DeviceRevoked | UserRevoked) -> None:
    """By this device, or by its own background task, whichever is first."""
    before = one.workspace.keys.newest().index
    await revoke(one, content)
    await one.pull()
    await one.workspace.sync.rekey_once()
    assert one.workspace.keys.newest().index > before
    assert not one.workspace.rekeying.wanted()


async def test_person_without_a_device_left_is_revoked(tmp_path: Path) -> None:
    """First the stolen device, then the person: no key is sealed to what that device holds."""
    async with alone(tmp_path) as (_, one, _):
        bobs = (await second_user(one)).secrets
        await one.workspace.sharing.set_role(bobs.user, CONTRIBUTOR)
        await one.workspace.sync.rekey_once()
        await revoke_and_expect_a_key(one, DeviceRevoked(device=bobs.device))
        with pytest.raises(RefusedError, match="NOT_FOUND"):
            await newest_box(one, bobs.user)
        await revoke_and_expect_a_key(one, UserRevoked(user=bobs.user))


async def newest_box(one: Laptop, user: UserId) -> BoxAnswer:
    """What the server keeps of the newest key for a user."""
    index, log = one.workspace.keys.newest().index, one.workspace.replica.log
    return await one.client.read_box(RealmId(log), index, user)


async def certify(by: Laptop, content: User | Device) -> None:
    """As an administrator adds somebody."""
    org = await by.org.pull()
    header = by.author.header(org.context, org.chains[device_of(by)], by.org.seen())
    await by.client.append_certificate(by.org.log, by.author.sign(content, header=header))
    await by.pull()


async def test_a_key_follows_a_persons_first_device(tmp_path: Path) -> None:
    """Whoever had none when the newest key was made gets the next one, once."""
    async with alone(tmp_path) as (_, one, _):
        secrets = founded()[1].secrets
        bobs = replace(secrets, org=one.author.secrets.org, user=UserId(os.urandom(16)))
        await certify(one, user_content("bob", bobs))
        await one.workspace.sharing.set_role(bobs.user, READER)
        with pytest.raises(RefusedError, match="NOT_FOUND"):
            await newest_box(one, bobs.user)
        await certify(one, device_content(bobs, b"tablet"))
        await one.workspace.sync.rekey_once()
        assert (await newest_box(one, bobs.user)).box.user == bobs.user
        assert not one.workspace.rekeying.wanted()


async def test_a_device_added_after_the_last_was_stolen_brings_no_keys(tmp_path: Path) -> None:
    """It holds no key of the person, the stolen one does; a new one of theirs ends that."""
    async with alone(tmp_path) as (_, one, _):
        bobs = (await second_user(one)).secrets
        await one.workspace.sharing.set_role(bobs.user, READER)
        await revoke_and_expect_a_key(one, DeviceRevoked(device=bobs.device))
        again = replace(bobs, device=DeviceId(os.urandom(16)), sign_seed=os.urandom(32))
        await certify(one, device_content(again, b"tablet"))
        assert not one.workspace.rekeying.wanted()
        await one.workspace.rekeying.rotate()
        await one.pull()
        with pytest.raises(RefusedError, match="NOT_FOUND"):
            await newest_box(one, bobs.user)
        org, author = one.org.state, Author(secrets=again, incarnation=bytes(16), random=os.urandom)
        assert not org.takes_keys(bobs.user)
        body = make_user_key(org=org, seen=one.org.seen(), author=author)
        leaf = next_leaf(
            org.position,
            CERTIFICATE,
            body,
            map_root=org.map.root(),
            org_size=org.position.size + 1,
            now_ms=0,
        )
        assert membership.append(org, leaf).takes_keys(bobs.user)


async def reader_with_a_stolen_device(one: Laptop, server: InProcess, folder: Path) -> Identity:
    """Bob, who may only read; alice has revoked another device of his."""
    bobs = await second_user(one)
    await one.workspace.sharing.set_role(bobs.secrets.user, READER)
    async with laptop(server, bobs, folder, "two") as bob:
        stolen = await second_device(bob)
    await revoke(one, DeviceRevoked(device=stolen.secrets.device))
    return bobs


async def test_a_reader_renews_their_own_key(tmp_path: Path) -> None:
    async with alone(tmp_path) as (server, one, realm):
        bobs = await reader_with_a_stolen_device(one, server, tmp_path / "two")
        user = bobs.secrets.user
        async with laptop(server, bobs, tmp_path / "three", "three") as bob:
            await bob.open(realm)
            assert bob.workspace.rekeying.wanted()
            await bob.workspace.sync.rekey_once()
            assert bob.org.state.users[user].generation == 2
            assert not bob.workspace.rekeying.wanted()
        await one.workspace.sync.rekey_once()
        assert (await newest_box(one, user)).box.generation == 2


async def test_whoever_mounts_nothing_renews_their_key_at_the_next_command(tmp_path: Path) -> None:
    async with alone(tmp_path) as (server, one, _):
        bobs = await reader_with_a_stolen_device(one, server, tmp_path / "two")
        home = Home(root=tmp_path / "home")
        async with connect(home, bobs, clients=server.http) as connection:
            for _ in range(2):
                assert [one.title for one in await find_workspaces(connection)] == ["docs"]
                assert connection.org.state.users[bobs.secrets.user].generation == 2


async def rotate_claiming(bob: Laptop, org_size: int) -> None:
    """A key like any other, by somebody who says that they have seen that much of the org log."""
    state, org, author = bob.workspace.replica.state, await bob.org.pull(), bob.author
    assert state.key is not None
    realm, key = RealmId(state.context.log), RealmKey(state.key.index + 1, bytes(32))
    newest, org_id = bob.workspace.keys.newest(), author.secrets.org
    rotation, boxes = make_rotation(
        b"research",
        key,
        previous=seal_previous_key(newest, key, org=org_id, realm=realm, salt=bytes(32)),
        members=[org.users[user] for user in state.roles],
        realm=realm,
        org=org_id,
        random=os.urandom,
    )
    chain = state.chains.get(author.secrets.device, DeviceChain())
    seen = replace(bob.workspace.replica.seen(), org_size=org_size)
    body = sign_certificate(
        rotation,
        header=author.header(state.context, chain, seen),
        replaces=map_value(encode_trusted(state.key)),
        key=author.secrets.signing_key(),
    )
    await bob.client.append_certificate(bob.workspace.replica.log, body, boxes)


async def test_who_claims_to_have_seen_the_future_keeps_no_key(tmp_path: Path) -> None:
    """The newest key counts as sealed before every revocation that the log did not have yet."""
    async with alone(tmp_path) as (server, one, realm):
        bobs = await second_user(one)
        await one.workspace.sharing.set_role(bobs.secrets.user, CONTRIBUTOR)
        await one.workspace.sync.rekey_once()
        async with laptop(server, bobs, tmp_path / "two", "two") as bob:
            await bob.open(realm)
            await rotate_claiming(bob, 2**63)
        await one.pull()
        assert not one.workspace.rekeying.wanted()
        await revoke_and_expect_a_key(one, UserRevoked(user=bobs.secrets.user))


async def test_person_is_revoked_and_work_of_others_goes_on(tmp_path: Path) -> None:
    async with alone(tmp_path) as (server, one, realm):
        bobs, carols = await second_user(one), await second_user(one, "carol")
        for person in (bobs, carols):
            await one.workspace.sharing.set_role(person.secrets.user, CONTRIBUTOR)
        async with (
            laptop(server, bobs, tmp_path / "two", "two") as bob,
            laptop(server, carols, tmp_path / "three", "three") as carol,
        ):
            await bob.open(realm)
            await carol.open(realm)
            carol.make("queued", b"written before the end of bob")
            await revoke(one, UserRevoked(user=bobs.secrets.user))
            await carol.workspace.sync.rekey_once()
            shown = await in_step(carol, one)
            assert b"written before the end of bob" in shown.values()
            assert carol.workspace.keys.newest().index == one.workspace.keys.newest().index
            assert not one.workspace.rekeying.wanted()
            with pytest.raises(DeviceRevokedError):
                await bob.pull()
            rows = members_of(one.org.state, one.workspace.replica.state)
            assert {one["name"]: one["revoked"] for one in rows} == {
                "alice": False,
                "bob": True,
                "carol": False,
            }
            with pytest.raises(InputError, match="was revoked"):
                await one.workspace.sharing.set_role(bobs.secrets.user, CONTRIBUTOR + 1)


async def test_a_workspace_without_an_owner_is_taken_over(tmp_path: Path) -> None:
    """Bob owns it with alice, who steps down; then bob, the last one, is revoked."""
    async with alone(tmp_path) as (server, one, realm):
        bobs, carols = await second_user(one), await second_user(one, "carol")
        sharing, own = one.workspace.sharing, one.author.secrets.user
        await sharing.set_role(bobs.secrets.user, OWNER)
        await sharing.set_role(carols.secrets.user, READER)
        await sharing.set_role(own, MANAGER)
        home = Home(root=tmp_path / "home")
        async with connect(home, one.identity, clients=server.http) as connection:
            await find_workspaces(connection)
            assert owned_alone(home, connection, bobs.secrets.user) == ()
            paths = home.workspace(realm)
            paths.root.mkdir(parents=True)
            paths.database.symlink_to(one.folder / realm.hex()[:8] / "realm.db")
            assert owned_alone(home, connection, bobs.secrets.user) == ("docs",)
            assert owned_alone(home, connection, own) == ()
        with pytest.raises(ForbiddenError, match="has an owner, ask bob"):
            await sharing.set_role(own, OWNER)
        await revoke(one, UserRevoked(user=bobs.secrets.user))
        async with laptop(server, carols, tmp_path / "three", "three") as carol:
            await carol.open(realm)
            with pytest.raises(ForbiddenError, match="whoever has the highest role"):
                await carol.workspace.sharing.set_role(carols.secrets.user, OWNER)
        assert await sharing.set_role(own, OWNER)
        with pytest.raises(InputError, match="keeps an owner who is not revoked"):
            await sharing.set_role(own, READER)
        await sharing.set_role(bobs.secrets.user, NO_ROLE)
        assert one.workspace.replica.state.role(bobs.secrets.user) == NO_ROLE


class OldProgram(ReplicaChecks):
    """A program from before devices could be revoked."""

    def org_leaf(self, state: OrgState, leaf: Leaf) -> OrgState:
        kind = peek_certificate(leaf.body).kind
        if kind == DEVICE_REVOKED:
            raise OutdatedError(f"certificates of kind {kind}")
        return super().org_leaf(state, leaf)


@pytest.mark.allows_log("this program is too old")
async def test_an_old_program_keeps_its_changes_until_it_is_updated(tmp_path: Path) -> None:
    async with alone(tmp_path) as (server, one, realm):
        identity, stolen = await second_device(one), (await second_device(one)).secrets.device
        folder = tmp_path / "two"
        async with laptop(server, identity, folder, "two", checks=OldProgram()) as old:
            await old.open(realm)
            await revoke(one, DeviceRevoked(device=stolen))
            sync = old.workspace.sync
            with pytest.raises(OutdatedError) as told:
                await old.pull()
            sync.standing.report(told.value, "pull")
            sync.standing.trouble = ""
            old.make("kept", b"written by an old program")
            async with trio.open_nursery() as nursery:
                await nursery.start(sync.run)
                await until(lambda: "update it" in sync.progress().trouble, timeout_s=20)
                nursery.cancel_scope.cancel()
            assert sync.progress().pending
            assert old.workspace.store.outbox.empty()
        async with laptop(server, identity, folder, "two") as new:
            await new.open(realm)
            await new.workspace.sync.rekey_once()
            shown = await in_step(new, one)
            assert b"written by an old program" in shown.values()
            assert not new.workspace.sync.standing.outdated

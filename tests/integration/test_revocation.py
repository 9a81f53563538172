"""A device and a person are revoked against the real server: who is refused, what keys follow.

Data flow: certificate -> server -> org log -> rekeying of whoever comes first -> who reads what.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from parsec_fs.people import find_device, members_of
from parsec_fs.protocol.certificates import CONTRIBUTOR, DeviceRevoked, UserRevoked
from parsec_fs.protocol.errors import DeviceRevokedError, InputError
from parsec_fs.protocol.ids import DeviceId, RealmId
from parsec_fs.revocation import revocation
from parsec_fs.user_keys import user_key_due
from tests.support.laptops import Laptop, found, in_step, laptop, second_device, second_user
from tests.support.server import InProcess, in_process
from tests.support.waiting import until

pytestmark = pytest.mark.allows_log("REVOKED|this device was revoked")


@asynccontextmanager
async def alone(folder: Path) -> AsyncIterator[tuple[InProcess, Laptop, RealmId]]:
    """Alice's device with a workspace."""
    async with (
        in_process(folder / "server") as server,
        laptop(server, await found(server), folder / "one", "one") as one,
    ):
        realm = await one.create_realm()
        await one.open(realm)
        one.make("before", b"from before")
        await one.push()
        yield server, one, realm


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
                await until(lambda: sync.revoked, timeout_s=20)
                nursery.cancel_scope.cancel()
            with pytest.raises(InputError, match="no device"):
                find_device(one.org.state, device_of(two).hex())


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

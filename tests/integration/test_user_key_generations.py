"""A user renews the key that realm keys are sealed to: every device of theirs reads everything.

Data flow: real server -> devices added before and after -> what each of them reads.
"""

from pathlib import Path

import pytest

from parsec_fs.protocol.certificates import CONTRIBUTOR
from parsec_fs.protocol.codec import decode
from parsec_fs.protocol.commands import BoxAnswer
from parsec_fs.protocol.errors import RefusedError
from parsec_fs.protocol.ids import LogId
from parsec_fs.user_keys import hold_user_keys, make_user_key, newest_user_key
from tests.support.laptops import (
    Laptop,
    alone,
    give_role,
    in_step,
    laptop,
    renew_user_key,
    second_device,
    second_user,
)


def box_generation(one: Laptop) -> int:
    """Generation that the newest realm key was sealed to for this device's user."""
    index = one.workspace.keys.newest().index
    kept = one.workspace.store.fact(f"box:{index}")
    assert kept is not None
    return decode(BoxAnswer, kept).box.generation


async def rekey(one: Laptop) -> None:
    """What the daemon does by itself after a pause."""
    assert one.workspace.rekeying.wanted()
    assert not one.workspace.rekeying.problem()
    await one.workspace.sync.rekey_once()
    assert not one.workspace.rekeying.wanted()


async def test_devices_from_before_and_after_read_everything(tmp_path: Path) -> None:
    async with alone(tmp_path) as (server, one, realm):
        one.make("first", b"under the first key")
        await one.push()
        before = await second_device(one)
        await renew_user_key(one)
        one.make("second", b"old realm key, new user key")
        await one.push()
        await rekey(one)
        one.make("third", b"under the second key")
        await one.push()
        after = await second_device(one)
        async with (
            laptop(server, before, tmp_path / "two", "two") as two,
            laptop(server, after, tmp_path / "three", "three") as three,
        ):
            await two.open(realm)
            await three.open(realm)
            shown = await in_step(one, two, three)
            assert set(shown.values()) >= {
                b"under the first key",
                b"old realm key, new user key",
                b"under the second key",
            }
            for device in (one, two, three):
                assert device.workspace.keys.newest().index == 2
                assert box_generation(device) == 2
                held = hold_user_keys(device.org.state, device.author.secrets)
                assert [key.generation for key in held.user_keys] == [1, 2]


async def test_a_device_that_came_later_makes_the_next_generation(tmp_path: Path) -> None:
    async with alone(tmp_path) as (server, one, realm):
        one.make("first", b"1")
        await one.push()
        await renew_user_key(one)
        later = await second_device(one)
        async with laptop(server, later, tmp_path / "two", "two") as two:
            await two.open(realm)
            await two.pull()
            await renew_user_key(two)
            await two.workspace.sync.rekey_once()
            two.make("second", b"2")
            shown = await in_step(two, one)
            assert set(shown.values()) >= {b"1", b"2"}
            assert box_generation(one) == box_generation(two) == 3


async def test_a_restarted_device_needs_no_server(tmp_path: Path) -> None:
    async with alone(tmp_path) as (server, one, realm):
        await renew_user_key(one)
        await rekey(one)
        one.make("kept", b"content")
        await one.push()
        identity = one.identity
    async with laptop(server, identity, tmp_path / "one", "one") as again:
        again.wire.cut = True
        await again.open(realm)
        assert again.workspace.keys.newest().index == 2
        assert b"content" in (await again.walk()).values()


async def test_another_members_device_seals_to_the_newest_generation(tmp_path: Path) -> None:
    async with alone(tmp_path) as (server, one, realm):
        identity = await second_user(one)
        await give_role(one, identity.secrets.user, CONTRIBUTOR)
        async with laptop(server, identity, tmp_path / "two", "two") as bob:
            await bob.open(realm)
            await bob.pull()
            await renew_user_key(one)
            await bob.org.pull()
            await rekey(bob)
            bob.make("from-bob", b"b")
            shown = await in_step(bob, one)
            assert b"b" in shown.values()
            assert (box_generation(one), box_generation(bob)) == (2, 1)


async def test_two_devices_at_once_make_one_generation(tmp_path: Path) -> None:
    async with alone(tmp_path) as (server, one, _):
        other = await second_device(one)
        async with laptop(server, other, tmp_path / "two", "two") as two:
            org = await two.org.pull()
            late = make_user_key(org=org, seen=two.org.seen(), author=two.author)
            await renew_user_key(one)
            with pytest.raises(RefusedError, match="CONFLICT"):
                await two.client.append_certificate(LogId(one.author.secrets.org), late)
            assert newest_user_key(await two.org.pull(), two.author.secrets).generation == 2

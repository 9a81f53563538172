"""Profiles are changed against the real server: who may, from when on it counts, who remains.

Data flow: `set_profile` on one device -> server -> org log -> devices of others.
"""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from parsec_fs.connection import Connection
from parsec_fs.discovery import create_workspace, find_workspaces
from parsec_fs.people import find_user
from parsec_fs.profiles import set_profile
from parsec_fs.protocol.certificates import ADMIN, OUTSIDER, STANDARD, sign_certificate
from parsec_fs.protocol.errors import ForbiddenError, InputError, RefusedError
from parsec_fs.protocol.hashing import map_key
from parsec_fs.protocol.ids import NO_HASH
from parsec_fs.protocol.log_state import DeviceChain
from parsec_fs.revocation import revoke_user
from tests.support.greeting_world import World, greeting_world


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with greeting_world(tmp_path) as world:
        yield world


async def change(by: Connection, name: str, profile: int) -> bool:
    return await set_profile(by, find_user(await by.org.pull(), name), profile)


async def test_a_colleague_becomes_administrator_and_takes_over(world: World) -> None:
    async with world.joined() as bob:
        with pytest.raises(ForbiddenError, match="only an administrator changes profiles"):
            await change(bob, "alice", STANDARD)
        with pytest.raises(ForbiddenError, match="another administrator can"):
            await change(world.alice, "alice", STANDARD)
        assert await change(world.alice, "bob", ADMIN)
        assert not await change(world.alice, "bob", ADMIN)
        assert await change(bob, "alice", STANDARD)
        with pytest.raises(ForbiddenError, match="only an administrator changes profiles"):
            await change(world.alice, "bob", STANDARD)
        with pytest.raises(ForbiddenError, match="another administrator can"):
            await change(bob, "bob", OUTSIDER)
        org = await world.alice.org.pull()
        assert {one.name: one.profile for one in org.users.values()} == {
            b"alice": STANDARD,
            b"bob": ADMIN,
        }


async def test_the_server_leaves_an_administrator_too(world: World) -> None:
    """A program that is none of ours signs away its own profile."""
    org, author = await world.alice.org.pull(), world.alice.author
    own = org.users[author.secrets.user]
    body = sign_certificate(
        replace(own, profile=OUTSIDER),
        header=author.header(org.context, DeviceChain(), world.alice.org.seen()),
        replaces=org.map.get(map_key(b"user", own.user)) or NO_HASH,
        key=author.secrets.signing_key(),
    )
    with pytest.raises(RefusedError, match="NOT_ALLOWED"):
        await world.alice.server.append_certificate(world.alice.org.log, body)


async def test_an_outsider_is_one_from_then_on(world: World) -> None:
    async with world.joined() as bob:
        await create_workspace(bob, "before")
        assert await change(world.alice, "bob", OUTSIDER)
        await bob.org.pull()
        with pytest.raises(RefusedError, match="NOT_ALLOWED"):
            await create_workspace(bob, "after")
        assert [one.title for one in await find_workspaces(bob)] == ["before"]
        assert await change(world.alice, "bob", STANDARD)
        await bob.org.pull()
        await create_workspace(bob, "again")
        await revoke_user(world.alice, find_user(await world.alice.org.pull(), "bob"))
        with pytest.raises(InputError, match="was revoked"):
            await change(world.alice, "bob", ADMIN)

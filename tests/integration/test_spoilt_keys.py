"""A contributor spoils a key rotation, for some members or for all: it stops nobody for long.

Data flow: a forged rotation, lawful in every check of the log -> two users' devices -> server.
"""

from pathlib import Path

import pytest
import trio

from parsec_fs.protocol.certificates import (
    NO_ROLE,
    READER,
)
from parsec_fs.protocol.errors import LocalError, RefusedError, StaleError
from parsec_fs.protocol.ids import RealmId
from tests.support.laptops import (
    in_step,
    laptop,
    set_role,
)
from tests.support.members import spoil, two_users, user, users
from tests.support.server import in_process
from tests.support.waiting import until

pytestmark = pytest.mark.allows_log("the key of rotation .* is missing|no key|object .* of device")
MISSING = "does not open here"


async def test_a_spoilt_rotation_stops_nobody(tmp_path: Path) -> None:
    """Bob, a contributor, makes a key that opens for no one but him. Alice's device goes past that
    leaf, seals nothing, names him, makes a new key; what he wrote in between stays closed to her
    and nothing else does."""
    async with two_users(tmp_path) as (one, two):
        one.make("before", b"1")
        await in_step(one, two)
        two.mkdir("open")
        await in_step(one, two)
        await spoil(two, user(one))
        two.write("before", b"unreadable")
        await two.push()
        await one.pull()
        assert one.workspace.replica.size() == two.workspace.replica.size()
        one.make("mine", b"2")
        with pytest.raises(StaleError, match=MISSING):
            await one.push()
        trouble = one.workspace.sync.progress().trouble
        assert "bob (tablet)" in trouble
        assert "this device or another one makes a new key" in trouble
        await one.workspace.sync.rekey_once()
        assert one.workspace.sync.progress().trouble == ""
        await one.push()
        await two.pull()
        assert await two.read("mine") == b"2"
        two.make("open/after", b"3")
        await two.push()
        await one.pull()
        assert await one.read("open/after") == b"3"
        assert await two.read("before") == b"unreadable"
        with pytest.raises(LocalError):
            one.workspace.loader.load(two.node("before").id)


async def test_it_is_the_same_after_a_restart_and_for_a_device_that_comes_later(
    tmp_path: Path,
) -> None:
    async with in_process(tmp_path / "server") as server, users(server, tmp_path) as (one, two):
        one.make("before", b"1")
        await in_step(one, two)
        await spoil(two, user(one))
        await one.pull()
        realm, identity = RealmId(one.workspace.replica.log), one.identity
        copy = one.crash(tmp_path / "again")
        async with laptop(server, identity, copy, "again") as again:
            await again.open(realm)
            assert MISSING in again.workspace.sync.progress().trouble
            await again.workspace.sync.rekey_once()
        async with laptop(server, identity, tmp_path / "late", "late") as late:
            await late.open(realm)
            assert await late.read("before") == b"1"
            assert late.workspace.sync.progress().trouble == ""


async def test_a_reader_cannot_help_and_says_who_can(tmp_path: Path) -> None:
    async with two_users(tmp_path, READER) as (one, two):
        await spoil(one, user(two))
        await two.pull()
        trouble = two.workspace.sync.progress().trouble
        assert "alice (first)" in trouble
        assert "owner must make a new key" in trouble
        size = two.workspace.replica.size()
        await two.workspace.sync.rekey_once()
        assert two.workspace.replica.size() == size


async def test_of_two_that_make_a_key_one_is_first(tmp_path: Path) -> None:
    """Rule 8: the second replaces a value that is not there any more, and finds a key that serves
    when it looks."""
    async with two_users(tmp_path) as (one, two):
        await two.pull()
        await one.workspace.rekeying.rotate()
        with pytest.raises(RefusedError):
            await two.workspace.rekeying.rotate()
        await one.pull()
        one.make("a", b"1")
        two.make("b", b"2")
        assert await in_step(one, two) == {"a": b"1", "b": b"2"}


async def test_a_removed_member_leads_to_a_new_key(tmp_path: Path) -> None:
    """Rule 10, by the running task itself: until there is a new key nothing is sealed."""
    async with two_users(tmp_path) as (one, two), trio.open_nursery() as nursery:
        workspace = one.workspace
        before = workspace.keys.newest().index
        await set_role(one, user(two), NO_ROLE)
        assert "a member was removed" in workspace.sync.progress().trouble
        one.make("secret", b"1")
        with pytest.raises(StaleError):
            await one.push()
        nursery.start_soon(workspace.rekeying.run, workspace.sync.rekey_once, _fail)
        await until(lambda: workspace.sync.progress().trouble == "")
        nursery.cancel_scope.cancel()
        await one.push()
        assert workspace.keys.newest().index == before + 1


def _fail(error: Exception, work: str) -> None:
    raise AssertionError(work) from error

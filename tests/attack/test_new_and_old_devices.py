"""A new device is shown another history, or an old copy of it (A46); an old state comes back (A47).

Data flow: forked server, copied device -> real client -> refused; believed without the one check.
"""

import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from parsec_fs.config import Home
from parsec_fs.connection import connect
from parsec_fs.protocol.errors import ForkError, RollbackError, VerificationError
from parsec_fs.protocol.records import LogState
from parsec_fs.workspace.promises import HeadPair
from parsec_fs.workspace.replica_checks import ReplicaChecks
from tests.support.laptops import found, laptop, second_device, second_user
from tests.support.server import in_process


class Unpinned(ReplicaChecks):
    """The check left out."""

    def pins(self, pins: Iterable[LogState], recomputed: LogState) -> LogState:
        """Any history will do."""
        return recomputed


class AnyLength(ReplicaChecks):
    """The check left out."""

    def reached(self, found: HeadPair, pins: Iterable[LogState]) -> HeadPair:
        """However little there is."""
        return found


class Unaware(ReplicaChecks):
    """The check left out."""

    def restored(self, unremembered: bool) -> bool:
        """Whatever it remembers."""
        return False


async def test_a_new_device_is_not_taken_into_another_history(tmp_path: Path) -> None:
    """The server keeps two: bob joined in the one that the inviter saw, eve in the one that the
    new device is shown. Both are signed, lawful, and of the same length."""
    async with in_process(tmp_path / "server") as server:
        identity = await found(server)
    shutil.copytree(tmp_path / "server", tmp_path / "fork")
    async with (
        in_process(tmp_path / "server") as server,
        in_process(tmp_path / "fork") as fork,
        laptop(server, identity, tmp_path / "one", "one") as inviter,
        laptop(fork, identity, tmp_path / "two", "two") as accomplice,
    ):
        await second_user(inviter, "bob")
        await second_user(accomplice, "eve")
        pin = inviter.org.roots_at(inviter.org.size())
        invited, home = replace(identity, pins=(pin,)), Home(root=tmp_path / "new")
        async with connect(home, invited, clients=fork.http) as connection:
            with pytest.raises(VerificationError, match="another history") as caught:
                await connection.org.pull()
            assert isinstance(caught.value.__cause__, ForkError)
            assert list(connection.store.leaves()) == []
        async with connect(home, invited, clients=server.http) as connection:
            names = [one.name for one in (await connection.org.pull()).users.values()]
            assert names == [b"alice", b"bob"]

        weak = Home(root=tmp_path / "weak")
        async with connect(weak, invited, clients=fork.http, checks=Unpinned()) as connection:
            names = [one.name for one in (await connection.org.pull()).users.values()]
            assert names == [b"alice", b"eve"]


async def test_a_new_device_is_not_shown_an_old_copy(tmp_path: Path) -> None:
    """Everything in it is genuine: heads, snapshot, the voucher of the very inviter. It only ends
    before what the inviter saw at last. No second try shows it either; the true log then does."""
    async with in_process(tmp_path / "server") as server:
        identity = await found(server)
        async with laptop(server, identity, tmp_path / "one", "one") as inviter:
            realm = await inviter.create_realm()
            await inviter.open(realm)
            inviter.make("price", b"100")
            await inviter.push()
            invited = await second_device(inviter)
    shutil.copytree(tmp_path / "server", tmp_path / "old")
    async with (
        in_process(tmp_path / "server") as server,
        in_process(tmp_path / "old") as old,
        laptop(server, identity, tmp_path / "one", "one") as inviter,
    ):
        await inviter.open(realm)
        inviter.write("price", b"1")
        await inviter.push()
        replica = inviter.workspace.replica
        pins = (inviter.org.roots_at(inviter.org.size()), replica.roots_at(replica.size()))
        invited = replace(invited, pins=pins)
        async with laptop(old, invited, tmp_path / "new", "new") as device:
            for _ in range(2):
                with pytest.raises(RollbackError, match="whoever invited this device has seen"):
                    await device.open(realm)
                device.workspace.close()
        async with laptop(server, invited, tmp_path / "new", "new") as device:
            await device.open(realm)
            assert await device.read("price") == b"1"

        async with laptop(old, invited, tmp_path / "weak", "weak") as weak:
            weak.checks = AnyLength()
            await weak.open(realm)
            assert await weak.read("price") == b"100"


async def test_two_devices_with_one_key_do_not_both_sign(tmp_path: Path) -> None:
    """A copy of the device's files goes on: it sees records of its own that it never made."""
    async with in_process(tmp_path / "server") as server:
        identity = await found(server)
        async with laptop(server, identity, tmp_path / "one", "one") as original:
            realm = await original.create_realm()
            await original.open(realm)
            original.make("file", b"1")
            await original.push()
            copies = [original.crash(tmp_path / name) for name in ("copy", "weak")]
            original.write("file", b"2")
            await original.push()
            size = original.workspace.replica.size()
            async with laptop(server, identity, copies[0], "one") as copy:
                await copy.open(realm)
                await copy.pull()
                assert await copy.read("file") == b"2"
                copy.write("file", b"of the copy")
                with pytest.raises(RollbackError, match="enrol it anew"):
                    await copy.push()
            await original.pull()
            assert original.workspace.replica.size() == size

            async with laptop(server, identity, copies[1], "one") as copy:
                copy.checks = Unaware()
                await copy.open(realm)
                await copy.pull()
                copy.write("file", b"of the copy")
                await copy.push()
            await original.pull()
            assert await original.read("file") == b"of the copy"

"""A device dies at every named point of a push; what is on disk goes on, once and completely."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from parsec_fs.protocol.errors import OfflineError, RollbackError
from parsec_fs.protocol.limits import MIB
from tests.support.laptops import Laptop, found, in_step, laptop, second_device
from tests.support.server import in_process

POINTS = ("after_outbox", "after_send", "after_store")


class Died(Exception):
    """The moment of the crash."""


async def _push_and_die(one: Laptop, point: str) -> None:
    def die(reached: str) -> None:
        if reached == point:
            raise Died

    one.hook = die
    with pytest.raises(Died):
        await one.push()


def _change_things(one: Laptop) -> None:
    one.write("changed", b"new")
    one.unlink("gone")
    one.mkdir("folder")
    one.make("folder/small", b"small")
    one.make("folder/large", b"l" * (2 * MIB))


EXPECTED = {
    "changed": b"new",
    "folder": None,
    "folder/large": b"l" * (2 * MIB),
    "folder/small": b"small",
}


@pytest.mark.parametrize("point", POINTS)
async def test_a_push_survives(tmp_path: Path, point: str) -> None:
    async with in_process(tmp_path / "server") as server:
        alice = await found(server)
        async with laptop(server, alice, tmp_path / "one", "one") as one:
            realm = await one.create_realm()
            await one.open(realm)
            one.make("changed", b"old")
            one.make("gone", b"")
            await one.push()
            other = await second_device(one)
            _change_things(one)
            await _push_and_die(one, point)
            left = one.crash(tmp_path / "left")
        async with laptop(server, alice, left, "one") as again:
            await again.open(realm)
            assert await again.walk() == EXPECTED
            async with laptop(server, other, tmp_path / "two", "two") as two:
                await two.open(realm)
                assert await in_step(again, two) == EXPECTED
            versions = [
                version for version, _ in again.workspace.store.operations(again.node("changed").id)
            ]
            assert versions == [2, 1]


@asynccontextmanager
async def whose_answer_is_lost(folder: Path) -> AsyncIterator[Laptop]:
    """A device that has pushed a file and does not know what became of it."""
    async with in_process(folder / "server") as server:
        alice = await found(server)
        async with laptop(server, alice, folder / "one", "one") as one:
            realm = await one.create_realm()
            await one.open(realm)
            await one.push()
            one.make("file", b"content")
            one.wire.cut_answers = True
            with pytest.raises(OfflineError):
                await one.push()
            one.wire.cut_answers = False
            yield one


async def test_an_answer_that_is_lost(tmp_path: Path) -> None:
    """The same bytes are sent again (rule 20), and the server knows them."""
    async with whose_answer_is_lost(tmp_path) as one:
        before = one.workspace.replica.size()
        await one.push()
        assert one.workspace.replica.size() == before + 1
        assert not one.pending()


async def test_an_answer_that_is_lost_and_seen_by_the_pull(tmp_path: Path) -> None:
    """The log says what the answer would have said: the capture is settled all the same."""
    async with whose_answer_is_lost(tmp_path) as one:
        await one.pull()
        assert one.workspace.store.outbox.empty()
        progress = one.workspace.sync.progress()
        assert progress.pending
        assert progress.logged_position < progress.journal_position
        await one.push()
        progress = one.workspace.sync.progress()
        assert not progress.pending
        assert progress.logged_position == progress.journal_position


async def test_a_restored_device_signs_no_more(tmp_path: Path) -> None:
    """Rule 26: its own newest record in the log is news to it."""
    async with in_process(tmp_path / "server") as server:
        alice = await found(server)
        async with laptop(server, alice, tmp_path / "one", "one") as one:
            realm = await one.create_realm()
            await one.open(realm)
            one.make("file", b"1")
            await one.push()
            backup = one.crash(tmp_path / "backup")
            one.write("file", b"2")
            await one.push()
        async with laptop(server, alice, backup, "one") as restored:
            await restored.open(realm)
            await restored.pull()
            assert await restored.read("file") == b"2"
            restored.write("file", b"3")
            with pytest.raises(RollbackError):
                await restored.push()

"""Synchronisation as it runs: events over a real socket, its own pace, nobody pushes by hand."""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from parsec_fs.protocol.hashing import read_stamp
from tests.support.laptops import Laptop, pair, place_of_process
from tests.support.server import make_home, socket_server
from tests.support.waiting import eventually


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[tuple[Laptop, Laptop]]:
    """Two devices that synchronise by themselves."""
    make_home(folder / "server")
    async with socket_server(folder / "server") as process:
        place = await place_of_process(process)
        async with pair(place, folder) as both, trio.open_nursery() as nursery:
            for one in both:
                await nursery.start(one.workspace.sync.run)
            yield both
            nursery.cancel_scope.cancel()


async def shows(one: Laptop, count: int) -> bool:
    """The root shows so many names and nothing is pending."""
    return len(await one.walk()) == count and not one.pending()


async def test_changes_arrive_by_themselves(tmp_path: Path) -> None:
    async with running(tmp_path) as (one, two):
        one.make("file", b"content")
        await eventually(lambda: shows(two, 1), timeout_s=10)
        assert await two.read("file") == b"content"
        two.unlink("file")
        await eventually(lambda: shows(one, 0), timeout_s=10)


async def test_a_thousand_files_arrive(tmp_path: Path) -> None:
    async with running(tmp_path) as (one, two):
        for number in range(1000):
            one.make(f"{number}", secrets.token_bytes(1000))
        await eventually(lambda: shows(two, 1000), timeout_s=20, every_s=0.1)
        assert one.wire.count("/v1/realm/commit") <= 3


async def test_both_fill_one_folder_at_once(tmp_path: Path) -> None:
    """Converges without conflict copies; at most three refusals a batch."""
    async with running(tmp_path) as (one, two):
        for number in range(500):
            one.make(f"one {number}", b"1")
            two.make(f"two {number}", b"2")
            await trio.lowlevel.checkpoint()
        for each in (one, two):
            await eventually(lambda each=each: shows(each, 1000), timeout_s=20, every_s=0.1)  # type: ignore[misc]
        assert await one.walk() == await two.walk()
        assert not any("conflict" in name for name in await one.walk())


async def test_everything_before_the_call_is_logged(tmp_path: Path) -> None:
    async with running(tmp_path) as (one, _):
        one.make("a", b"1")
        one.unlink("a")
        with trio.fail_after(10):
            await one.workspace.sync.wait_logged()
        one.make("b", b"2")
        with trio.fail_after(10):
            size = await one.workspace.sync.wait_logged()
        assert not one.pending()
        index = one.workspace.sync.logged_index(one.node("b").id)
        assert index is not None
        assert index < size


async def test_it_recovers_after_being_offline(tmp_path: Path) -> None:
    async with running(tmp_path) as (one, two):
        one.wire.cut = True
        one.make("file", b"1")
        await eventually(lambda: in_trouble(one), timeout_s=10)
        one.wire.cut = False
        await eventually(lambda: shows(two, 1), timeout_s=20)


async def in_trouble(one: Laptop) -> bool:
    """A push has failed."""
    return bool(one.workspace.sync.progress().trouble)


async def test_a_read_stamp_is_in_the_log(tmp_path: Path) -> None:
    async with running(tmp_path) as (one, _):
        before = one.workspace.replica.size()
        await one.workspace.replica.observe(read_stamp(one.author.random(32)))
        assert one.workspace.replica.size() > before

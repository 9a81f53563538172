"""The adaptive loop: no yield while requests come, a real turn often enough, nothing when idle.

Data flow: a pipe in place of /dev/fuse -> PollFirst -> whether other tasks got a turn.
"""

import os
import threading
from collections.abc import Iterator
from importlib.metadata import version

import pyfuse3
import pytest
import trio

from parsec_fs.mount import loop
from parsec_fs.storage.workers import Workers


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """(reading end, writing end)."""
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


class Turns:
    """Counts the turns that another task gets."""

    def __init__(self) -> None:
        self.count = 0

    async def run(self) -> None:
        while True:
            await trio.lowlevel.checkpoint()
            self.count += 1


def test_pyfuse3_is_the_version_whose_seam_this_is() -> None:
    assert version("pyfuse3").startswith("3.5.")
    assert pyfuse3.trio is not None  # type: ignore[attr-defined]


def test_installing_replaces_the_seam() -> None:
    before = pyfuse3.trio  # type: ignore[attr-defined]
    try:
        poller = loop.install(Workers())
        assert pyfuse3.trio.lowlevel is poller  # type: ignore[attr-defined]
        for name in ("Lock", "ClosedResourceError", "open_nursery"):
            assert hasattr(pyfuse3.trio, name)  # type: ignore[attr-defined]
        for name in ("current_task", "current_trio_token", "notify_closing", "wait_readable"):
            assert hasattr(poller, name)
    finally:
        pyfuse3.trio = before  # type: ignore[attr-defined]


async def test_no_turn_is_given_while_requests_wait(pipe: tuple[int, int]) -> None:
    poller, turns = loop.PollFirst(Workers(), spin_ns=1000), Turns()
    os.write(pipe[1], b"x")
    await poller.wait_readable(pipe[0])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(turns.run)
        await trio.lowlevel.checkpoint()
        poller._turn = loop._now() + 10**9
        before = turns.count
        for _ in range(20):
            await poller.wait_readable(pipe[0])
        assert turns.count == before
        nursery.cancel_scope.cancel()


async def test_others_get_a_turn_in_time(pipe: tuple[int, int]) -> None:
    poller, turns = loop.PollFirst(Workers()), Turns()
    os.write(pipe[1], b"x")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(turns.run)
        for _ in range(20):
            poller._turn = loop._now() - loop.TURN_NS
            await poller.wait_readable(pipe[0])
        assert turns.count >= 10
        nursery.cancel_scope.cancel()


async def test_a_result_of_a_worker_gets_a_turn_at_once(pipe: tuple[int, int]) -> None:
    workers = Workers()
    poller = loop.PollFirst(workers)
    os.write(pipe[1], b"x")
    await poller.wait_readable(pipe[0])
    result = workers.submit(lambda: 42, lambda result: None)
    workers.hurry(result)
    with trio.fail_after(5):
        while not result.done.is_set():
            await poller.wait_readable(pipe[0])
    assert result.get() == 42


async def test_a_result_that_nobody_waits_for_asks_for_no_turn() -> None:
    workers = Workers()
    result = workers.submit(lambda: 42, lambda result: None)
    with trio.fail_after(5):
        await result.done.wait()
    assert not workers.turn_wanted
    workers.hurry(result)
    assert workers.turn_wanted, "it had come before somebody waited"


async def test_whoever_awaits_a_result_waits_as_a_request_does(pipe: tuple[int, int]) -> None:
    workers = Workers()
    poller = loop.PollFirst(workers, spin_ns=1000)
    with trio.move_on_after(0):
        await poller.wait_readable(pipe[0])
    assert poller.nobody_waits()
    workers.turn_wanted = True
    assert not poller.nobody_waits()
    workers.turn_wanted = False
    os.write(pipe[1], b"x")
    assert not poller.nobody_waits()


async def test_spinning_in_vain_stops(pipe: tuple[int, int]) -> None:
    poller = loop.PollFirst(Workers(), spin_ns=1000)
    with trio.move_on_after(0):
        await poller.wait_readable(pipe[0])
    for _ in range(loop.PATIENCE):
        assert not poller._ready(loop._now())
    poller._spin_ns = 10**12
    assert not poller._ready(loop._now()), "no more spinning, however long it may"
    os.write(pipe[1], b"x")
    assert poller._ready(loop._now())
    assert poller._vain == 0


async def test_the_lock_is_fair_enough_and_exclusive() -> None:
    lock, inside, order = loop.UncontendedLock(), 0, []

    async def enter(number: int) -> None:
        nonlocal inside
        async with lock:
            inside += 1
            assert inside == 1
            await trio.lowlevel.checkpoint()
            inside -= 1
            order.append(number)

    async with trio.open_nursery() as nursery:
        for number in range(5):
            nursery.start_soon(enter, number)
    assert sorted(order) == [0, 1, 2, 3, 4]


async def test_workers_carry_errors_back() -> None:
    workers = Workers()

    def fail() -> None:
        raise OSError(28, "no room")

    with pytest.raises(OSError, match="no room"):
        await workers.run(fail)
    assert await workers.run(lambda: "after") == "after"


async def test_what_waits_for_the_disk_is_not_behind_the_work() -> None:
    workers, free = Workers(), threading.Event()
    busy = [workers.submit(free.wait, lambda result: None) for _ in range(4)]
    with trio.fail_after(30):
        assert await workers.run(lambda: "durable", waits=True) == "durable"
        assert not any(result.done.is_set() for result in busy)
        free.set()
        for result in busy:
            await result.done.wait()


async def test_a_mount_is_busy_while_requests_come_in_a_row(pipe: tuple[int, int]) -> None:
    poller = loop.PollFirst(Workers(), spin_ns=1000)
    os.write(pipe[1], b"x")
    assert not poller.busy()
    for _ in range(loop.BUSY_REQUESTS - 1):
        await poller.wait_readable(pipe[0])
    assert not poller.busy(), "a few requests are somebody who looks, not somebody who works"
    with trio.move_on_after(60):
        # Repeated: this machine may be so slow that one row of requests takes too long.
        while not poller.busy():
            await poller.wait_readable(pipe[0])
    assert poller.busy()


async def test_requests_of_our_own_making_are_no_use(pipe: tuple[int, int]) -> None:
    poller = loop.PollFirst(Workers(), spin_ns=1000)
    os.write(pipe[1], b"x")
    for _ in range(10 * loop.BUSY_REQUESTS):
        await poller.wait_readable(pipe[0])
        poller.discount()
        assert not poller.busy()
    assert poller.last_use_ns == 0
    with trio.move_on_after(60):
        while not poller.last_use_ns:
            poller._turn = 0  # let it really wait
            await poller.wait_readable(pipe[0])
    used = poller.last_use_ns
    assert used > 0
    poller._turn = 0
    await poller.wait_readable(pipe[0])
    assert poller.last_use_ns > used
    poller.discount()
    assert poller.last_use_ns == used, "the use before it still counts"

"""Where an fsync waits for the disk: in the event loop if the disk is quick and nobody waits.

Data flow: changes -> Filesystem.fsync -> the thread in which the journal was synchronised.
"""

import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import trio

from parsec_fs.protocol.ids import BlockId, RealmId
from parsec_fs.protocol.sealing import LocalSealer, local_ref
from parsec_fs.storage.contents import Contents
from parsec_fs.storage.journal import Journal
from parsec_fs.workspace.filesystem import Filesystem
from parsec_fs.workspace.syncs import QUICK_ONES, Syncs

ALWAYS_NS = 10**15


class Watched(Journal):
    """Knows which threads synchronised it."""

    threads: list[int]

    def sync(self) -> int:
        self.threads.append(threading.get_ident())
        return super().sync()


@contextmanager
def written_elsewhere(journal: Journal) -> Iterator[None]:
    """A thread is in the middle of a write."""
    begun, ended = threading.Event(), threading.Event()

    def write() -> None:
        with journal._writing:
            begun.set()
            ended.wait(30)

    writer = threading.Thread(target=write)
    writer.start()
    assert begun.wait(30)
    yield
    ended.set()
    writer.join()


class Overtaken(Watched):
    """A thread begins to write just before the event loop would."""

    def sync_at_once(self) -> int | None:
        with written_elsewhere(self):
            return super().sync_at_once()


@asynccontextmanager
async def workspace(
    folder: Path, quick_ns: int, kind: type[Watched] = Watched
) -> AsyncIterator[tuple[Filesystem, Watched]]:
    """Open; nobody waits, and an fdatasync below `quick_ns` counts as quick."""
    journal = kind(folder / "journal", LocalSealer(b"k" * 32))
    journal.threads = []
    contents = Contents(folder / "contents", RealmId(b"r" * 32))
    filesystem = Filesystem(journal=journal, contents=contents)
    filesystem.syncs = Syncs(journal, contents, filesystem.room, quick_ns)
    filesystem.syncs.nobody_waits = lambda: True
    filesystem.open()
    yield filesystem, journal
    filesystem.close()


async def fsyncs(filesystem: Filesystem, journal: Watched, count: int) -> list[bool]:
    """For each of so many: was it in the event loop?"""
    del journal.threads[:]
    for _ in range(count):
        filesystem.tree.record((0, b"a record"))
        with trio.fail_after(30):
            await filesystem.fsync(None)
        assert journal.synced == filesystem.tree.position
    return [one == threading.get_ident() for one in journal.threads]


async def test_a_quick_disk_is_waited_for_where_the_answer_is(tmp_path: Path) -> None:
    async with workspace(tmp_path, ALWAYS_NS) as (filesystem, journal):
        begun = await fsyncs(filesystem, journal, QUICK_ONES)
        assert not any(begun), "not before it has shown that it is"
        assert sum(await fsyncs(filesystem, journal, 20)) >= 15
        filesystem.syncs.nobody_waits = lambda: False
        assert not any(await fsyncs(filesystem, journal, 3)), "others would wait as well"


async def test_a_slow_disk_is_waited_for_in_a_thread(tmp_path: Path) -> None:
    async with workspace(tmp_path, 0) as (filesystem, journal):
        assert not any(await fsyncs(filesystem, journal, 3 * QUICK_ONES))


async def test_blocks_are_waited_for_in_a_thread(tmp_path: Path) -> None:
    async with workspace(tmp_path, ALWAYS_NS) as (filesystem, journal):
        await fsyncs(filesystem, journal, 2 * QUICK_ONES)
        files = filesystem.contents.files
        ref = local_ref(block_id=BlockId(b"b" * 16), key=bytes(32), size=6)
        files.add(ref, memoryview(b"sealed"))
        assert await fsyncs(filesystem, journal, 1) == [False]
        assert files.is_durable()
        assert await fsyncs(filesystem, journal, 1) == [True]


async def test_the_event_loop_does_not_wait_for_what_a_thread_writes(tmp_path: Path) -> None:
    async with workspace(tmp_path, ALWAYS_NS, Overtaken) as (filesystem, journal):
        assert not any(await fsyncs(filesystem, journal, QUICK_ONES + 5))
        assert journal.is_brief()
        with written_elsewhere(journal):
            assert not journal.is_brief()

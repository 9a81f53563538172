"""fsync waits for the disk in a thread: what closes meanwhile, or fails there, loses nothing.

Data flow: file system whose disk is held, or fails -> fsync -> what is durable, and still known.
"""

import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
import trio.testing

from parsec_fs.protocol.errors import LocalError
from parsec_fs.protocol.ids import RealmId
from parsec_fs.protocol.sealing import LocalSealer
from parsec_fs.storage.block_files import BlockFiles
from parsec_fs.storage.contents import Contents
from parsec_fs.storage.journal import Journal
from parsec_fs.workspace.filesystem import Filesystem


class HeldJournal(Journal):
    """The disk does nothing until it is let go."""

    go = threading.Event()
    asked = threading.Event()

    def sync(self) -> int:
        self.asked.set()
        assert self.go.wait(30)
        return super().sync()


async def test_closing_waits_for_an_fsync_under_way(tmp_path: Path) -> None:
    journal = HeldJournal(tmp_path / "journal", LocalSealer(b"k" * 32))
    contents = Contents(tmp_path / "contents", RealmId(b"r" * 32))
    filesystem = Filesystem(journal=journal, contents=contents)
    filesystem.open()
    ended = trio.Event()

    async def fsync() -> None:
        try:
            await filesystem.fsync(None)
        finally:
            ended.set()

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fsync)
            await trio.to_thread.run_sync(journal.asked.wait)
            nursery.cancel_scope.cancel()
            with trio.CancelScope(shield=True):
                await trio.testing.wait_all_tasks_blocked()
                assert not ended.is_set()
                journal.go.set()
    assert journal.synced == journal.position > 0
    filesystem.close()


class FailingBlocks(BlockFiles):
    """The disk refuses as long as it is told to."""

    failing = True

    def sync_job(self) -> Callable[[], None]:
        job = super().sync_job()

        def sync() -> None:
            if self.failing:
                raise OSError(errno.EIO, "blocks are not durable")
            job()

        return sync


async def test_blocks_that_fail_take_no_segment_along(tmp_path: Path) -> None:
    """A segment that was full when the blocks failed is synchronised and closed all the same;
    nothing counts as durable until both are."""
    journal = Journal(tmp_path / "journal", LocalSealer(b"k" * 32), segment_size=1)
    contents = Contents(tmp_path / "contents", RealmId(b"r" * 32))
    contents.files = files = FailingBlocks(tmp_path / "contents", limit=1 << 30)
    filesystem = Filesystem(journal=journal, contents=contents)
    filesystem.open()
    journal.flush()
    first = set(os.listdir("/proc/self/fd"))
    filesystem.tree.record((0, b"a record of the next segment"))
    with pytest.raises(LocalError):
        await filesystem.fsync(None)
    assert journal.synced < journal.position
    assert len(os.listdir("/proc/self/fd")) <= len(first), "the full segment is closed"
    files.failing = False
    await filesystem.fsync(None)
    assert journal.synced == journal.position
    filesystem.close()

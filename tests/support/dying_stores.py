"""Stores that end their process at a named point: where a crash must be harmless.

Data flow: name of a point -> `dying_stores` -> handed to the daemon's constructor -> SIGKILL when
the daemon passes the point for the n-th time.

The stores do what the real ones do, by the real ones' code; between two steps of it the process is
gone, without a chance to close, flush or tell anybody. What the kernel was given stays, as after
every end of a process. A point counts only while there is a file `armed`.
"""

import os
import signal
from collections.abc import AsyncIterator, Callable, Collection, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from parsec_fs.protocol.ids import BlockId, DeviceId
from parsec_fs.protocol.manifests import BlockRef
from parsec_fs.storage.block_files import BlockFiles
from parsec_fs.storage.contents import Contents
from parsec_fs.storage.journal import Journal
from parsec_fs.storage.journal_segment import Segment
from parsec_fs.storage.realm_store import RealmStore
from parsec_fs.storage.realm_writer import LeafRow, OutboxEntry, RealmWriter
from parsec_fs.workspace.assembly import Stores

WHILE_WRITING: Final = {
    "journal_before_append": "records wait in memory",
    "journal_torn_append": "half of a group is in the file",
    "journal_after_append": "a group is written, not durable",
    "journal_before_sync": "an fsync waits for its fdatasync",
    "journal_half_laid": "half of the zeros for frames to come are in the file",
    "journal_after_sync": "the group is durable, nobody was told",
    "journal_new_segment": "the next segment is there, empty, its name not durable",
    "journal_before_forget": "all of a segment is logged, and it is still there",
    "journal_after_forget": "segments are deleted",
    "block_written": "a block is sealed and written, no record names it",
    "blocks_before_sync": "blocks are about to be made durable",
    "blocks_after_sync": "blocks are durable, the records that name them are not",
    "block_sending": "blocks are being sent, no commit names them",
    "block_before_uploaded": "a commit is logged, its block still counts as waiting",
    "block_after_uploaded": "the block is cached, the next one still counts as waiting",
    "block_discarded": "a block that was replaced before it was sent is deleted",
    "outbox_before_commit": "commits are signed, not in the outbox",
    "outbox_after_commit": "commits are in the outbox, not sent",
    "answer_before_commit": "commits are sent and logged, the answer is not stored",
    "answer_after_commit": "the answer is stored, the journal still holds the changes",
}
"""Points that a busy writer reaches, now or when its changes are sent."""
WHILE_PULLING: Final = {
    "pulled_before_commit": "another device's change is verified, not stored",
    "pulled_after_commit": "it is stored, neither the tree nor the kernel knows",
}
WHILE_ENDING: Final = {
    "journal_before_close": "blocks are durable, the last group is not written",
    "journal_after_close": "all is durable, the stores are open",
}
WHILE_STARTING: Final = {
    "sweep_amid": "one of the blocks that nothing refers to is deleted",
    "sweep_after": "all of them are, nothing is mounted yet",
}
"""Points that a start after `block_written` reaches."""

SEGMENT_SIZE: Final = 64 * 1024
"""Instead of 16 MiB: a new one every few changes."""


@dataclass(slots=True)
class Death:
    """The end of this process when it passes `point` for the n-th time (`passes` from now)."""

    point: str
    passes: int
    armed: Path

    def at(self, point: str) -> None:
        """The process passes a point."""
        if self.is_next(point):
            os.kill(os.getpid(), signal.SIGKILL)

    def is_next(self, point: str) -> bool:
        """Counts; is this where it ends?"""
        if point != self.point or not self.armed.exists():
            return False
        self.passes -= 1
        return self.passes == 0


def dying_stores(death: Death, own: DeviceId) -> Stores:
    """Stores of the device `own`."""
    return Stores(
        realm=_realm_store(death, own), journal=_journal(death), contents=_contents(death)
    )


def _journal(death: Death) -> type[Journal]:
    class Dying(Journal):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, segment_size=SEGMENT_SIZE, **kwargs)

        def write(self) -> int:
            if not self._sealed:
                return super().write()
            death.at("journal_before_append")
            if self._groups and death.is_next("journal_torn_append"):
                self._tear()
            done = super().write()
            death.at("journal_after_append")
            return done

        def _tear(self) -> None:
            """As a power cut leaves it: the first half of a frame."""
            last = self._groups[-1]
            frame = last.path.read_bytes()[last.offset : last.offset + last.size]
            assert self._segment is not None
            os.pwrite(self._segment.fd, frame[: len(frame) // 2], self._segment.size)
            os.kill(os.getpid(), signal.SIGKILL)

        def _lay_half(self) -> None:
            """As a power cut leaves it: half of the zeros up to the segment's end."""
            assert self._segment is not None
            missing = self._segment.limit - self._segment.size
            os.pwrite(self._segment.fd, bytes(missing // 2), self._segment.size)
            os.kill(os.getpid(), signal.SIGKILL)

        def _start_segment(self, position: int) -> Segment:
            started = super()._start_segment(position)
            death.at("journal_new_segment")
            return started

        def _make_durable(self) -> int:
            death.at("journal_before_sync")
            lays = self._segment is not None and self._segment.lays_next()
            if lays and death.is_next("journal_half_laid"):
                self._lay_half()
            done = super()._make_durable()
            death.at("journal_after_sync")
            return done

        def forget(self, position: int) -> None:
            before = len(list(self.directory.glob("*.journal")))
            if before > 1:
                death.at("journal_before_forget")
            super().forget(position)
            if len(list(self.directory.glob("*.journal"))) < before:
                death.at("journal_after_forget")

        def close(self) -> None:
            death.at("journal_before_close")
            super().close()
            death.at("journal_after_close")

    return Dying


def _block_files(death: Death) -> type[BlockFiles]:
    class Dying(BlockFiles):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.sweeping = False

        def add(self, ref: BlockRef, sealed: memoryview) -> None:
            super().add(ref, sealed)
            death.at("block_written")

        def sync_job(self) -> Callable[[], None]:
            job, some = super().sync_job(), bool(self._unsynced)

            def sync() -> None:
                if some:
                    death.at("blocks_before_sync")
                job()
                if some:
                    death.at("blocks_after_sync")

            return sync

        def uploaded(self, ref: BlockRef) -> None:
            waiting = self.is_pending(ref.id)
            if waiting:
                death.at("block_before_uploaded")
            super().uploaded(ref)
            if waiting:
                death.at("block_after_uploaded")

        def discard(self, block_id: BlockId) -> None:
            super().discard(block_id)
            death.at("sweep_amid" if self.sweeping else "block_discarded")

        def sweep(self, referenced: Iterable[BlockRef]) -> int:
            self.sweeping = True
            found = super().sweep(referenced)
            self.sweeping = False
            if found:
                death.at("sweep_after")
            return found

    return Dying


def _contents(death: Death) -> type[Contents]:
    files_type = _block_files(death)

    class Dying(Contents):
        def __init__(self, directory: Path, *args: Any, **kwargs: Any) -> None:
            super().__init__(directory, *args, **kwargs)
            self.files = files_type(directory, limit=self.files.limit)

        def read_checked(self, ref: BlockRef) -> bytes:
            death.at("block_sending")
            return super().read_checked(ref)

    return Dying


class _Watched(RealmWriter):
    """A transaction that knows what it is about."""

    def __init__(self, *args: Any, own: DeviceId) -> None:
        super().__init__(*args)
        self.own = own
        self.about: set[str] = set()

    def post(self, entry: OutboxEntry) -> None:
        super().post(entry)
        self.about.add("outbox")

    def leaf(self, row: LeafRow) -> None:
        super().leaf(row)
        self.about.add("answer" if row.author == self.own else "pulled")


def _realm_store(death: Death, own: DeviceId) -> type[RealmStore]:
    class Dying(RealmStore):
        @asynccontextmanager
        async def writing(self) -> AsyncIterator[RealmWriter]:
            about: Collection[str] = ()
            async with self._db.transaction() as connection:
                watched = _Watched(connection, self.heads, self.takeovers, own=own)
                yield watched
                about = watched.about
                for one in about:
                    death.at(f"{one}_before_commit")
            for one in about:
                death.at(f"{one}_after_commit")

    return Dying

"""Making the journal durable: whoever asks while one fdatasync is under way shares the next.

Data flow: fsync, every 5 s, before a capture is sent -> this -> storage/journal -> disk.

Where the disk is quick, the way to a thread and back takes longer than what is done there: of the
680 us of an fsync that SQLite waited for, 230 were write and fdatasync. So a brief one is done in
the event loop, where requests of others would wait for it: only after the disk was quick many times
in a row, while nobody else's request or awaited result is there, no thread is writing to the
journal, and no block is to be made durable with it. One that was slow sends those after it back to
the thread.
"""

import time
from collections.abc import Callable
from typing import Final

import trio

from parsec_fs.protocol.errors import LocalError
from parsec_fs.storage.contents import Contents
from parsec_fs.storage.journal import Journal
from parsec_fs.workspace.room import Room, told

QUICK_NS: Final = 500_000
"""Others may wait so long for a brief fdatasync, less than for a turn of the event loop."""

QUICK_ONES: Final = 16
"""So many of them in a row, until the next is taken for one."""


class Syncs:
    """Of one journal. `nobody_waits`: has the event loop nothing else to answer right now?"""

    def __init__(
        self, journal: Journal, contents: Contents, room: Room, quick_ns: int = QUICK_NS
    ) -> None:
        self.nobody_waits: Callable[[], bool] = lambda: False
        self._journal = journal
        self._contents = contents
        self._room = room
        self._quick_ns = quick_ns
        self._running: trio.Event | None = None
        self._quick = 0

    async def sync(self, position: int) -> None:
        """Durable up to `position`. Raises LocalError."""
        while self._journal.synced < position:
            if self._running is not None:
                await self._running.wait()
                continue
            self._journal.take()
            try:
                brief = self._journal.is_brief()
                if not (brief and self._is_quick() and self._at_once()):
                    await self._in_thread(self._timed if brief else self._journal.sync)
                self._room.unwritable = 0
            except OSError as error:
                raise LocalError("journal cannot be written", errno=told(error)) from error

    async def blocks(self) -> None:
        """All blocks sealed so far are durable, named in the journal or not. Raises LocalError: the
        upload tries again later."""
        try:
            await self._contents.make_durable(lambda: None)
        except OSError as error:
            raise LocalError("blocks cannot be written", errno=told(error)) from error

    def _at_once(self) -> bool:
        """A brief one, in the event loop; False if a thread was quicker to begin."""
        start = time.perf_counter_ns()
        done = self._journal.sync_at_once()
        if done is None:
            return False
        self._took(time.perf_counter_ns() - start)
        self._journal.synced = done
        return True

    def _is_quick(self) -> bool:
        """May the event loop wait for a brief one?"""
        if self._quick < QUICK_ONES or not self._contents.files.is_durable():
            return False
        return self.nobody_waits()

    async def _in_thread(self, sync: Callable[[], int]) -> None:
        self._running = trio.Event()
        try:
            with trio.CancelScope(shield=True):  # closing must not find it under way
                self._journal.synced = await self._contents.make_durable(sync)
        finally:
            self._running.set()
            self._running = None

    def _timed(self) -> int:
        """A brief one, in a thread."""
        start = time.perf_counter_ns()
        done = self._journal.sync()
        self._took(time.perf_counter_ns() - start)
        return done

    def _took(self, duration_ns: int) -> None:
        """What a brief one says about the next."""
        self._quick = self._quick + 1 if duration_ns < self._quick_ns else 0

"""Records on their way into the journal: a group at a time, at the latest 20 ms after the change.

Data flow: tree -> `emit` -> storage/journal, in a thread -> disk.

Measured beside a copy of 1 GiB: the system call that appends a group takes up to 60 ms, because the
disk's file system is busy with the blocks of others. In the event loop every request waited for it.
Only that call is made in a thread: a group is sealed where its records are made.
"""

import logging
from collections.abc import Callable
from typing import Final

import trio

from parsec_fs.storage.journal import Journal
from parsec_fs.workspace.records import Record
from parsec_fs.workspace.room import Room

log = logging.getLogger(__name__)

GROUP_DELAY_S: Final = 0.012
"""From the first change of a group to its write; with scheduling below the 20 ms promised."""

RETRY_S: Final = 1.0
"""Between attempts while the journal cannot be written (no room); new data is refused meanwhile."""


class Groups:
    """`begin`, called before a group is written, in the event loop: is there anything to write?"""

    def __init__(self, journal: Journal, room: Room, *, begin: Callable[[], bool]) -> None:
        self._journal = journal
        self._room = room
        self._begin = begin
        self._changed = trio.Event()

    def emit(self, record: Record) -> None:
        """One more record of the group to come."""
        waiting = self._journal.records
        waiting.append(record)
        if len(waiting) == 1:
            self._changed.set()

    def stir(self) -> None:
        """There may be something to write without a record."""
        self._changed.set()

    async def run(self) -> None:
        """Write what comes, until cancelled."""
        while True:
            await self._changed.wait()
            await trio.sleep(GROUP_DELAY_S)
            self._changed = trio.Event()
            if self._begin():
                self._journal.take()
                try:
                    await trio.to_thread.run_sync(self._journal.write)
                    self._room.unwritable = 0
                except OSError as error:
                    self._failed(error)
            if self._room.unwritable:
                await trio.sleep(RETRY_S)
            if not self._journal.is_written():
                self._changed.set()

    def flush(self) -> None:
        """Write the group of records made so far; without room they wait for the next attempt."""
        if self._begin():
            try:
                self._journal.flush()
                self._room.unwritable = 0
            except OSError as error:
                self._failed(error)

    def _failed(self, error: OSError) -> None:
        if not self._room.unwritable:
            log.error("journal: cannot write: %s", error)
        self._room.failed(error)

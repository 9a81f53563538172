"""The segment file that the journal is writing: frames at its end, perhaps over zeros laid ahead.

Data flow: journal -> frames -> this -> disk.

Each append changes the file's size and its blocks, and an fdatasync behind it waits until the
disk's file system has committed that as well. Over zeros that are on the disk already there is
nothing to commit. So where a segment is synchronised again and again with little in between, zeros
are laid ahead, before an fdatasync that is made in any case.

Rules guarded here:
- a frame lies over zeros or behind the file's end, never both: of one that does both, a power cut
  can leave out a part in the middle and keep its end, which looks like damage;
- a finished segment is cut to what was written; zeros at its end mean a crash, and are its end for
  whoever reads it (`journal_frames`);
- no room for zeros is no failure: frames are appended as without them.
"""

import errno
import os
from pathlib import Path
from typing import Final

BRIEF: Final = 64 * 1024
"""So much at most between two fdatasyncs: what programs write that wait for each transaction."""

BRIEF_SYNCS: Final = 4
"""So many in a row before zeros are laid: a segment that is seldom synchronised needs none."""

AHEAD: Final = 1024 * 1024
"""Zeros laid at once: about 200 transactions of SQLite, for one or two milliseconds."""

NO_ROOM_SYNCS: Final = 1000
"""Appended after zeros found no room, before they are tried again."""

_ZEROS: Final = bytes(AHEAD)


class Segment:
    """`size`: where the next frame goes; `limit`: no zeros are laid beyond it, in bytes."""

    __slots__ = ("_brief", "_end", "_unsynced", "fd", "limit", "path", "size")

    def __init__(self, path: Path, limit: int) -> None:
        """Raises OSError; then there is no new file, or an empty one."""
        self.fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self.path = path
        self.limit = limit
        self.size = self._end = os.fstat(self.fd).st_size
        self._unsynced = 0
        self._brief = 0

    def append(self, frame: bytes) -> None:
        """Write a frame. Raises OSError, and then the next one takes its place."""
        if self._outgrows_zeros(len(frame)):
            self.cut()
        done = os.pwrite(self.fd, frame, self.size)
        self._end = max(self._end, self.size + done)
        if done != len(frame):
            # Out of space: take the torn frame back, so that a later one follows intact ones.
            self.cut()
            raise OSError(errno.ENOSPC, "journal: no space left")
        self.size += done
        self._unsynced += done

    def cut(self) -> None:
        """Drop whatever lies behind the last frame. Raises OSError."""
        if self._end > self.size:
            os.ftruncate(self.fd, self.size)
            self._end = self.size

    def is_brief(self, more: int) -> bool:
        """True iff an fdatasync after `more` bytes would write little, and lay or cut no zeros."""
        if self._unsynced + more > BRIEF or self._outgrows_zeros(more):
            return False
        return not self.lays_next(more)

    def _outgrows_zeros(self, more: int) -> bool:
        return self.size < self._end < self.size + more

    def lays_next(self, more: int = 0) -> bool:
        """True iff an fdatasync after `more` bytes would lay zeros: those before it followed each
        other quickly, and too few are left for what may come until the next."""
        return self._brief >= BRIEF_SYNCS and self._end < min(self.size + more + BRIEF, self.limit)

    def before_sync(self) -> None:
        """An fdatasync comes: lay zeros, if it is time."""
        if self._unsynced > BRIEF:
            self._brief = 0
        elif self.lays_next():
            self._lay()
        else:
            self._brief += 1
        self._unsynced = 0

    def _lay(self) -> None:
        missing = min(AHEAD, self.limit - self._end)
        try:
            done = os.pwrite(self.fd, _ZEROS[:missing], self._end)
        except OSError:
            done = 0
        self._end += done
        if done != missing:
            self._brief = -NO_ROOM_SYNCS
            self.cut()

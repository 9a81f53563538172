"""The journal: every local change, sealed in groups, on this device's disk before anything else.

Data flow: workspace/tree -> records -> this -> segment files; segment files -> `replay` -> tree.

Rules guarded here (decisions.md 6, rule 5):
- records have consecutive positions; a group is sealed at once, bound to its position and count,
  under a salted single-use key, and written with one write;
- a torn tail (the last write before a crash) is cut off silently: nobody was told it is safe;
- zeros behind the last frame of a segment were laid for frames to come (`journal_segment`), and
  are its end;
- a damaged group costs itself: what lies before it is applied, intact groups behind it are given
  back as salvage, and the damaged segments are kept aside, never deleted;
- a segment is named by the position behind what is intact before it: if one is missing, that is
  damage like any other;
- segments whose records are all logged are deleted by `forget`.
"""

import errno
import os
import threading
from bisect import bisect_right
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from parsec_fs.protocol.errors import DecryptionError
from parsec_fs.storage.journal_frames import Group
from parsec_fs.storage.journal_groups import Record, Sealer, open_group, parts, seal_group
from parsec_fs.storage.journal_scan import SUFFIX, Recovered, scan
from parsec_fs.storage.journal_segment import Segment

SEGMENT_SIZE: Final = 16 * 1024 * 1024
GROUP_MAX_RECORDS: Final = 20_000


class Journal:
    """A file per 16 MiB. `append` costs a list append, `take` seals a group, `write` waits for the
    disk.

    `position` is that of the last sealed record, `written` of the last one written,
    `synced` of the last one that survives a power cut.
    """

    def __init__(
        self,
        directory: Path,
        sealer: Sealer,
        *,
        random: Callable[[int], bytes] = os.urandom,
        segment_size: int = SEGMENT_SIZE,
    ) -> None:
        self.directory = directory
        self.sealer = sealer
        self.random = random
        self.segment_size = segment_size
        self.records: list[Record] = []
        self.append: Callable[[Record], None] = self.records.append
        self.position = self.written = self.synced = 0
        self._groups: list[Group] = []
        self._segment: Segment | None = None
        self._first = self._continues = 0
        self._finished: list[Segment] = []
        self._doubtful = False
        self._sealed: deque[tuple[int, int, bytes]] = deque()
        self._writing = threading.RLock()
        self._opened: tuple[int, tuple[Any, ...]] = (0, ())
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    # Opening

    def open(self, after: int) -> Recovered:
        """Read everything behind position `after`; then new records continue behind it all."""
        found = scan(self.directory, self.sealer, after)
        for path, size in found.cuts:
            os.truncate(path, size)
        self._groups = found.groups
        self._set_aside(found.recovered)
        if found.recovered.damaged:
            # New positions are behind all that were seen, and the gap before them is no damage.
            self._continues = max(found.end, after) + 1
        self.position = self.written = self.synced = found.last
        return found.recovered

    def damaged(self) -> list[Path]:
        """Segments with damage; nothing is changed. A torn tail is none."""
        return scan(self.directory, self.sealer, 0).recovered.damaged

    def _set_aside(self, recovered: Recovered) -> None:
        """Damaged segments, and all behind them, are kept for people; the prefix is rewritten."""
        if not recovered.damaged:
            return
        aside = self.directory / "damaged"
        aside.mkdir(mode=0o700, exist_ok=True)
        first = recovered.damaged[0]
        prefix = [group for group in self._groups if group.path == first]
        data = first.read_bytes()
        kept = b"".join(data[group.offset : group.offset + group.size] for group in prefix)
        moved = []
        for path in recovered.damaged:
            target = aside / f"{path.name}.{len(list(aside.iterdir()))}"
            path.rename(target)
            moved.append(target)
        recovered.damaged = moved
        offset = 0
        for group in prefix:
            group.offset, offset = offset, offset + group.size
        if kept:
            first.touch(mode=0o600)
            first.write_bytes(kept)
            _sync_path(first)
        _sync_path(self.directory)

    # Appending

    def flush(self) -> int:
        """Write what was appended since; the position up to which all is written."""
        self.take()
        return self.write()

    def take(self) -> None:
        """Seal what was appended since, for `write`. Where records are appended: it computes, and a
        thread that does that holds up every request."""
        while self.records:
            group = self.records[:GROUP_MAX_RECORDS]
            del self.records[: len(group)]
            for part in parts(group):
                self._sealed.append(self._seal(part))

    def _seal(self, records: list[Record]) -> tuple[int, int, bytes]:
        """Position, count and frame of a group."""
        position, count = self.position + 1, len(records)
        frame = seal_group(self.sealer, position, records, salt=self.random(32))
        self.position += count
        return position, count, frame

    def write(self) -> int:
        """Write what was taken; the position up to which all is written. Also in a worker thread:
        it only waits for the disk. Raises OSError, and then nothing is lost: what was not written
        stays first in line."""
        with self._writing:
            while self._sealed:
                self._write(*self._sealed[0])
                self._sealed.popleft()
            return self.written

    def is_written(self) -> bool:
        """True iff nothing waits."""
        return not (self.records or self._sealed)

    def _write(self, position: int, count: int, frame: bytes) -> None:
        segment = self._segment
        if segment is None or segment.size >= self.segment_size:
            segment = self._start_segment(position)
        offset = segment.size
        segment.append(frame)
        self._groups.append(Group(position, count, segment.path, offset, len(frame)))
        self.written = position + count - 1

    def _start_segment(self, position: int) -> Segment:
        path = self.directory / f"{self._continues or position:016x}{SUFFIX}"
        if self._segment is not None:
            self._segment.cut()
        opened = Segment(path, self.segment_size)  # first: where it fails, nothing has changed
        if self._segment is not None:
            self._finished.append(self._segment)
        self._segment, self._first, self._continues = opened, position, 0
        return opened

    def is_brief(self) -> bool:
        """True iff `sync` would now wait for nothing but one write and fdatasync of a little."""
        segment = self._segment
        if segment is None or self._finished or self._is_writing():
            return False
        if segment.size >= self.segment_size or self.synced < self._first:
            return False
        # Copied in one step: a thread takes from the front what it has written.
        return segment.is_brief(sum(len(frame) for _, _, frame in list(self._sealed)))

    def _is_writing(self) -> bool:
        """Is a thread at it?"""
        free = self._writing.acquire(blocking=False)
        if free:
            self._writing.release()
        return not free

    def sync_at_once(self) -> int | None:
        """As `sync`, for the event loop: None, and nothing is done, where a thread has begun to
        write since `is_brief`. No thread begins before it is over."""
        if not self._writing.acquire(blocking=False):
            return None
        try:
            return self.sync()
        finally:
            self._writing.release()

    def sync(self) -> int:
        """Write what was taken, and make everything written until now durable; the position for
        `synced`, which the caller sets. For a worker thread; one at a time.

        Raises OSError, and after a failed fdatasync for ever: the kernel forgets pages that it
        could not write, so that a later success says nothing about them. Only a new start reads
        what is really there."""
        try:
            self.write()
        finally:
            # What is full is closed in any case.
            written = self._make_durable()
        return written

    def _make_durable(self) -> int:
        with self._writing:
            written, current, finished = self.written, self._segment, self._finished
            self._finished = []
            new_files = finished or self.synced < self._first
            if current is not None:
                current.before_sync()
        if self._doubtful:
            raise OSError(errno.EIO, "the disk has lost records; mount again to see what is left")
        self._doubtful = True
        for segment in finished:
            os.fdatasync(segment.fd)
            os.close(segment.fd)
        if current is not None:
            os.fdatasync(current.fd)
        if new_files:
            _sync_path(self.directory)
        self._doubtful = False
        return written

    # Reading again and forgetting

    def read(self, position: int) -> Record:
        """One record again (content that left memory). Raises DecryptionError."""
        first, items = self._opened
        if not first <= position < first + len(items):
            group = self._group_of(position)
            with open(group.path, "rb") as file:
                file.seek(group.offset)
                data = file.read(group.size)
            here = Group(group.position, group.count, group.path, 0, len(data))
            opened = open_group(self.sealer, here, data)
            if opened is None:
                raise DecryptionError("journal: group does not open")
            first, items = self._opened = (group.position, tuple(opened))
        record: Record = items[position - first]
        return record

    def _group_of(self, position: int) -> Group:
        index = bisect_right(self._groups, position, key=lambda group: group.position) - 1
        if index < 0 or position >= self._groups[index].position + self._groups[index].count:
            raise DecryptionError("journal: position is not there")
        return self._groups[index]

    def forget(self, position: int) -> None:
        """Delete segments whose records are all logged (at or before `position`)."""
        # Before the groups are looked at: a flush may begin another now.
        current = self._segment and self._segment.path
        last: dict[Path, int] = {}
        groups = self._groups.copy()
        for group in groups:
            last[group.path] = group.position + group.count - 1
        gone = {path for path, end in last.items() if end <= position and path != current}
        for path in sorted(gone):  # a crash in between leaves no gap
            path.unlink(missing_ok=True)
        # In one step, and only from the front, where no flush appends.
        del self._groups[: sum(1 for group in groups if group.path in gone)]

    def size(self) -> int:
        """Bytes on disk."""
        return sum(group.size for group in self._groups)

    def close(self) -> None:
        """Write and sync what is left."""
        self.flush()
        if (self._segment is not None or self._finished) and not self._doubtful:
            self.synced = self._make_durable()
        if self._segment is not None:
            self._segment.cut()
            os.close(self._segment.fd)
            self._segment = None


def _sync_path(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)

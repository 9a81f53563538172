"""The journal: every local change, sealed in groups, on this device's disk before anything else.

Data flow: workspace/tree -> records -> this -> segment files; segment files -> `replay` -> tree.

Rules guarded here (decisions.md 6, rule 5):
- records have consecutive positions; a group is sealed at once, bound to its position and count,
  under a salted single-use key, and appended with one write;
- a torn tail (the last write before a crash) is cut off silently: nobody was told it is safe;
- a damaged group costs itself: what lies before it is applied, intact groups behind it are given
  back as salvage, and the damaged segments are kept aside, never deleted;
- a segment is named by the position behind what is intact before it: if one is missing, that is
  damage like any other;
- segments whose records are all logged are deleted by `forget`.
"""

import errno
import os
import struct
import threading
import zlib
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

import msgpack

from parsec_fs.protocol.errors import DecryptionError
from parsec_fs.storage.journal_frames import (
    HEADER,
    MAGIC,
    Group,
    frames,
    frames_behind,
    salvageable,
)

Record = tuple[int | bytes, ...]
Positioned = tuple[int, Any]
"""Position and record."""

SEGMENT_SIZE: Final = 16 * 1024 * 1024
GROUP_MAX_RECORDS: Final = 20_000
GROUP_MAX_BYTES: Final = 8 * 1024 * 1024
"""A group larger than this is sealed as several: bounds memory when it is read again."""

_SUFFIX: Final = ".journal"


class Sealer(Protocol):
    """What `protocol.sealing.LocalSealer` does."""

    def seal(self, data: bytes, *, context: bytes, salt: bytes) -> bytes: ...

    def open(self, sealed: bytes, *, expected_context: bytes) -> bytes: ...


@dataclass(slots=True)
class Recovered:
    """What opening a journal found: records to apply, and what lies behind damage, if any."""

    records: list[Positioned] = field(default_factory=list)
    salvaged: list[Positioned] = field(default_factory=list)
    damaged: list[Path] = field(default_factory=list)
    """Segment files with damage, moved aside."""


@dataclass(slots=True)
class _Scan:
    """What lies in the segments. `torn`: where the last one has to be cut."""

    recovered: Recovered = field(default_factory=Recovered)
    groups: list[Group] = field(default_factory=list)
    end: int = 0
    """Position of the last intact record, or 0."""
    last: int = 0
    torn: tuple[Path, int] | None = None


class Journal:
    """An append-only file per 16 MiB. `append` costs a list append, `take` seals a group, `write`
    waits for the disk.

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
        self._fd = -1
        self._path = directory
        self._size = 0
        self._first = self._continues = 0
        self._unsynced: list[int] = []
        self._doubtful = False
        self._sealed: deque[tuple[int, int, bytes]] = deque()
        self._writing = threading.Lock()
        self._opened: tuple[int, tuple[Any, ...]] = (0, ())
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    # Opening

    def open(self, after: int) -> Recovered:
        """Read everything behind position `after`; then new records continue behind it all."""
        scan = self._scan(after)
        if scan.torn is not None:
            os.truncate(*scan.torn)
        self._groups = scan.groups
        self._set_aside(scan.recovered)
        if scan.recovered.damaged:
            # New positions are behind all that were seen, and the gap before them is no damage.
            self._continues = max(scan.end, after) + 1
        self.position = self.written = self.synced = scan.last
        return scan.recovered

    def damaged(self) -> list[Path]:
        """Segments with damage; nothing is changed. A torn tail is none."""
        return self._scan(0).recovered.damaged

    def _scan(self, after: int) -> _Scan:
        scan = _Scan(last=after)
        end, intact = 0, True
        paths = sorted(self.directory.glob("*" + _SUFFIX))
        for path in paths:
            data = path.read_bytes()
            groups, clean = frames(path, data)
            behind = 0 if clean else frames_behind(data, groups)
            scan.last = max(scan.last, int(path.stem, 16) - 1)
            for group in groups:
                items = self._open_group(group, data)
                follows = group.position == end + 1 or _may_begin(group, end, after)
                intact = intact and items is not None and follows
                end = group.position + group.count - 1
                _take(scan, group, items, after, intact)
            if not clean and behind == 0 and path == paths[-1]:
                scan.torn = (path, groups[-1].offset + groups[-1].size if groups else 0)
            elif not clean:
                intact = False
                for group in salvageable(path, data, behind):
                    _take(scan, group, self._open_group(group, data), after, False)
            if not intact:
                scan.recovered.damaged.append(path)
        return scan

    def _open_group(self, group: Group, data: bytes) -> list[Any] | None:
        sealed = data[group.offset + HEADER.size : group.offset + group.size]
        try:
            plain = self.sealer.open(sealed, expected_context=_context(group.position, group.count))
            items = msgpack.unpackb(plain, raw=True, use_list=False, strict_map_key=False)
        except (DecryptionError, ValueError, msgpack.exceptions.UnpackException):
            return None
        return list(items) if len(items) == group.count else None

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
            for part in _parts(group):
                self._sealed.append(self._seal(part))

    def _seal(self, records: list[Record]) -> tuple[int, int, bytes]:
        """Position, count and frame of a group."""
        position, count = self.position + 1, len(records)
        packed = msgpack.packb(records, use_bin_type=True)
        sealed = self.sealer.seal(packed, context=_context(position, count), salt=self.random(32))
        head = MAGIC + struct.pack(">QII", position, count, len(sealed))
        self.position += count
        return position, count, head + struct.pack(">I", zlib.crc32(head)) + sealed

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
        if self._fd < 0 or self._size >= self.segment_size:
            self._start_segment(position)
        done = os.write(self._fd, frame)
        if done != len(frame):
            # Out of space: take the torn frame back, so that a later one follows intact ones.
            os.ftruncate(self._fd, self._size)
            raise OSError(errno.ENOSPC, "journal: no space left")
        self._groups.append(Group(position, count, self._path, self._size, len(frame)))
        self._size += len(frame)
        self.written = position + count - 1

    def _start_segment(self, position: int) -> None:
        path = self.directory / f"{self._continues or position:016x}{_SUFFIX}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        opened = os.open(path, flags, 0o600)  # first: where it fails, nothing has changed
        if self._fd >= 0:
            self._unsynced.append(self._fd)
        self._fd, self._path, self._first, self._continues = opened, path, position, 0
        self._size = os.fstat(self._fd).st_size

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
            written, current, finished = self.written, self._fd, self._unsynced
            self._unsynced = []
            new_files = finished or self.synced < self._first
        if self._doubtful:
            raise OSError(errno.EIO, "the disk has lost records; mount again to see what is left")
        self._doubtful = True
        for fd in finished:
            os.fdatasync(fd)
            os.close(fd)
        if current >= 0:
            os.fdatasync(current)
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
            opened = self._open_group(here, data)
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
        current = self._path  # before the groups are looked at: a flush may begin another now
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
        if (self._fd >= 0 or self._unsynced) and not self._doubtful:
            self.synced = self._make_durable()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _take(scan: _Scan, group: Group, items: list[Any] | None, after: int, intact: bool) -> None:
    scan.last = max(scan.last, group.position + group.count - 1)
    if items is None:
        return
    target = scan.recovered.records if intact else scan.recovered.salvaged
    for position, record in enumerate(items, group.position):
        if position > after:
            target.append((position, record))
    if intact:
        scan.groups.append(group)
        scan.end = group.position + group.count - 1


def _may_begin(group: Group, end: int, after: int) -> bool:
    """May this group follow `end` with a gap? Only as the first of a segment, and if nothing that
    is needed was in between: what was forgotten is logged (up to `after`, or the journal begins
    here), and what was set aside is told by the segment's name."""
    if group.offset != 0 or group.position <= end:
        return False
    return end == 0 or int(group.path.stem, 16) <= max(end, after) + 1


def _context(position: int, count: int) -> bytes:
    return b"journal" + struct.pack(">QI", position, count)


def _parts(group: list[Record]) -> Iterator[list[Record]]:
    """Split a group where the contents in it reach the limit."""
    size = sum([len(record[-1]) for record in group if type(record[-1]) is bytes])
    if size <= GROUP_MAX_BYTES:
        yield group
        return
    part: list[Record] = []
    size = 0
    for record in group:
        part.append(record)
        size += len(record[-1]) if type(record[-1]) is bytes else 0
        if size >= GROUP_MAX_BYTES:
            yield part
            part, size = [], 0
    if part:
        yield part


def _sync_path(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)

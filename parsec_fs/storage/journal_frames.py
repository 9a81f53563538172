"""Frames of the journal's segment files: where each sealed group lies, also behind damage.

Data flow: bytes of a segment -> this -> groups -> journal, which opens them.

A segment is frames, one behind the other, and perhaps zeros behind the last (`journal_segment`).
A frame is: magic 4 | position 8 | count 4 | size of the sealed part 4 | CRC-32 of these 4 | sealed.
The CRC only finds frames again behind damage; integrity comes from the seal.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

MAGIC: Final = b"PFJ1"
HEADER: Final = struct.Struct(">4sQIII")
SECTOR: Final = 512
"""What a disk writes whole or not at all."""
_TAG: Final = 16
"""Of the seal, at a frame's end: never all zeros."""


@dataclass(slots=True)
class Group:
    """`position` of its first record, and how many; `size` bytes at `offset` of a segment."""

    position: int
    count: int
    path: Path
    offset: int
    size: int


def frames(path: Path, data: bytes) -> tuple[list[Group], bool]:
    """Frames from the beginning of a segment; False if something follows that is neither a frame
    nor zeros to the end: those were laid for frames to come."""
    groups: list[Group] = []
    offset, end = 0, len(data.rstrip(b"\0"))
    while offset < end:
        group = _frame_at(path, data, offset)
        if group is None:
            return groups, False
        groups.append(group)
        offset += group.size
    return groups, True


def _frame_at(path: Path, data: bytes, offset: int) -> Group | None:
    if len(data) - offset < HEADER.size:
        return None
    magic, position, count, size, crc = HEADER.unpack_from(data, offset)
    if magic != MAGIC or crc != zlib.crc32(data[offset : offset + HEADER.size - 4]):
        return None
    if offset + HEADER.size + size > len(data):
        return None
    return Group(position, count, path, offset, HEADER.size + size)


def frames_behind(data: bytes, groups: list[Group]) -> int:
    """Where the first whole frame behind damage starts, or 0 if there is none."""
    offset = groups[-1].offset + groups[-1].size if groups else 0
    while True:
        offset = data.find(MAGIC, offset + 1)
        if offset < 0:
            return 0
        if _frame_at(Path(), data, offset) is not None:
            return offset


def salvageable(path: Path, data: bytes, offset: int) -> Iterator[Group]:
    """Whole frames from `offset` on, passing over damage."""
    while 0 < offset < len(data):
        group = _frame_at(path, data, offset)
        if group is None:
            offset = data.find(MAGIC, offset + 1)
            continue
        yield group
        offset += group.size


def over_zeros(data: bytes, group: Group) -> bool:
    """True iff a part of the frame was never written over the zeros that were laid there, and zeros
    are still behind it: what is sealed has no such sector."""
    start, end = group.offset, group.offset + group.size
    if end == len(data) or data[-1]:
        return False
    begins = range(start - start % SECTOR, end, SECTOR)
    pieces = [data[max(begin, start) : min(begin + SECTOR, end)] for begin in begins]
    return not all(piece.strip(b"\0") for piece in [*pieces, data[end - _TAG : end]])

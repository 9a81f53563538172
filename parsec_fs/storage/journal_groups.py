"""Groups of the journal: records packed, sealed and framed, and opened again.

Data flow: records -> `parts` -> `seal_group` -> frame -> segment -> `open_group` -> records.

A group is bound to its position and count, and sealed under a salted single-use key (rule 5): a
frame in another place, or of another journal, does not open.
"""

import struct
import zlib
from collections.abc import Iterator
from typing import Any, Final, Protocol

import msgpack

from parsec_fs.protocol.errors import DecryptionError
from parsec_fs.storage.journal_frames import HEADER, MAGIC, Group

Record = tuple[int | bytes, ...]

GROUP_MAX_BYTES: Final = 8 * 1024 * 1024
"""A group larger than this is sealed as several: bounds memory when it is read again."""


class Sealer(Protocol):
    """What `protocol.sealing.LocalSealer` does."""

    def seal(self, data: bytes, *, context: bytes, salt: bytes) -> bytes: ...

    def open(self, sealed: bytes, *, expected_context: bytes) -> bytes: ...


def seal_group(sealer: Sealer, position: int, records: list[Record], *, salt: bytes) -> bytes:
    """The frame of a group whose first record has this position. `salt`: 32 fresh random bytes."""
    count = len(records)
    packed = msgpack.packb(records, use_bin_type=True)
    sealed = sealer.seal(packed, context=_context(position, count), salt=salt)
    head = MAGIC + struct.pack(">QII", position, count, len(sealed))
    return head + struct.pack(">I", zlib.crc32(head)) + sealed


def open_group(sealer: Sealer, group: Group, data: bytes) -> list[Any] | None:
    """Records of a group in the bytes of its segment; None if it does not open."""
    sealed = data[group.offset + HEADER.size : group.offset + group.size]
    try:
        plain = sealer.open(sealed, expected_context=_context(group.position, group.count))
        items = msgpack.unpackb(plain, raw=True, use_list=False, strict_map_key=False)
    except (DecryptionError, ValueError, msgpack.exceptions.UnpackException):
        return None
    return list(items) if len(items) == group.count else None


def _context(position: int, count: int) -> bytes:
    return b"journal" + struct.pack(">QI", position, count)


def parts(group: list[Record]) -> Iterator[list[Record]]:
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

"""Blocks that a sequential reader will want, opened before it asks.

Data flow: mount/operations (read) -> this -> storage/contents (worker threads, disk).
"""

from collections.abc import Sequence
from typing import Final

from parsec_fs.mount.handles import Handle
from parsec_fs.protocol.limits import BLOCK_SIZE
from parsec_fs.protocol.manifests import BlockRef
from parsec_fs.storage.contents import Contents

OPEN_BLOCKS: Final = 4
"""So many are opened ahead: both workers stay busy while the reader takes one."""

ANNOUNCE_BLOCKS: Final = 8
"""So far ahead of a block that is opened the kernel begins to read: a disk is slow when it is asked
for one file after the other."""


def read_ahead(
    contents: Contents,
    handle: Handle,
    blocks: Sequence[BlockRef | None],
    offset: int,
    size: int,
) -> None:
    """Note a read of `size` bytes at `offset`; if it follows the last one, open what comes next."""
    sequential = handle.after == offset
    handle.after = offset + size
    if not sequential:
        return
    first = (offset + size) // BLOCK_SIZE
    for index in range(first, min(first + OPEN_BLOCKS, len(blocks))):
        ref = blocks[index]
        if ref is not None:
            later = index + ANNOUNCE_BLOCKS
            contents.prefetch(ref, blocks[later] if later < len(blocks) else None)

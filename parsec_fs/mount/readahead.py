"""Blocks that a reader will want, opened before it asks.

Data flow: mount/operations (open, read) -> this -> storage/contents (worker threads, disk).
"""

from collections.abc import Sequence
from typing import Final

from parsec_fs.mount.handles import Handle
from parsec_fs.protocol.limits import BLOCK_SIZE, KIB
from parsec_fs.protocol.manifests import BlockRef
from parsec_fs.storage.contents import Contents
from parsec_fs.workspace.nodes import FileNode

OPEN_BLOCKS: Final = 6
"""So many are opened ahead: two for each worker, so that all stay busy while the reader takes one
and the disk is always asked for more than one."""


SMALL_FILE: Final = 256 * KIB
"""Up to this size opening the only block costs less than waiting for it."""


def opened(contents: Contents, node: FileNode) -> None:
    """A file was opened for reading: a small one will be read, all of it, in a moment."""
    if node.blocks and node.size <= SMALL_FILE and node.blocks[0] is not None:
        contents.prefetch(node.blocks[0])


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
            contents.prefetch(ref)

"""Room for what programs write, asked for before any of it is accepted (decisions.md 6).

Data flow: filesystem.write, mount/guards -> this -> go on, or ENOSPC, EDQUOT.

Two kinds of room: the disk of this device, for journal and store; and the limit for blocks, of
which those that wait for their upload cannot be evicted. What is not sealed yet counts as the whole
block that it becomes. Where room is plenty an answer is a subtraction; it is measured twice a
second, and again before anything is refused.
"""

import errno
import logging
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from parsec_fs.protocol.errors import LocalError
from parsec_fs.protocol.limits import INLINE_MAX_SIZE, MIB
from parsec_fs.storage.block_files import BlockFiles
from parsec_fs.workspace import file_ops
from parsec_fs.workspace.nodes import FileNode, Node

log = logging.getLogger(__name__)

SPARE_ROOM: Final = 64 * MIB
"""Kept free on the backing file system: journal and store must still be able to write."""

NAMES_ROOM: Final = 16 * MIB
"""Below this new names and attributes are refused as well; what takes away is always accepted."""


class Room:
    """Of one workspace. `free`: bytes free on the disk; `disk`: of these, what is left since they
    were measured; `unwritable`: errno while the journal cannot be written, else 0."""

    __slots__ = ("_blocks", "_buffered", "_left", "_short", "disk", "free", "unwritable")

    def __init__(self, free: Callable[[], int], blocks: BlockFiles) -> None:
        self.free = free
        self.disk = 0
        self.unwritable = 0
        self._blocks = blocks
        self._left = 0
        self._short = 0
        self._buffered: dict[FileNode, None] = {}

    def open(self, nodes: Iterable[Node]) -> None:
        """What was replayed from the journal is not sealed yet either."""
        self._buffered = {one: None for one in nodes if type(one) is FileNode and one.buffers}
        self.measure()

    def for_data(self, node: FileNode, offset: int, size: int) -> None:
        """Bytes that are about to be written. Raises ENOSPC, EDQUOT, before they are accepted."""
        self.disk -= size
        if self.disk < SPARE_ROOM:
            self.require(SPARE_ROOM)
        if node.blocks is None and offset + size <= INLINE_MAX_SIZE:
            return
        needed = file_ops.growth(node, offset, size)
        self._left -= needed
        if self._left < 0:
            self._require_blocks(needed)
        self._buffered[node] = None

    def require(self, spare: int = NAMES_ROOM) -> None:
        """Raises ENOSPC or EDQUOT (EIO if the disk fails) unless so much stays free."""
        self.measure()
        if self.disk < spare:
            raise LocalError("no room on this device", errno=self.unwritable or errno.ENOSPC)

    def failed(self, error: OSError) -> None:
        """The journal cannot be written: nothing that needs room is accepted until it can."""
        self.disk, self.unwritable = 0, told(error)

    def measure(self) -> None:
        """Look again: at the disk, at the blocks on it, and at what will become blocks."""
        self.disk = 0 if self.unwritable else self.free()
        self._buffered = {node: None for node in self._buffered if node.buffers}
        unsealed = sum(file_ops.unsealed_size(node) for node in self._buffered)
        self._left = self._blocks.room() - unsealed
        if self._left >= self._short:
            self._short = 0
        self._blocks.evict()

    def problem(self) -> str:
        """Why new data is refused, and what ends it; empty if it is not."""
        if not self._short:
            return ""
        return (
            f"the room for blocks on this device (mount --cache {self._blocks.limit // MIB}) is "
            "full of changes that wait for their upload: new data is refused (EDQUOT); reading and "
            "deleting go on. It ends by itself as changes are uploaded; more room at once: "
            "parsec-fs umount, and mount with a larger --cache"
        )

    def _require_blocks(self, needed: int) -> None:
        self.measure()
        if self._left < needed:
            if not self._short:
                log.warning("new data is refused: %d bytes wait", self._blocks.pending_size)
            self._short = needed
            raise LocalError("no room for more blocks on this device", errno=errno.EDQUOT)
        self._left -= needed


def free_bytes(directory: Path) -> int:
    """On the file system that holds a folder."""
    found = os.statvfs(directory)
    return found.f_bavail * found.f_frsize


def told(error: OSError) -> int:
    """The errno for programs when this device's own files cannot be written."""
    return error.errno if error.errno in (errno.ENOSPC, errno.EDQUOT) else errno.EIO

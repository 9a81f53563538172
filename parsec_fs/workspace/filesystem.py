"""The workspace on this device: tree, journal and contents together.

Data flow: mount/operations -> this -> tree (names, files), storage/journal, storage/contents;
    sync -> `settle`, `capture`, `logged`, `apply_remote`.

A shell: it loads what the tree misses, runs the tasks that write groups of records (at the latest
20 ms after a change), sync them (5 s) and journal what open files hold (1 s), and moves content.
Common requests do not await anything; those that must are the methods declared `async`.
"""

import errno
import logging
import os
import time
from collections.abc import Callable, Iterable
from typing import Final, TypeVar

import trio

from parsec_fs.protocol.errors import LocalError
from parsec_fs.protocol.ids import ObjectId
from parsec_fs.protocol.limits import INLINE_MAX_SIZE, MIB
from parsec_fs.protocol.manifests import Child
from parsec_fs.storage.contents import Contents
from parsec_fs.storage.journal import Journal
from parsec_fs.storage.journal_scan import Recovered
from parsec_fs.workspace import capture as captures
from parsec_fs.workspace import (
    conflicts,
    file_ops,
    files,
    records,
    remote_changes,
    revival,
)
from parsec_fs.workspace.groups import Groups
from parsec_fs.workspace.held import Held
from parsec_fs.workspace.loader import EmptyStore, Loader
from parsec_fs.workspace.memory import Memory
from parsec_fs.workspace.nodes import (
    Buffer,
    FileNode,
    FolderNode,
)
from parsec_fs.workspace.room import Room, free_bytes
from parsec_fs.workspace.salvage import salvage
from parsec_fs.workspace.seal_queue import SealQueue
from parsec_fs.workspace.syncs import Syncs
from parsec_fs.workspace.tree import Tree

T = TypeVar("T")
log = logging.getLogger(__name__)

SYNC_EVERY_S: Final = 5.0
SWEEP_EVERY_S: Final = 0.5
"""How often data of files that stay open is journalled."""

BUFFERED_MAX: Final = 64 * MIB
PRESSURE_STEP: Final = 16 * MIB
"""Buffers are counted after this many written bytes, and sealed above the limit."""

TRIM_EVERY_S: Final = 30.0
KEEP_NODES: Final = 50_000
TRIM_SLICE: Final = 100
"""Above this many nodes, those that are clean and unused are dropped, in slices of about 0.1 ms."""

SMALL_TAIL: Final = 64 * 1024
"""A last block with at most this much new data is journalled at close, a larger one sealed."""


class Filesystem:
    """One open workspace."""

    def __init__(
        self,
        *,
        journal: Journal,
        contents: Contents,
        loader: Loader | None = None,
        random: Callable[[int], bytes] = os.urandom,
        clock: Callable[[], int] = time.time_ns,
        root_owner: tuple[int, int] = (0, 0),
    ) -> None:
        self.journal = journal
        self.contents = contents
        self.loader: Loader = loader or EmptyStore()
        self.clock = clock
        self.root_owner = root_owner
        self.room = Room(lambda: free_bytes(journal.directory), contents.files)
        self.groups = Groups(journal, self.room, begin=self._group)
        self.syncs = Syncs(journal, contents, self.room)
        self.tree = Tree(new_id=_id_source(random), emit=self.groups.emit)
        self.seals = SealQueue(self.tree, contents, on_error=self._seal_failed)
        self.memory = Memory(self.tree, journal, contents, self.loader)
        self.call, self.load = self.memory.call, self.memory.load
        self.small_content = self.memory.small_content
        self.keep_resident = self.memory.keep_resident
        self.held = Held(self.tree, trio.current_time, contents.files.is_pending)
        contents.on_damage = self.held.suspect
        self.oldest_change: float | None = None
        self.newest_change: float | None = None
        self.on_change: Callable[[], None] = lambda: None
        self._pressure = 0

    # Opening and closing

    def open(self) -> Recovered:
        """Replay the journal over the store. What lay behind damage is in `salvaged`."""
        now = self.clock()
        recovered = self.memory.open(now, self.root_owner)
        if recovered.salvaged:
            label = time.strftime("recovered %Y-%m-%d %H.%M", time.gmtime(now // 10**9)).encode()
            made = self.call(salvage, self.tree, recovered.salvaged, label, now)
            log.error("journal: damaged; %d files were put into %r", len(made), label)
        self.room.open(self.tree.nodes.values())
        return recovered

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """The tasks of an open workspace, until cancelled; then everything is journalled."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.groups.run)
                nursery.start_soon(self._sync_now_and_then)
                nursery.start_soon(self._sweep_open_files)
                nursery.start_soon(self._trim)
                nursery.start_soon(self.contents.count_cached)
                nursery.start_soon(self.seals.run)
                task_status.started()
        finally:
            self.close()

    def close(self) -> None:
        """Journal what is in memory, and make it durable."""
        self.journal_open_files()
        try:
            self.contents.durable_job()()
        finally:
            self.journal.close()

    # Content

    def write(self, node: FileNode, offset: int, data: bytes) -> bool:
        """Write into a file. True: the caller must await `relieve` before it answers.

        Raises ENOSPC or EDQUOT before anything is accepted.
        """
        self.room.for_data(node, offset, len(data))
        complete = self.call(files.write, self.tree, node, offset, data, self.clock())
        if complete < 0 and node.blocks is None:
            return False
        self._pressure += len(data)
        if complete >= 0:
            self.seals.start(node, complete, node.buffers[complete])
        return self._pressure > PRESSURE_STEP or self.seals.busy()

    async def relieve(self) -> None:
        """Wait until the memory held by unsealed data is within its limit."""
        await self.seals.room()
        if self._pressure > PRESSURE_STEP:
            self._pressure = 0
            buffered = [
                (node, index, buffer)
                for node in self._dirty_files()
                for index, buffer in node.buffers.items()
            ]
            excess = sum(len(buffer.data) for _, _, buffer in buffered) - BUFFERED_MAX
            for node, index, buffer in buffered:
                if excess > 0 and not buffer.sealing:
                    excess -= len(buffer.data)
                    self.seals.start(node, index, buffer)
                    await self.seals.room()

    def _dirty_files(self) -> list[FileNode]:
        nodes = (self.tree.nodes.get(id) for id in self.tree.dirty_nodes)
        return [node for node in nodes if type(node) is FileNode]

    def read_now(self, node: FileNode, offset: int, size: int) -> bytes | memoryview | None:
        """A range of a file if it is in memory, else None: then await `read`."""
        if node.blocks is None:
            if node.content is None:
                self.memory.load_content(node)
            return file_ops.read_inline(node, offset, size)
        size = min(size, node.size - offset)
        if size <= 0:
            return b""
        index, start = divmod(offset, MIB)
        if start + size > MIB:
            return None
        ref = file_ops.needs_base(node, index, start, start + size)
        base = b"" if ref is None else self.contents.cached(ref)
        if base is None:
            return None
        cut, buffer = node.cuts.get(index), node.buffers.get(index)
        return file_ops.compose(base, cut, buffer, start, start + size)

    async def read(self, node: FileNode, offset: int, size: int) -> bytes | memoryview:
        """A range of a file, from disk or network where needed. Raises LocalError (EIO)."""
        parts = []
        end = min(offset + size, node.size)
        for index, start, stop in file_ops.pieces(offset, end - offset):
            ref = file_ops.needs_base(node, index, start, stop)
            base = b"" if ref is None else await self.memory.block(node, index, ref)
            cut, buffer = node.cuts.get(index), node.buffers.get(index)
            parts.append(file_ops.compose(base, cut, buffer, start, stop))
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def released(self, node: FileNode) -> None:
        """A writer closed the file: its data is journalled, or on its way to be sealed.

        What is not sealed when the next group is written is journalled with it: the promise for
        closed files does not depend on how busy the workers are.
        """
        if not node.unjournaled:
            return
        if node.blocks is None or files.fresh_size(node) <= SMALL_TAIL:
            files.journal_content(self.tree, node)
            self.keep_resident(node)
            return
        for index, buffer in list(node.buffers.items()):
            if buffer.fresh and not buffer.sealing:
                self.seals.start(node, index, buffer)
        self.groups.stir()

    def journal_open_files(self) -> None:
        """Journal all data that is in memory only."""
        for node in list(self.tree.unjournaled):
            files.journal_content(self.tree, node)

    async def fsync(self, node: FileNode | None) -> int:
        """Everything about this file is durable on this device; the position that covers it.
        Raises LocalError, also (EIO) as long as the file needs a block that the disk has lost."""
        if node is not None:
            await self.seals.drained(node)
            files.journal_content(self.tree, node)
        position = self.tree.position
        await self.syncs.sync(position)
        undurable = self.contents.files.undurable
        if undurable and node is not None and file_ops.needs_any(node, undurable):
            raise LocalError("the disk has lost a block; see: parsec-fs status", errno=errno.EIO)
        return position

    async def settle(self) -> None:
        """Seal what changed files hold in memory, so that a capture can take them.

        Files still being written are left out until they are closed, synced or swept.
        """
        self.held.look()
        waiting = [node for node in self._dirty_files() if file_ops.unsettled(node)]
        for node in waiting:
            if node.unjournaled or node.blocks is None or node.id in self.held:
                continue
            if node.size <= INLINE_MAX_SIZE:
                await self._to_inline(node)
                continue
            for index in [*node.buffers, *(i for i in node.cuts if i not in node.buffers)]:
                buffer = node.buffers.setdefault(index, Buffer())
                if not buffer.sealing:
                    self.seals.start(node, index, buffer)
                    await self.seals.room()
        await self.seals.drained()
        self.held.look()

    async def _to_inline(self, node: FileNode) -> None:
        before = (node.mtime_ns, node.size)
        content = bytes(await self.read(node, 0, node.size)) if node.size else b""
        if (node.mtime_ns, node.size) == before and not node.unjournaled:
            files.became_inline(self.tree, node, content)

    # Journal tasks

    def flush(self) -> None:
        """Write the group of records made so far; without room they wait for the next attempt."""
        self.groups.flush()

    def _group(self) -> bool:
        """Is there a group to write? What is still on its way to a block goes with it."""
        for node in self.seals.late():
            files.journal_content(self.tree, node)
        if self.journal.is_written():
            self.room.unwritable = 0
            return False
        self.newest_change = trio.current_time()
        if self.oldest_change is None:
            self.oldest_change = self.newest_change
        self.on_change()
        return True

    async def _sync_now_and_then(self) -> None:
        while True:
            await trio.sleep(SYNC_EVERY_S)
            if self.journal.synced < self.tree.position:
                try:
                    await self.syncs.sync(self.tree.position)
                except LocalError as error:
                    # Whoever asks for it with fsync is told; the mount goes on.
                    log.error("journal: not durable: %s", error.__cause__)
            self.memory.discard_dropped()

    async def _sweep_open_files(self) -> None:
        while True:
            await trio.sleep(SWEEP_EVERY_S)
            self.journal_open_files()
            self.room.measure()

    async def _trim(self) -> None:
        """What is clean and not used leaves memory, a few nodes at a time."""
        while True:
            await trio.sleep(TRIM_EVERY_S)
            nodes = list(self.tree.nodes.values()) if len(self.tree.nodes) > KEEP_NODES else []
            for start in range(0, len(nodes), TRIM_SLICE):
                self.tree.trim(nodes[start : start + TRIM_SLICE])
                await trio.lowlevel.checkpoint()

    def _seal_failed(self, error: Exception) -> None:
        if isinstance(error, OSError):
            self.room.disk = 0
        log.error("contents: cannot seal a block: %s", error)

    # For synchronisation

    def dirty_since(self) -> tuple[float, float] | None:
        """trio times of the oldest and newest change to be logged, or None if nothing is."""
        if not (self.tree.dirty_nodes or self.tree.dirty_names) or self.held.rests():
            return None
        if self.oldest_change is None or self.newest_change is None:
            # What was replayed from the journal is as old as this program can know.
            self.oldest_change = self.newest_change = trio.current_time()
        return self.oldest_change, self.newest_change

    def capture(self, *, limit: int = captures.DEFAULT_LIMIT) -> captures.Capture:
        """Part of what is dirty (call `settle` before). See `workspace/capture.py`."""
        waiting = self.held.waiting()
        captured = captures.capture(
            self.tree,
            self.small_content,
            limit=limit,
            waiting=waiting,
            carried=self.held.is_carried(waiting),
            stored_xattrs=self.memory.stored_xattrs,
        )
        self.held.captured(waiting)
        return captured

    async def secure(self) -> None:
        """Before a capture is sent: its blocks, its records, what settled a conflict for it and
        what was left behind are durable. A position that is signed, or logged, must not be one that
        a power cut gives away again."""
        await self.syncs.blocks()
        await self.syncs.sync(self.tree.position)

    def logged(self, capture: captures.Capture) -> None:
        """The store has the capture (and `capture.position`): clean, and out of the journal."""
        captures.logged(self.tree, capture)
        self.journal.forget(capture.position)
        dirty = self.tree.dirty_nodes or self.tree.dirty_names
        self.oldest_change = self.newest_change if dirty else None

    def rejected(self, capture: captures.Capture) -> None:
        """The capture was refused or not sent: everything stays dirty."""
        captures.rejected(self.tree, capture)
        self.held.stir()

    def apply_remote(
        self, changes: Iterable[remote_changes.RemoteChange]
    ) -> list[remote_changes.Invalidation]:
        """What other devices changed (the store has it already); what the kernel must forget."""
        return remote_changes.apply_remote(self.tree, changes, self.loader.link_count)

    def create_conflict_copy(
        self, id: ObjectId, label: bytes
    ) -> tuple[ObjectId | None, list[remote_changes.Invalidation]]:
        """Our version of a file goes on beside the other one. See `workspace/conflicts.py`."""
        node = self.tree.nodes.get(id)
        if type(node) is not FileNode:
            return None, []
        return self.call(conflicts.set_aside, self.tree, node, label, self.clock())

    def revert(self, id: ObjectId) -> None:
        """Give up our changes of an object; follow with `apply_remote` of the store's version."""
        node = self.tree.nodes.get(id)
        if node is not None:
            conflicts.revert(self.tree, node)
        elif self.tree.dirty_nodes.pop(id, None) is not None:
            # Deleted here and not in memory any more: the deletion is given up.
            self.tree.record((records.REVERT, id))

    def adopt(self, id: ObjectId) -> list[remote_changes.Invalidation]:
        """A folder deleted elsewhere goes on here. See `workspace/revival.py`."""
        node = self.tree.nodes.get(id)
        if type(node) is not FolderNode:
            return []
        return self.call(revival.adopt, self.tree, node, self.memory.is_stored, self.clock())

    def give_way(
        self, folder: ObjectId, name: bytes, theirs: Child | None, label: bytes
    ) -> tuple[bytes | None, list[remote_changes.Invalidation]]:
        """Another device took the same name: ours gets a conflict name."""
        node = self.tree.nodes.get(folder)
        if type(node) is not FolderNode:
            return None, []
        return self.call(conflicts.give_way, self.tree, node, name, theirs, label, self.clock())


def _id_source(random: Callable[[int], bytes]) -> Callable[[], ObjectId]:
    """Object ids from a buffer of random bytes: one call to the system for 256 of them."""
    ids: list[ObjectId] = []

    def new_id() -> ObjectId:
        if not ids:
            data = random(4096)
            ids.extend(ObjectId(data[i : i + 16]) for i in range(0, 4096, 16))
        return ids.pop()

    return new_id

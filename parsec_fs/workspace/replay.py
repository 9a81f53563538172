"""Journal records back into the tree, when a workspace is opened.

Data flow: storage/journal -> this -> workspace/tree; what it needs is loaded through Missing.

Each record assigns full state, so replaying over a store that has it already changes nothing.
Everything replayed is dirty again, with the record's position. Nothing is recorded.
Records about an object that neither the store nor the journal has (it was deleted and the deletion
was logged) are passed over.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

from parsec_fs.protocol.errors import DataError
from parsec_fs.protocol.ids import BlockId, Hash, ObjectId
from parsec_fs.protocol.manifests import FOLDER, HOLE, BlockRef
from parsec_fs.workspace import file_ops, records
from parsec_fs.workspace.conflicts import drop_pending
from parsec_fs.workspace.nodes import (
    CHILDREN,
    NODE,
    FileNode,
    FolderNode,
    Missing,
    Node,
    SymlinkNode,
    new_node,
)
from parsec_fs.workspace.overlay import pending_in, place
from parsec_fs.workspace.tree import Tree


class Unknown(Exception):  # noqa: N818 - not an error: the record has lost its object
    """The record speaks of an object that does not exist any more."""


class Past(Protocol):
    """What others had changed when a record was made."""

    def begin(self) -> None:
        """Before the first record."""

    def reach(self, position: int) -> None:
        """Before the record at this position."""

    def take(self, size: int) -> None:
        """The tree shows what others wrote up to this size of the log."""

    def settled(self) -> None:
        """What was contested is settled."""

    def reverted(self, folder: FolderNode) -> None:
        """Changes of a folder itself were given up: it is what the store says, its names aside."""

    def take_rest(self) -> None:
        """After the last record: the tree shows what the store says."""

    def finish(self) -> None:
        """The tree is complete; records can be made."""


class NoPast:
    """Nobody else changed anything."""

    def begin(self) -> None:
        return

    def reach(self, position: int) -> None:
        return

    def take(self, size: int) -> None:
        return

    def settled(self) -> None:
        return

    def reverted(self, folder: FolderNode) -> None:
        return

    def take_rest(self) -> None:
        return

    def finish(self) -> None:
        return


class Replay:
    """Applies records to a tree. `absent`: ids that the store was asked for and does not have,
    or cannot open; these are in `damaged` too."""

    def __init__(self, tree: Tree, past: Past | None = None) -> None:
        self.tree = tree
        self.past: Past = past or NoPast()
        self.absent: set[ObjectId] = set()
        self.damaged: set[ObjectId] = set()
        self.digests: dict[BlockId, Hash] = {}
        self.apply_tag: dict[int, Callable[..., None]] = {
            records.CREATE: self._create,
            records.ENTRY: self._entry,
            records.MOVE: self._move,
            records.SWAP: self._swap,
            records.NODE: self._node,
            records.INLINE: self._inline,
            records.DATA: self._data,
            records.SIZE: self._size,
            records.BLOCK: self._block,
            records.XATTR: self._xattr,
            records.XATTR_GONE: self._xattr_gone,
            records.REVERT: self._revert,
            records.THEIRS: self._theirs,
            records.TAKEN: self._taken,
            records.SETTLED: self.past.settled,
            records.SETTLING: self._nothing,
            records.ABANDONED: self._nothing,
            records.DIGEST: self.digests.__setitem__,
        }

    def apply(self, position: int, record: tuple[Any, ...]) -> None:
        """Apply one record. Raises Missing (load, then repeat), DataError (not a record)."""
        self.tree.position = position - 1
        self.past.reach(position)
        try:
            self.apply_tag[record[0]](*record[1:])
        except Unknown:
            pass
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise DataError("journal: not a record") from error
        self.tree.position = position

    def _nothing(self, *_: object) -> None:
        """It told which records to replay (`settlements`)."""

    def _taken(self, size: int) -> None:
        self.past.take(size)
        self.absent.clear()

    def finish(self) -> None:
        """After the last record: objects left without a name are deletions, or never were."""
        self.past.take_rest()
        for node in list(self.tree.nodes.values()):
            if type(node) is FileNode:
                node.journaled_size = node.size
                self.complete(node)
            if node.nlink == 0:
                self.tree.settle_links(node)

    def complete(self, node: FileNode) -> None:
        """References get the digests that were taken later."""
        for index, ref in file_ops.local_blocks(node):
            digest = self.digests.get(ref.id)
            if digest is not None and node.blocks is not None:
                node.blocks[index] = replace(ref, digest=digest)

    def _get(self, id: ObjectId) -> Node:
        """A folder comes with its names: its times follow from them too, and could not be told
        any more from what a record is about to set."""
        node = self.tree.nodes.get(id)
        if node is None:
            if id in self.absent:
                raise Unknown
            raise Missing(NODE, id)
        if type(node) is FolderNode and node.children is None and id not in self.absent:
            raise Missing(CHILDREN, id)
        return node

    def _folder(self, id: ObjectId) -> FolderNode:
        node = self._get(id)
        if type(node) is not FolderNode or node.children is None:
            raise Unknown
        return node

    def _file(self, id: ObjectId) -> FileNode:
        node = self._get(id)
        if type(node) is not FileNode:
            raise Unknown
        self.tree.mark(node)
        return node

    def _named(self, folder: FolderNode, name: bytes) -> None:
        """What the name stood for must be in memory, a folder with its place: its link count
        changes."""
        assert folder.children is not None
        entry = folder.children.get(name)
        if entry is not None and entry[0] not in self.absent:
            place(self._get(entry[0]), folder, anew=False)

    def _create(
        self,
        folder_id: ObjectId,
        name: bytes,
        id: ObjectId,
        mode: int,
        uid: int,
        gid: int,
        rdev: int,
        now: int,
        extra: bytes,
    ) -> None:
        # A folder that is gone does not make its new file unknown: the file may have moved on.
        node = self._created(id, mode, uid, gid, rdev, now, extra)
        folder = self._folder(folder_id)
        self._named(folder, name)
        self.tree.set_name(folder, name, node, now)

    def _created(
        self, id: ObjectId, mode: int, uid: int, gid: int, rdev: int, now: int, extra: bytes
    ) -> Node:
        node = self.tree.nodes.get(id)
        if node is None:
            if id not in self.absent:
                raise Missing(NODE, id)
            node = new_node(id, self.tree.inode_for(id), mode, uid, gid, rdev, now)
            set_extra(node, extra)
            self.tree.add(node)
        self.tree.mark(node)
        return node

    def _entry(self, folder_id: ObjectId, name: bytes, id: ObjectId, kind: int, now: int) -> None:
        folder = self._folder(folder_id)
        node = self._get(id) if id else None
        self._named(folder, name)
        self._assign(folder, name, node, now)

    def _assign(self, folder: FolderNode, name: bytes, node: Node | None, now: int) -> None:
        nlink = node.nlink if node is not None else 0
        self.tree.set_name(folder, name, node, now)
        if type(node) is FolderNode:
            node.nlink = max(nlink, 2)
        if node is not None:
            node.ctime_ns = max(node.ctime_ns, now)

    def _move(
        self,
        folder_id: ObjectId,
        name: bytes,
        new_folder_id: ObjectId,
        new_name: bytes,
        id: ObjectId,
        kind: int,
        now: int,
    ) -> None:
        self._entry_if_known(folder_id, name, id)
        node = self._get(id)
        nlink = node.nlink
        try:
            old = self._folder(folder_id)
        except Unknown:
            old = None
        new = self._folder(new_folder_id)
        self._named(new, new_name)
        if old is not None:
            self.tree.set_name(old, name, None, now)
        if kind == FOLDER:
            node.nlink = nlink
        self._assign(new, new_name, node, now)

    def _entry_if_known(self, folder_id: ObjectId, name: bytes, id: ObjectId) -> None:
        """Load everything before the first change."""
        try:
            self._named(self._folder(folder_id), name)
        except Unknown:
            pass

    def _swap(
        self,
        folder_id: ObjectId,
        name: bytes,
        id: ObjectId,
        kind: int,
        other_folder_id: ObjectId,
        other_name: bytes,
        other_id: ObjectId,
        other_kind: int,
        now: int,
    ) -> None:
        folder, other_folder = self._folder(folder_id), self._folder(other_folder_id)
        node, other = self._get(id), self._get(other_id)
        self._named(folder, name)
        self._named(other_folder, other_name)
        self.tree.swap(folder, name, node, other_folder, other_name, other, now)

    def _node(
        self,
        id: ObjectId,
        mode: int,
        uid: int,
        gid: int,
        rdev: int,
        atime_ns: int,
        mtime_ns: int,
        ctime_ns: int,
        birth_ns: int,
        extra: bytes,
    ) -> None:
        node = self._get(id)
        node.mode, node.uid, node.gid, node.rdev = mode, uid, gid, rdev
        node.atime_ns, node.mtime_ns = atime_ns, mtime_ns
        node.ctime_ns, node.birth_ns = ctime_ns, birth_ns
        set_extra(node, extra)
        self.tree.mark(node)

    def _times(self, node: FileNode, mtime_ns: int, ctime_ns: int) -> None:
        node.mtime_ns, node.ctime_ns = mtime_ns, ctime_ns

    def _inline(
        self, id: ObjectId, size: int, mtime_ns: int, ctime_ns: int, content: bytes
    ) -> None:
        node = self._file(id)
        node.blocks, node.buffers, node.cuts = None, {}, {}
        node.content, node.size, node.spilled = content, size, self.tree.position + 1
        self._times(node, mtime_ns, ctime_ns)

    def _data(self, id: ObjectId, offset: int, data: bytes) -> None:
        node = self._file(id)
        if node.blocks is None:
            file_ops.to_blocks(node)
        file_ops.write(node, offset, data)
        for buffer in node.buffers.values():
            buffer.fresh = []

    def _size(self, id: ObjectId, size: int, mtime_ns: int, ctime_ns: int) -> None:
        node = self._file(id)
        file_ops.truncate(node, size)
        self._times(node, mtime_ns, ctime_ns)

    def _block(
        self,
        id: ObjectId,
        index: int,
        block: BlockId,
        key: bytes,
        digest: Hash,
        plain_size: int,
        size: int,
        mtime_ns: int,
        ctime_ns: int,
    ) -> None:
        node = self._file(id)
        if node.blocks is None:
            file_ops.to_blocks(node)
        ref = BlockRef(id=block, key=key, digest=digest, size=plain_size)
        file_ops.sealed(node, index, None if block == HOLE else ref)
        node.size = max(node.size, size)
        self._times(node, mtime_ns, ctime_ns)

    def _xattr(self, id: ObjectId, ctime_ns: int, name: bytes, value: bytes) -> None:
        node = self._get(id)
        node.xattrs = {**(node.xattrs or {}), name: value}
        node.ctime_ns = ctime_ns
        self.tree.mark(node)

    def _xattr_gone(self, id: ObjectId, ctime_ns: int, name: bytes) -> None:
        node = self._get(id)
        (node.xattrs or {}).pop(name, None)
        node.ctime_ns = ctime_ns
        self.tree.mark(node)

    def _revert(self, id: ObjectId) -> None:
        node = self.tree.nodes.get(id)
        if node is None:
            return
        self.tree.dirty_nodes.pop(id, None)
        if type(node) is not FolderNode:
            self.tree.drop(node)
            return
        # It stays: what is below refers to it, and what is pending of its names lies in it.
        self.past.reverted(node)
        if node.nlink == 0:
            # Its deletion was given up: what is in it comes from the store again.
            node.pending = len(pending_in(self.tree, id))
            node.children, node.nlink = None, 2

    def _theirs(self, folder_id: ObjectId, name: bytes) -> None:
        folder = self._folder(folder_id)
        pending = self.tree.dirty_names.get((folder_id, name))
        if pending is None:
            return
        assert folder.children is not None
        entry = folder.children.get(name)
        ours = None if entry is None else self.tree.nodes.get(entry[0])
        if ours is not None and type(ours) is not FolderNode and entry != pending[1]:
            ours.nlink -= 1
        drop_pending(self.tree, folder, name, pending[1])
        base = None if pending[1] is None else self.tree.nodes.get(pending[1][0])
        if base is not None and type(base) is not FolderNode and base.nlink == 0:
            # What we had put over it made it lose its name: it has that again, and was not deleted.
            base.nlink = 1
            self.tree.dirty_nodes.pop(base.id, None)
        place(base, folder, anew=False)


def set_extra(node: Node, extra: bytes) -> None:
    """What `extra` in CREATE and NODE means for this kind of node."""
    if type(node) is FolderNode:
        node.page_key = extra
    elif type(node) is SymlinkNode:
        node.target, node.size = extra, len(extra)

"""The tree in memory: which objects there are, who refers to them, what is not logged yet.

Data flow: mount/operations -> names, files (rules) -> this -> records to storage/journal;
    sync -> capture, remote_changes -> this.

Pure, synchronous and mutable (decisions.md 4, hop 2). Rules guarded here:
- inode numbers never repeat: they come from object ids, which are random and never come back;
- nothing is changed before everything needed is in memory (`Missing` is raised first);
- each change is marked with the position of its journal record, so that a capture can say up to
  which position the journal is no longer needed;
- pending local changes lie on top of whatever is loaded or comes from other devices.
"""

import errno
from collections.abc import Callable, Iterable

from parsec_fs.protocol.errors import LocalError
from parsec_fs.protocol.ids import ObjectId
from parsec_fs.protocol.limits import NAME_MAX_SIZE
from parsec_fs.protocol.manifests import FOLDER, BlockRef
from parsec_fs.workspace.assigning import NodeManifest, assign_manifest
from parsec_fs.workspace.name_index import NameIndex, NameKey
from parsec_fs.workspace.nodes import (
    CHILDREN,
    NODE,
    ROOT_INODE,
    Entry,
    FileNode,
    FolderNode,
    Missing,
    Node,
    new_node,
)
from parsec_fs.workspace.records import Record

_INODE_MASK = 2**63 - 1

FIRST_INODE = 16
"""Numbers below are the root and what the mount shows beside the tree (`.status`)."""


class Tree:
    """All nodes in memory, by object id and by inode number, and what is dirty.

    `dirty_nodes[id]` and `dirty_names[folder id, name]` hold the position of the first record that
    is not logged (the latter also what the name stood for then); both are in order of position.
    An id in `dirty_nodes` that is in no table is a deletion. `flying_*` are the same for what a
    capture took along until it is logged or rejected. `unjournaled` are the files whose content is
    newer than the journal. `relinked` lost one of several names, which the store still counts until
    that is logged. `dropped` are blocks that nothing here refers to any more, with the
    position of the record that says so. `index` is there while something is settled: it is told of
    each name that comes to stand for something, and of each that begins to be pending.
    """

    __slots__ = (
        "captured_at",
        "dirty_names",
        "dirty_nodes",
        "dropped",
        "emit",
        "flying_names",
        "flying_nodes",
        "index",
        "inodes",
        "new_id",
        "nodes",
        "position",
        "relinked",
        "unjournaled",
    )

    def __init__(
        self,
        *,
        new_id: Callable[[], ObjectId],
        emit: Callable[[Record], None],
        position: int = 0,
    ) -> None:
        self.new_id = new_id
        self.emit = emit
        self.position = position
        self.nodes: dict[ObjectId, Node] = {}
        self.inodes: dict[int, Node] = {}
        self.dirty_nodes: dict[ObjectId, int] = {}
        self.dirty_names: dict[NameKey, tuple[int, Entry | None]] = {}
        self.flying_nodes: dict[ObjectId, int] = {}
        self.flying_names: dict[NameKey, tuple[int, Entry | None]] = {}
        self.captured_at = 0
        self.dropped: list[tuple[int, list[BlockRef]]] = []
        self.unjournaled: dict[FileNode, None] = {}
        self.relinked: set[ObjectId] = set()
        self.index: NameIndex | None = None

    # Finding

    def node(self, inode: int) -> Node:
        """The node behind an inode number that the kernel was given. Raises ESTALE."""
        node = self.inodes.get(inode)
        if node is None:
            raise LocalError("unknown inode", errno=errno.ESTALE)
        return node

    def folder(self, inode: int) -> FolderNode:
        """The folder behind an inode number. Raises ENOTDIR, ESTALE."""
        node = self.inodes.get(inode)
        if type(node) is not FolderNode:
            raise LocalError("not a folder", errno=errno.ENOTDIR if node else errno.ESTALE)
        return node

    def children(self, folder: FolderNode) -> dict[bytes, Entry]:
        """Names in a folder. Raises Missing."""
        if folder.children is None:
            raise Missing(CHILDREN, folder.id)
        return folder.children

    def child(self, folder: FolderNode, entry: Entry) -> Node:
        """The node that an entry of a folder stands for. Raises Missing."""
        node = self.nodes.get(entry[0])
        if node is None:
            raise Missing(NODE, entry[0], folder)
        return node

    def lookup(self, parent: int, name: bytes) -> Node | None:
        """What a name stands for, or None. Raises ENOTDIR, ENAMETOOLONG, Missing."""
        folder = self.folder(parent)
        children = folder.children
        if children is None:
            raise Missing(CHILDREN, folder.id)
        entry = children.get(name)
        if entry is None:
            if len(name) > NAME_MAX_SIZE:
                raise LocalError("name too long", errno=errno.ENAMETOOLONG)
            return None
        node = self.nodes.get(entry[0])
        if node is None:
            raise Missing(NODE, entry[0], folder)
        return node

    def is_dirty(self, id: ObjectId) -> bool:
        """True iff something about this object is not logged yet."""
        if id in self.dirty_nodes or id in self.flying_nodes:
            return True
        node = self.nodes.get(id)
        if type(node) is FolderNode:
            return node.pending > 0
        return type(node) is FileNode and node.unjournaled

    def pending(self) -> int:
        """How many objects and names are not logged."""
        marks = (self.dirty_nodes, self.flying_nodes, self.dirty_names, self.flying_names)
        return sum(len(one) for one in marks)

    # Coming into memory and leaving it

    def inode_for(self, id: ObjectId) -> int:
        """First 8 bytes of the id without the top bit; another random number if that is taken."""
        number = int.from_bytes(id[:8], "big") & _INODE_MASK
        while number < FIRST_INODE or number in self.inodes:
            number = int.from_bytes(self.new_id()[:8], "big") & _INODE_MASK
        return number

    def add(self, node: Node) -> None:
        """Put a node into both tables."""
        self.nodes[node.id] = node
        self.inodes[node.inode] = node

    def insert(
        self,
        id: ObjectId,
        manifest: NodeManifest,
        *,
        nlink: int,
        parent: FolderNode | None,
        inode: int = 0,
    ) -> Node:
        """A node for what the store says. Does nothing if it is in memory: local state wins."""
        node = self.nodes.get(id)
        if node is not None:
            return node
        a = manifest.attributes
        number = inode or self.inode_for(id)
        node = new_node(id, number, a.mode, a.uid, a.gid, a.rdev, a.birth_ns)
        node.created = False
        node.nlink = nlink
        if type(node) is FolderNode:
            node.parent = parent
            node.children = None
            node.nlink = 2
        assign_manifest(node, manifest)
        self.add(node)
        return node

    def forget(self, inode: int, count: int) -> None:
        """The kernel gave up references; orphans that nobody uses are gone with the last one."""
        node = self.inodes.get(inode)
        if node is None:
            return
        node.lookups -= count
        if node.lookups <= 0 and node.nlink == 0 and node.opens == 0:
            self.drop(node)

    def drop(self, node: Node) -> None:
        """Out of memory. For orphans that nobody uses, and for clean nodes that can be reloaded."""
        if self.nodes.get(node.id) is node:
            del self.nodes[node.id]
        del self.inodes[node.inode]
        if type(node) is FileNode:
            self.unjournaled.pop(node, None)
            if node.nlink == 0:
                # What a worker seals of it now refers to nothing, and goes when it arrives.
                node.buffers, node.cuts = {}, {}
                self.drop_blocks(node.blocks, self.position)

    def drop_blocks(self, blocks: Iterable[BlockRef | None] | None, position: int) -> None:
        """These blocks are not referred to any more, as the record at `position` says."""
        refs = [ref for ref in blocks or () if ref is not None]
        if refs:
            self.dropped.append((position, refs))

    def trim(self, nodes: Iterable[Node]) -> int:
        """Drop those of the nodes that are clean and unused; how many went."""
        droppable = [node for node in nodes if self._droppable(node)]
        for node in droppable:
            self.drop(node)
        return len(droppable)

    def _droppable(self, node: Node) -> bool:
        if node.lookups > 0 or node.opens > 0 or node.created or self.is_dirty(node.id):
            return False
        if self.nodes.get(node.id) is not node:
            return False
        if type(node) is FolderNode:
            # Nodes below refer to their folder; and what is pending in a folder needs its nodes.
            children = node.children or {}
            return node.inode != ROOT_INODE and not any(
                e[0] in self.nodes for e in children.values()
            )
        return not self._pinned(node)

    def _pinned(self, node: Node) -> bool:
        """Names of a hard-linked file that are pending elsewhere make its link count local."""
        return type(node) is FileNode and (node.nlink != 1 or node.id in self.relinked)

    # Changing (for names, files and replay; everything needed is in memory)

    def record(self, record: Record) -> None:
        """Hand a record to the journal; its position is what the marks made before it say."""
        self.position += 1
        self.emit(record)

    def mark(self, node: Node) -> None:
        """Something about the object itself changes with the next record."""
        id = node.id
        if id not in self.dirty_nodes:
            self.dirty_nodes[id] = self.position + 1
        node.fresh = False

    def set_name(self, folder: FolderNode, name: bytes, new: Node | None, now: int) -> None:
        """Let a name stand for `new`, or for nothing, with the next record."""
        children = folder.children
        assert children is not None
        old = children.get(name)
        entry = None if new is None else new.entry
        self._mark_name(folder, name, old, entry)
        folder.mtime_ns = folder.ctime_ns = now
        folder.fresh = False
        if old == entry:
            return
        if old is not None:
            self._unlinked(folder, old)
        if new is None:
            del children[name]
            return
        self.put(folder, name, new.entry)
        if type(new) is FolderNode:
            new.parent = folder
            folder.nlink += 1
            new.nlink = max(new.nlink, 2)
        else:
            new.nlink += 1
            new.fresh = False

    def put(self, folder: FolderNode, name: bytes, entry: Entry) -> None:
        """A name in memory stands for an object, and nothing else is changed."""
        assert folder.children is not None
        folder.children[name] = entry
        if self.index is not None:
            self.index.stands(folder.id, name, entry)

    def pend(self, key: NameKey, base: Entry | None) -> None:
        """A name is dirty from the next record on, over what it stood for."""
        self.dirty_names[key] = (self.position + 1, base)
        if self.index is not None:
            self.index.pends(key, base)

    def move(
        self,
        folder: FolderNode,
        name: bytes,
        new_folder: FolderNode,
        new_name: bytes,
        node: Node,
        now: int,
    ) -> None:
        """Take a name away and give another, with the next record."""
        nlink = node.nlink
        self.set_name(folder, name, None, now)
        self.set_name(new_folder, new_name, node, now)
        if type(node) is FolderNode:
            node.nlink = nlink

    def swap(
        self,
        folder: FolderNode,
        name: bytes,
        node: Node,
        other_folder: FolderNode,
        other_name: bytes,
        other: Node,
        now: int,
    ) -> None:
        """Let `name` stand for `node` and `other_name` for `other`, with the next record."""
        places = ((node, folder, node.nlink), (other, other_folder, other.nlink))
        self.set_name(folder, name, node, now)
        self.set_name(other_folder, other_name, other, now)
        for one, place, nlink in places:
            if type(one) is FolderNode:
                one.nlink, one.parent = nlink, place

    def _mark_name(
        self, folder: FolderNode, name: bytes, old: Entry | None, new: Entry | None
    ) -> None:
        key = (folder.id, name)
        marked = self.dirty_names.get(key)
        if marked is None:
            self.pend(key, old)
            if key not in self.flying_names:
                folder.pending += 1
        elif marked[1] == new and key not in self.flying_names:
            # Back to what the store says, as with a temporary file: only the times are new.
            del self.dirty_names[key]
            folder.pending -= 1
            self.mark(folder)

    def _unlinked(self, folder: FolderNode, old: Entry) -> None:
        node = self.nodes.get(old[0])
        if old[1] == FOLDER:
            folder.nlink -= 1
        if node is None:
            return
        node.fresh = False
        if type(node) is FolderNode:
            # A folder has one name; where it moves, set_name gives it its parent and count back.
            if node.parent is folder:
                node.nlink, node.parent = 0, None
        else:
            node.nlink -= 1
            if node.nlink:
                self.relinked.add(node.id)

    def settle_links(self, node: Node) -> None:
        """After the names changed: an object without a name becomes a deletion, or never was."""
        if node.nlink > 0:
            return
        if node.created and node.id not in self.flying_nodes:
            self.dirty_nodes.pop(node.id, None)
        else:
            self.dirty_nodes.setdefault(node.id, self.position + 1)
        if type(node) is FileNode:
            self.unjournaled.pop(node, None)
            node.unjournaled = False
        if node.lookups <= 0 and node.opens == 0:
            self.drop(node)

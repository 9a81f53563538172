"""A workspace without disk, kernel or clock: tree, records in a list, a store made of captures.

Data flow: a test's operations -> `World` -> tree -> records; captures -> `ModelStore` -> reload.
"""

import errno
from collections.abc import Callable, Set
from typing import Any

from parsec_fs.protocol.errors import LocalError
from parsec_fs.protocol.ids import ROOT_OBJECT, ObjectId
from parsec_fs.protocol.manifests import FOLDER, FileManifest, FolderManifest
from parsec_fs.workspace import capture as captures
from parsec_fs.workspace import file_ops, files
from parsec_fs.workspace.assigning import NodeManifest
from parsec_fs.workspace.carrying import waiting_for
from parsec_fs.workspace.loader import Names
from parsec_fs.workspace.nodes import (
    CHILDREN,
    CONTENT,
    ROOT_INODE,
    TYPE_FOLDER,
    Entry,
    FileNode,
    FolderNode,
    Missing,
    Node,
    SymlinkNode,
)
from parsec_fs.workspace.overlay import show_names
from parsec_fs.workspace.records import Record
from parsec_fs.workspace.replay import Replay
from parsec_fs.workspace.tree import Tree


class ModelStore:
    """What captures left behind, as the local store keeps it: objects, and names by folder."""

    def __init__(self) -> None:
        self.objects: dict[ObjectId, NodeManifest] = {}
        self.names: dict[ObjectId, dict[bytes, Entry]] = {}
        self.times: dict[ObjectId, tuple[int, int]] = {}
        self.position = 0
        self.ids = 0
        self.clock = 1_000

    def take(self, capture: captures.Capture) -> None:
        """Log a capture, checking what sync relies on."""
        for node in capture.nodes:
            if node.deleted:
                self.objects.pop(node.id, None)
                self.names.pop(node.id, None)
            else:
                assert node.manifest is not None
                assert node.created == (node.id not in self.objects)
                self.objects[node.id] = node.manifest
        for folder in capture.folders:
            manifest = self.objects[folder.id]
            assert isinstance(manifest, FolderManifest)
            assert manifest.page_bits == folder.page_bits
            names = self.names.setdefault(folder.id, {})
            if folder.page_bits != folder.old_page_bits:
                names.clear()
            for name, child in folder.names:
                names.pop(name, None)
                if child is not None:
                    assert child.id in self.objects, "a name without its object"
                    names[name] = (child.id, child.kind)
            self.times[folder.id] = (folder.mtime_ns, folder.ctime_ns)
        for names in self.names.values():
            assert all(entry[0] in self.objects for entry in names.values()), "dangling name"
        self.position = capture.position

    def load(self, id: ObjectId) -> NodeManifest | None:
        return self.objects.get(id)

    def load_children(self, id: ObjectId, folder: NodeManifest) -> Names:
        mtime, ctime = self.times.get(id, (0, 0))
        return Names(names=self.names.get(id, {}), mtime_ns=mtime, ctime_ns=ctime)

    def link_count(self, id: ObjectId) -> int:
        return sum(entry[0] == id for names in self.names.values() for entry in names.values())

    def version(self, id: ObjectId) -> int:
        return 1 if id in self.objects else 0

    def journal_position(self) -> int:
        return self.position


class World:
    """One device's tree over a model store. `records` is its journal: (position, record)."""

    def __init__(
        self, store: ModelStore | None = None, records: list[tuple[int, Record]] | None = None
    ) -> None:
        self.store = store or ModelStore()
        self.records: list[tuple[int, Record]] = list(records or ())
        self.tree = Tree(new_id=self._new_id, emit=self._emit, position=self.store.position)
        self._open()

    @property
    def now(self) -> int:
        """The time; it only moves forward."""
        return self.store.clock

    def _new_id(self) -> ObjectId:
        self.store.ids += 1
        return ObjectId((0x1_0000 + self.store.ids).to_bytes(8, "big") + bytes(8))

    def _emit(self, record: Record) -> None:
        self.records.append((self.tree.position, record))

    def _open(self) -> None:
        is_new = not self._load_node(ROOT_OBJECT, None)
        if is_new:
            root = FolderNode(ROOT_OBJECT, ROOT_INODE, TYPE_FOLDER | 0o755, 0, 0, 0, 1)
            root.page_key = b"p" * 32
            self.tree.add(root)
        replay = Replay(self.tree)
        for position, record in [r for r in self.records if r[0] > self.store.position]:
            while True:
                try:
                    replay.apply(position, record)
                    break
                except Missing as missing:
                    if not self._load(missing):
                        replay.absent.add(missing.id)
        replay.finish()
        self.tree.position = max([self.store.position, *[position for position, _ in self.records]])
        if is_new and not self.tree.is_dirty(ROOT_OBJECT):
            root_node = self.tree.nodes[ROOT_OBJECT]
            self.tree.mark(root_node)
            self.tree.record(files.node_record(root_node))

    def _load_node(self, id: ObjectId, parent: FolderNode | None) -> bool:
        manifest = self.store.load(id)
        if manifest is None:
            return False
        inode = ROOT_INODE if id == ROOT_OBJECT else 0
        links = self.store.link_count(id)
        self.tree.insert(id, manifest, nlink=links, parent=parent, inode=inode)
        return True

    def _load(self, missing: Missing) -> bool:
        if missing.what == CHILDREN:
            folder = self.tree.nodes[missing.id]
            assert isinstance(folder, FolderNode)
            names = self.store.load_children(missing.id, self.store.objects[missing.id])
            show_names(self.tree, folder, names.names, (names.mtime_ns, names.ctime_ns))
            return True
        if missing.what == CONTENT:
            node = self.tree.nodes[missing.id]
            manifest = self.store.load(missing.id)
            assert isinstance(node, FileNode)
            assert isinstance(manifest, FileManifest)
            node.content = manifest.inline
            return True
        return self._load_node(missing.id, missing.parent)

    def call(self, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """Call a function of the tree, loading what it misses; LocalError gives its errno name."""
        self.store.clock += 10
        while True:
            try:
                return function(self.tree, *args, **options)
            except Missing as missing:
                if not self._load(missing):
                    raise AssertionError(f"{missing.what} of {missing.id.hex()}") from missing
            except LocalError as error:
                return errno.errorcode[error.errno]

    def capture(self, limit: int = 4000, held: Set[ObjectId] = frozenset()) -> captures.Capture:
        """What sync would take while these files are held back."""
        return captures.capture(
            self.tree,
            self._inline,
            limit=limit,
            waiting=waiting_for(self.tree, held),
            stored_xattrs=self._stored_xattrs,
        )

    def _stored_xattrs(self, id: ObjectId) -> list[bytes]:
        manifest = self.store.load(id)
        return [] if manifest is None else [one.name for one in manifest.attributes.xattrs]

    def _inline(self, node: FileNode) -> bytes:
        manifest = self.store.load(node.id)
        assert isinstance(manifest, FileManifest)
        return manifest.inline

    def journal_all(self) -> None:
        """As the ticker does: nothing is in memory only."""
        for node in list(self.tree.unjournaled):
            files.journal_content(self.tree, node)

    def folder(self, *path: bytes) -> FolderNode:
        """A folder by path."""
        node: Node = self.tree.nodes[ROOT_OBJECT]
        for name in path:
            assert isinstance(node, FolderNode)
            node = self.look(node, name)
        assert isinstance(node, FolderNode)
        return node

    def look(self, folder: FolderNode, name: bytes) -> Node:
        """A child, loaded."""
        children = self.call(lambda tree: tree.children(folder))
        entry = children[name]
        node = self.call(lambda tree: tree.child(folder, entry))
        assert isinstance(node, Node)
        return node

    def visible(self) -> dict[str, Any]:
        """Everything a user can see, to compare with another world."""
        return self._visible(self.tree.nodes[ROOT_OBJECT])

    def _visible(self, node: Node) -> dict[str, Any]:
        if isinstance(node, FolderNode):
            self.call(lambda tree: tree.children(node))
        about: dict[str, Any] = {
            "id": node.id.hex(),
            "attributes": (node.mode, node.uid, node.gid, node.mtime_ns),
            "xattrs": dict(node.xattrs or {}),
            "nlink": node.nlink,
        }
        if isinstance(node, SymlinkNode):
            about["target"] = node.target
        elif isinstance(node, FileNode):
            about["content"] = content_of(self, node)
        elif isinstance(node, FolderNode):
            children = self.call(lambda tree: tree.children(node))
            about["names"] = {
                name: self._visible(self.look(node, name)) for name in sorted(children)
            }
            assert node.nlink == 2 + sum(entry[1] == FOLDER for entry in children.values())
        return about


def content_of(world: World, node: FileNode) -> bytes:
    """All bytes of a file whose blocks are in memory (these worlds seal nothing)."""
    if node.blocks is None:
        content = world.call(lambda tree: file_ops.read_inline(node, 0, node.size))
        assert isinstance(content, bytes)
        return content
    parts = []
    for index, start, stop in file_ops.pieces(0, node.size):
        buffer = node.buffers.get(index)
        parts.append(bytes(file_ops.compose(b"", None, buffer, start, stop)))
    return b"".join(parts)

"""What synchronisation takes from the tree: a consistent part of the changes not logged yet.

Data flow: workspace/tree -> this -> Capture -> sync (seals, uploads, commits)
    -> `logged` or `rejected`.

Pure and synchronous; only field values are copied. Rules guarded here:
- once a capture is logged and `journal.forget(capture.position)` was called, replaying the rest of
  the journal over the store gives the present state;
- a name of an object that the store does not have is captured only with that object (rule 21);
- a file is captured only when the digests of all its blocks were taken (`digests`);
- an object is captured as deleted only if no captured state still names it;
- a folder that moves gets its new name only with the capture that takes the old one away;
- what has to wait (`carrying`) is left behind, and is recorded anew behind what is captured;
- one capture is in flight at a time: it ends with `logged` or `rejected`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice

from parsec_fs.protocol.ids import NO_HASH, ObjectId
from parsec_fs.protocol.limits import PAGE_MAX_CHILDREN
from parsec_fs.protocol.manifests import (
    FILE,
    FOLDER,
    HOLE,
    MAX_PAGE_BITS,
    Attributes,
    BlockRef,
    Child,
    FileManifest,
    FolderManifest,
    SpecialManifest,
    SymlinkManifest,
    Xattr,
)
from parsec_fs.workspace import file_ops
from parsec_fs.workspace.assigning import NodeManifest
from parsec_fs.workspace.carrying import NOTHING, StoredXattrs, Waiting, carry, entry_at
from parsec_fs.workspace.name_index import NameKey
from parsec_fs.workspace.nodes import Entry, FileNode, FolderNode, Node, SymlinkNode
from parsec_fs.workspace.tree import Tree

DEFAULT_LIMIT = 4000
NAMES_PER_NODE = 4
"""A capture takes up to this many times its limit in names: unlinks have names but few nodes."""

ReadInline = Callable[[FileNode], bytes]
HOLE_REF = BlockRef(id=HOLE, key=bytes(32), digest=NO_HASH, size=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class CapturedNode:
    """An object to be logged. `manifest` is None iff deleted.

    `created`: the store does not have it. A FileManifest here may hold more than REFS_PER_NODE
    references (depth 0, flat); sync nests them. A deletion of an object that never reached the
    store can occur after a rejected capture: pass over it.
    """

    id: ObjectId
    kind: int
    created: bool
    deleted: bool
    manifest: NodeManifest | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CapturedFolder:
    """Names to be logged: (name, Child or None if gone), sorted by name.

    If `page_bits` differs from `old_page_bits` then `names` holds all names of the folder, for
    every page under the new number of bits; the old pages are to be deleted.
    """

    id: ObjectId
    page_key: bytes
    page_bits: int
    old_page_bits: int
    names: tuple[tuple[bytes, Child | None], ...]
    mtime_ns: int
    ctime_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Capture:
    """A part of what is dirty. All records up to and including `position` are covered by it."""

    position: int
    nodes: tuple[CapturedNode, ...]
    folders: tuple[CapturedFolder, ...]

    def __bool__(self) -> bool:
        return bool(self.nodes or self.folders)


@dataclass(slots=True)
class _Taking:
    """What one capture selects while it is made."""

    nodes: dict[ObjectId, int] = field(default_factory=dict)
    names: dict[NameKey, tuple[int, Entry | None]] = field(default_factory=dict)
    still_named: set[ObjectId] = field(default_factory=set)
    stay: set[Entry] = field(default_factory=set)

    def leave(self, base: Entry | None) -> None:
        """A name stays what it is in the store."""
        if base is not None:
            self.still_named.add(base[0])
            if base[1] == FOLDER:
                self.stay.add(base)


def capture(
    tree: Tree,
    read_inline: ReadInline,
    *,
    limit: int = DEFAULT_LIMIT,
    waiting: Waiting = NOTHING,
    carried: bool = False,
    stored_xattrs: StoredXattrs = lambda id: (),
) -> Capture:
    """Take up to `limit` objects and the names that may go with them, oldest changes first.

    `read_inline` gives the content of a small file that is not in memory. `carried`: what waits is
    recorded behind everything else already.
    """
    if tree.flying_nodes or tree.flying_names:
        raise RuntimeError("one capture at a time")
    taking = _Taking()
    free = (item for item in tree.dirty_nodes.items() if item[0] not in waiting.nodes)
    for id, position in islice(free, 4 * limit):
        if len(taking.nodes) >= limit:
            break
        if _ready(tree.nodes.get(id)):
            taking.nodes[id] = position
    _take_names(tree, taking, limit * NAMES_PER_NODE)
    for id in [id for id in taking.nodes if id in taking.still_named and _gone(tree, id)]:
        del taking.nodes[id]
    folders = _captured_folders(tree, taking)
    nodes = tuple(_captured_node(tree, id, read_inline) for id in taking.nodes)
    _lift_off(tree, taking)
    if waiting and (nodes or folders) and not carried:
        carry(tree, waiting, stored_xattrs)
    return Capture(position=_covered(tree), nodes=nodes, folders=folders)


def is_settled(node: FileNode) -> bool:
    """True iff all of a file is sealed and journalled."""
    return not (node.unjournaled or file_ops.unsettled(node))


def _ready(node: Node | None) -> bool:
    if type(node) is not FileNode:
        return True
    return is_settled(node) and (node.nlink == 0 or not any(file_ops.local_blocks(node)))


def _gone(tree: Tree, id: ObjectId) -> bool:
    node = tree.nodes.get(id)
    return node is None or node.nlink == 0


def _take_names(tree: Tree, taking: _Taking, limit: int) -> None:
    for key, (position, base) in tree.dirty_names.items():
        if len(taking.names) < limit and _nameable(tree, taking, key):
            taking.names[key] = (position, base)
        else:
            taking.leave(base)
    while True:
        stay, taking.stay = taking.stay, set()
        kept = [key for key in taking.names if entry_at(tree, key) in stay]
        # Nor does a folder lose anything whose deletion has to wait: it is there for the others.
        kept += [key for key in taking.names if _stays(tree, taking, key[0])]
        if not kept:
            return
        for key in dict.fromkeys(kept):
            taking.leave(taking.names.pop(key)[1])


def _stays(tree: Tree, taking: _Taking, id: ObjectId) -> bool:
    return id in taking.still_named and _gone(tree, id)


def _nameable(tree: Tree, taking: _Taking, key: NameKey) -> bool:
    """The folder is known to the store or captured too, and so is what the name stands for."""
    folder = tree.nodes.get(key[0])
    if type(folder) is not FolderNode or folder.nlink == 0:
        # Names of a deleted folder go with it; the journal need not keep them.
        return True
    if folder.created and folder.id not in taking.nodes:
        return False
    entry = (folder.children or {}).get(key[1])
    if entry is None:
        return True
    node = tree.nodes.get(entry[0])
    return node is None or not node.created or entry[0] in taking.nodes


def _captured_folders(tree: Tree, taking: _Taking) -> tuple[CapturedFolder, ...]:
    by_folder: dict[ObjectId, list[bytes]] = {}
    for folder_id, name in taking.names:
        by_folder.setdefault(folder_id, []).append(name)
    captured = []
    for folder_id, names in by_folder.items():
        folder = tree.nodes.get(folder_id)
        if type(folder) is FolderNode and folder.nlink > 0:
            captured.append(_captured_folder(tree, taking, folder, names))
    return tuple(captured)


def _captured_folder(
    tree: Tree, taking: _Taking, folder: FolderNode, names: list[bytes]
) -> CapturedFolder:
    children = folder.children or {}
    old_bits = folder.page_bits
    visible: dict[bytes, Entry | None]
    if len(children) > PAGE_MAX_CHILDREN << old_bits and old_bits < MAX_PAGE_BITS:
        while len(children) > PAGE_MAX_CHILDREN << folder.page_bits:
            folder.page_bits = min(folder.page_bits + 1, MAX_PAGE_BITS)
            if folder.page_bits == MAX_PAGE_BITS:
                break
        visible = _all_names(tree, taking, folder)
        taking.nodes.setdefault(folder.id, tree.dirty_nodes.get(folder.id, tree.position))
    else:
        visible = {name: children.get(name) for name in names}
    return CapturedFolder(
        id=folder.id,
        page_key=folder.page_key,
        page_bits=folder.page_bits,
        old_page_bits=old_bits,
        names=tuple((name, _child(name, entry)) for name, entry in sorted(visible.items())),
        mtime_ns=folder.mtime_ns,
        ctime_ns=folder.ctime_ns,
    )


def _all_names(tree: Tree, taking: _Taking, folder: FolderNode) -> dict[bytes, Entry | None]:
    """Every name as this capture leaves it: names it does not take stay what the store says."""
    visible: dict[bytes, Entry | None] = dict(folder.children or {})
    for key, (_, base) in tree.dirty_names.items():
        if key[0] == folder.id and key not in taking.names:
            visible[key[1]] = base
    return {name: entry for name, entry in visible.items() if entry is not None}


def _child(name: bytes, entry: Entry | None) -> Child | None:
    return None if entry is None else Child(name=name, id=entry[0], kind=entry[1])


def _captured_node(tree: Tree, id: ObjectId, read_inline: ReadInline) -> CapturedNode:
    node = tree.nodes.get(id)
    if node is None or node.nlink == 0:
        kind = FILE if node is None else node.kind
        return CapturedNode(id=id, kind=kind, created=False, deleted=True, manifest=None)
    manifest = manifest_of(node, read_inline)
    return CapturedNode(
        id=id, kind=node.kind, created=node.created, deleted=False, manifest=manifest
    )


def manifest_of(node: Node, read_inline: ReadInline) -> NodeManifest:
    """The manifest that says what a settled node is."""
    attributes = attributes_of(node)
    if type(node) is FolderNode:
        return FolderManifest(
            attributes=attributes, page_key=node.page_key, page_bits=node.page_bits
        )
    if type(node) is SymlinkNode:
        return SymlinkManifest(attributes=attributes, target=node.target)
    if type(node) is not FileNode:
        return SpecialManifest(attributes=attributes)
    inline = b""
    refs: tuple[BlockRef, ...] = ()
    if node.blocks is None:
        inline = bytes(node.content) if node.content is not None else read_inline(node)
    else:
        refs = tuple([HOLE_REF if ref is None else ref for ref in node.blocks])
    return FileManifest(attributes=attributes, size=node.size, inline=inline, depth=0, refs=refs)


def attributes_of(node: Node) -> Attributes:
    """The attributes that a manifest carries."""
    xattrs = sorted((node.xattrs or {}).items())
    return Attributes(
        mode=node.mode,
        uid=node.uid,
        gid=node.gid,
        rdev=node.rdev,
        atime_ns=node.atime_ns,
        mtime_ns=node.mtime_ns,
        ctime_ns=node.ctime_ns,
        birth_ns=node.birth_ns,
        xattrs=tuple([Xattr(name=name, value=value) for name, value in xattrs]),
    )


def lift_off(tree: Tree, position: int) -> Capture:
    """What is pending while the journal is replayed up to a signed capture's position: that is what
    it took, and it is in flight again. Its manifests lie in the outbox."""
    taking = _Taking(nodes=dict(tree.dirty_nodes), names=dict(tree.dirty_names))
    nodes = tuple(_in_outbox(id, tree.nodes.get(id)) for id in taking.nodes)
    _lift_off(tree, taking)
    return Capture(position=position, nodes=nodes, folders=())


def _in_outbox(id: ObjectId, node: Node | None) -> CapturedNode:
    gone = node is None or node.nlink == 0
    kind = FILE if node is None else node.kind
    created = node is not None and node.created
    return CapturedNode(id=id, kind=kind, created=created, deleted=gone, manifest=None)


def _lift_off(tree: Tree, taking: _Taking) -> None:
    for id in taking.nodes:
        tree.dirty_nodes.pop(id, None)
    for key in taking.names:
        del tree.dirty_names[key]
    tree.captured_at = tree.position
    tree.flying_nodes = taking.nodes
    tree.flying_names = taking.names


def _covered(tree: Tree) -> int:
    """The position before the first record that something left behind still needs."""
    position = tree.position + 1
    for first in tree.dirty_nodes.values():
        position = min(position, first)
        break
    for first, _ in tree.dirty_names.values():
        position = min(position, first)
        break
    return position - 1


def logged(tree: Tree, captured: Capture) -> None:
    """The capture is in the store: what has not changed since is clean now."""
    for key in tree.flying_names:
        folder = tree.nodes.get(key[0])
        if type(folder) is FolderNode and key not in tree.dirty_names:
            folder.pending -= 1
    for item in captured.nodes:
        node = tree.nodes.get(item.id)
        if node is not None and not item.deleted:
            node.created = False
            if type(node) is FileNode and node.spilled <= tree.captured_at:
                # Content that leaves memory comes from the store from now on, not the journal.
                node.spilled = 0
    tree.flying_nodes, tree.flying_names = {}, {}
    if not tree.dirty_names:
        tree.relinked.clear()


def rejected(tree: Tree, captured: Capture) -> None:
    """The capture came to nothing: everything in it is as dirty as before."""
    nodes = {**tree.dirty_nodes, **tree.flying_nodes}
    names = {**tree.dirty_names, **tree.flying_names}
    for folder in captured.folders:
        node = tree.nodes.get(folder.id)
        if type(node) is FolderNode:
            node.page_bits = folder.old_page_bits
    tree.dirty_nodes = dict(sorted(nodes.items(), key=lambda item: item[1]))
    tree.dirty_names = dict(sorted(names.items(), key=lambda item: item[1][0]))
    tree.flying_nodes, tree.flying_names = {}, {}

"""What other devices changed, into the nodes that are in memory here.

Data flow: sync (after it updated the store) -> this -> tree; invalidations -> mount/notify.

Pure and synchronous. Rules guarded here:
- pending local changes win over remote ones: a dirty node or name stays as it is; sync finds out
  by a refused compare-and-swap and makes a conflict copy;
- a file that is open here keeps its inode and content; its name gets a new inode number, because
  the kernel caches pages by inode and old and new content cannot share one (decisions.md 6);
- what is not in memory is not touched: it is loaded from the updated store when it is needed.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from parsec_fs.protocol.ids import ObjectId
from parsec_fs.protocol.manifests import FOLDER, Child, FileManifest
from parsec_fs.workspace.assigning import NodeManifest, assign_manifest
from parsec_fs.workspace.nodes import ROOT_INODE, Entry, FileNode, FolderNode, Node
from parsec_fs.workspace.overlay import (
    LinkCount,
    is_deleted_here,
    lay_over,
    links_now,
    names_of,
    place,
    withhold,
)
from parsec_fs.workspace.times import latest
from parsec_fs.workspace.tree import Tree


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteNode:
    """An object as the store has it now; None: it was deleted."""

    id: ObjectId
    manifest: NodeManifest | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteNames:
    """Names of a folder that changed in the store; None: the name is gone."""

    folder: ObjectId
    names: dict[bytes, Child | None]
    mtime_ns: int
    ctime_ns: int


RemoteChange = RemoteNode | RemoteNames


@dataclass(frozen=True, slots=True)
class Invalidation:
    """What the kernel must forget: a name, or an inode's attributes and (not `attr_only`) pages.

    `was` is what the name stood for before, for those who watch; the kernel forgets all the same.
    """

    inode: int
    name: bytes | None = None
    attr_only: bool = False
    was: Entry | None = field(default=None, compare=False)


def apply_remote(
    tree: Tree, changes: Iterable[RemoteChange], link_count: LinkCount
) -> list[Invalidation]:
    """Take changes of the store over into memory; returns what the kernel must forget."""
    changes = list(changes)
    out: list[Invalidation] = []
    touched: set[ObjectId] = set()
    for change in changes:
        if isinstance(change, RemoteNames):
            _apply_names(tree, change, touched, out)
    for id in touched:
        _recount(tree, tree.nodes.get(id), link_count)
    for change in changes:
        if isinstance(change, RemoteNode):
            _apply_node(tree, change, out)
    return out


def _busy(tree: Tree, id: ObjectId) -> bool:
    return id in tree.dirty_nodes or id in tree.flying_nodes


def _apply_node(tree: Tree, change: RemoteNode, out: list[Invalidation]) -> None:
    node = tree.nodes.get(change.id)
    if node is None or _busy(tree, change.id):
        return
    if change.manifest is None:
        if type(node) is not FolderNode and node.nlink == 0:
            tree.settle_links(node)
            tree.dirty_nodes.pop(change.id, None)
        return
    if type(node) is FileNode:
        if node.unjournaled:
            return
        if node.opens and not same_content(node, change.manifest):
            _replace_open(tree, node, out)
            return
    same = type(node) is not FileNode or same_content(node, change.manifest)
    times = (node.mtime_ns, node.ctime_ns)
    if type(node) is FileNode and not same:
        _drop_replaced(tree, node, change.manifest)
    assign_manifest(node, change.manifest)
    if type(node) is FolderNode:
        # Names may have changed later than the attributes that arrive now.
        node.mtime_ns, node.ctime_ns = latest(times, (node.mtime_ns, node.ctime_ns))
    node.created = False
    if node.lookups:
        out.append(Invalidation(node.inode, None, same))


def _drop_replaced(tree: Tree, node: FileNode, manifest: NodeManifest) -> None:
    """Blocks of ours that never left this device: a version of ours gave way, nobody has them."""
    kept = {ref.id for ref in manifest.refs} if isinstance(manifest, FileManifest) else set()
    replaced = [ref for ref in node.blocks or () if ref is not None and ref.id not in kept]
    tree.drop_blocks(replaced, tree.position)


def same_content(node: FileNode, manifest: NodeManifest) -> bool:
    """True iff the content that a remote manifest names is what this node shows already."""
    if not isinstance(manifest, FileManifest) or node.size != manifest.size or node.buffers:
        return False
    if node.blocks is None:
        return not manifest.refs and node.content is not None and node.content == manifest.inline
    shown = [ref.id if ref is not None else bytes(16) for ref in node.blocks]
    return not node.cuts and shown == [ref.id for ref in manifest.refs]


def _replace_open(tree: Tree, node: FileNode, out: list[Invalidation]) -> None:
    """The id leaves the table: its names will load the new version under a new inode number.

    The old node stays reachable by inode for its open handles, as an orphan that is never logged.
    """
    del tree.nodes[node.id]
    node.nlink, node.fresh = 0, False
    node.stale_pages = True
    if node.lookups:
        out.extend(
            Invalidation(folder.inode, name, was=node.entry)
            for folder, name in names_of(tree, node)
        )
    out.append(Invalidation(node.inode, None, True))


def _apply_names(
    tree: Tree, change: RemoteNames, touched: set[ObjectId], out: list[Invalidation]
) -> None:
    folder = tree.nodes.get(change.folder)
    if type(folder) is not FolderNode or folder.nlink == 0:
        # What is put into a folder that was deleted here is for sync to settle; if the folder comes
        # back, its names are loaded.
        if type(folder) is FolderNode:
            folder.children = None
        return
    if folder.children is not None:
        for name, child in change.names.items():
            _apply_name(tree, folder, name, child, touched, out)
        for name, child in change.names.items():
            # Only now: what moves within this folder may get its new name before it loses the old.
            if child is not None and folder.children.get(name) == (child.id, child.kind):
                place(tree.nodes.get(child.id), folder)
    folder.mtime_ns, folder.ctime_ns = latest(
        (folder.mtime_ns, folder.ctime_ns), (change.mtime_ns, change.ctime_ns)
    )
    folder.fresh = False
    if folder.lookups:
        out.append(Invalidation(folder.inode, None, True))


def _apply_name(
    tree: Tree,
    folder: FolderNode,
    name: bytes,
    child: Child | None,
    touched: set[ObjectId],
    out: list[Invalidation],
) -> None:
    key = (folder.id, name)
    new: Entry | None = None if child is None else (child.id, child.kind)
    assert folder.children is not None
    old = folder.children.get(name)
    bases = lay_over(tree, key, child)
    touched.update(entry[0] for entry in (old, new, *bases) if entry is not None)
    if bases or old == new:
        return
    if old is not None:
        del folder.children[name]
        folder.nlink -= old[1] == FOLDER
        _displace(tree.nodes.get(old[0]), folder)
    if new is not None and is_deleted_here(tree, new[0]):
        withhold(tree, folder, name, new)
    elif new is not None:
        tree.put(folder, name, new)
        folder.nlink += new[1] == FOLDER
    out.append(Invalidation(folder.inode, name, was=old))


def _displace(node: Node | None, folder: FolderNode) -> None:
    if type(node) is FolderNode and node.parent is folder:
        node.parent = None


def _recount(tree: Tree, node: Node | None, link_count: LinkCount) -> None:
    """The names of an object changed in the store, which already counts them."""
    if node is None:
        return
    node.fresh = False
    if is_deleted_here(tree, node.id):
        # Whether it stays so is settled, also where a name of it is not in memory.
        return
    if type(node) is not FolderNode:
        # A name of it that lies under one of ours comes to light when that is settled: what was not
        # deleted here does not look as if it were.
        least = 1 if node.nlink and (link_count(node.id) or _is_held(tree, node)) else 0
        node.nlink = max(links_now(tree, node.id, link_count), least)
    elif node.parent is None and node.inode != ROOT_INODE and link_count(node.id) == 0:
        node.nlink = 0


def _is_held(tree: Tree, node: Node) -> bool:
    """What changed here keeps the name under which it is shown until it is settled, whatever the
    store says of that name by now."""
    return tree.is_dirty(node.id) and bool(names_of(tree, node))

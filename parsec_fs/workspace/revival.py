"""What another device deleted while something of ours depends on it.

Data flow: contest -> this -> tree, journal; invalidations -> mount/notify.

Pure and synchronous. An id never comes back (rule 7): what goes on gets a new one, under the names
that it has here. What we only renamed is gone: a name must not stand for an object that is not.
"""

from collections.abc import Callable

from parsec_fs.protocol.ids import ObjectId
from parsec_fs.workspace import files, records
from parsec_fs.workspace.conflicts import drop_pending, record_everything, rekey, revert
from parsec_fs.workspace.nodes import Entry, FileNode, FolderNode, Node, SymlinkNode
from parsec_fs.workspace.overlay import count_links, names_of, pending_in
from parsec_fs.workspace.remote_changes import Invalidation
from parsec_fs.workspace.tree import Tree


def reborn(tree: Tree, node: Node, now: int) -> list[Invalidation]:
    """A file, symlink or special file that we changed goes on as a new object under the same
    names. Raises Missing if small content must be loaded first."""
    places = names_of(tree, node)
    if not places or node.nlink == 0:
        revert(tree, node)
        return []
    if type(node) is FileNode:
        files.require_content(node)
    old = node.id
    rekey(tree, node)
    tree.record((records.REVERT, old))
    for folder, name in places:
        tree.set_name(folder, name, node, now)
        tree.dirty_nodes.setdefault(node.id, tree.position + 1)
        tree.record(_named(folder, name, node, now))
    if type(node) is FileNode:
        record_everything(tree, node)
    else:
        tree.record(files.node_record(node))
        for name, value in (node.xattrs or {}).items():
            tree.record((records.XATTR, node.id, node.ctime_ns, name, value))
    return [Invalidation(folder.inode, name, was=node.entry) for folder, name in places]


def _named(folder: FolderNode, name: bytes, node: Node, now: int) -> records.Record:
    if node.nlink > 1:
        return (records.ENTRY, folder.id, name, node.id, node.kind, now)
    extra = node.target if type(node) is SymlinkNode else b""
    owner = (node.uid, node.gid)
    return (records.CREATE, folder.id, name, node.id, node.mode, *owner, node.rdev, now, extra)


def drop_names(tree: Tree, id: ObjectId) -> tuple[list[ObjectId], list[Invalidation]]:
    """Names that we gave, and did not log, to an object that is deleted elsewhere: they stand for
    what the store says. Also returns what that is."""
    node = tree.nodes.get(id)
    if node is None:
        return [], []
    places = [one for one in names_of(tree, node) if (one[0].id, one[1]) in tree.dirty_names]
    uncovered = []
    for folder, name in places:
        theirs = tree.dirty_names[folder.id, name][1]
        drop_pending(tree, folder, name, theirs)
        tree.record((records.THEIRS, folder.id, name))
        if theirs is not None:
            uncovered.append(theirs[0])
    if places:
        node.nlink, node.fresh = 0, False
        if type(node) is FolderNode:
            node.parent = None
        if node.lookups <= 0 and node.opens == 0:
            tree.drop(node)
    return uncovered, [Invalidation(folder.inode, name, was=node.entry) for folder, name in places]


def adopt(
    tree: Tree, node: FolderNode, is_stored: Callable[[ObjectId], bool], now: int
) -> list[Invalidation]:
    """A folder that another device deleted while something of ours is in it becomes a new one in
    its place, with what is left in it. An id never comes back (rule 7). Raises Missing."""
    children = tree.children(node)
    gone = [name for name, entry in children.items() if not _lives(tree, entry, is_stored)]
    places = names_of(tree, node)
    if not places:
        return []
    parent, name = places[0]
    old = node.id
    rekey(tree, node)
    node.page_key, node.page_bits, node.nlink = tree.new_id() + tree.new_id(), 0, 2
    for key in pending_in(tree, old):
        del tree.dirty_names[key]
    node.pending = 0
    tree.set_name(parent, name, node, now)
    tree.dirty_nodes[node.id] = tree.position + 1
    owner = (node.uid, node.gid)
    tree.record(
        (records.CREATE, parent.id, name, node.id, node.mode, *owner, 0, now, node.page_key)
    )
    tree.record(files.node_record(node))
    for child in gone:
        del children[child]
    for child, entry in children.items():
        tree.put(node, child, entry)
        tree.pend((node.id, child), None)
        node.pending += 1
        tree.record((records.ENTRY, node.id, child, entry[0], entry[1], now))
    count_links(node)
    return [
        Invalidation(parent.inode, name, was=node.entry),
        Invalidation(node.inode, None, True),
    ]


def _lives(tree: Tree, entry: Entry, is_stored: Callable[[ObjectId], bool]) -> bool:
    node = tree.nodes.get(entry[0])
    return (node is not None and node.created) or is_stored(entry[0])

"""Pending changes over what the store says of names: when names are loaded, or come from others.

Data flow: memory (names of a folder), remote_changes, contest -> this -> tree.

Pure and synchronous. Rules guarded here:
- whatever comes into memory lies below what is pending here;
- an object that we have deleted is not shown again because another device has named it: the name is
  withheld, as if our deletion had taken it along, until `contest` has settled which of them stands.
"""

from collections.abc import Mapping

from parsec_fs.protocol.ids import ObjectId
from parsec_fs.protocol.manifests import FOLDER, Child
from parsec_fs.workspace.nodes import NODE, ROOT_INODE, Entry, FolderNode, Missing, Node
from parsec_fs.workspace.times import latest
from parsec_fs.workspace.tree import NameKey, Tree


def show_names(
    tree: Tree, folder: FolderNode, names: Mapping[bytes, Entry], times: tuple[int, int]
) -> None:
    """The store's names of a folder that was asked for, and their (mtime, ctime). Pending changes
    of a folder whose names were not in memory took names away: it was deleted here."""
    if folder.children is not None:
        return
    folder.children = dict(names)
    if folder.pending > 0:
        for id, name in (*tree.dirty_names, *tree.flying_names):
            if id == folder.id:
                folder.children.pop(name, None)
    for name, entry in list(folder.children.items()):
        if is_deleted_here(tree, entry[0]):
            withhold(tree, folder, name, entry)
        else:
            place(tree.nodes.get(entry[0]), folder)
    count_links(folder)
    folder.mtime_ns, folder.ctime_ns = latest((folder.mtime_ns, folder.ctime_ns), times)
    folder.fresh = False


def count_links(folder: FolderNode) -> None:
    """The link count of a folder in use follows from its names, which are in memory."""
    assert folder.children is not None
    folder.nlink = 2 + sum(1 for entry in folder.children.values() if entry[1] == FOLDER)


def place(node: Node | None, folder: FolderNode) -> None:
    """A folder that is in memory without its place is in `folder`. Only hostile members name a
    folder below itself (A36): nothing may follow that."""
    if type(node) is not FolderNode or node.parent is not None or node.inode == ROOT_INODE:
        return
    if not is_below(folder, node):
        node.parent = folder


def is_below(folder: FolderNode | None, upper: FolderNode) -> bool:
    """True iff `folder` is `upper` or lies below it."""
    while folder is not None and folder is not upper:
        folder = folder.parent
    return folder is upper


def is_deleted_here(tree: Tree, id: ObjectId) -> bool:
    """True iff pending changes took the last name of an object away."""
    if id not in tree.dirty_nodes and id not in tree.flying_nodes:
        return False
    node = tree.nodes.get(id)
    return node is None or node.nlink == 0


def is_named_here(tree: Tree, entry: Entry) -> bool:
    """True iff a pending change gives this object a name."""
    for folder_id, name in (*tree.dirty_names, *tree.flying_names):
        folder = tree.nodes.get(folder_id)
        children = folder.children if type(folder) is FolderNode else None
        if children and children.get(name) == entry:
            return True
    return False


def withhold(tree: Tree, folder: FolderNode, name: bytes, entry: Entry) -> None:
    """The store names what we have deleted. Nothing is recorded: the deletion is."""
    assert folder.children is not None
    folder.children.pop(name, None)
    if (folder.id, name) not in tree.dirty_names:
        tree.dirty_names[folder.id, name] = (tree.position + 1, entry)
        folder.pending += (folder.id, name) not in tree.flying_names


def lay_over(tree: Tree, key: NameKey, child: Child | None) -> list[Entry | None]:
    """The store says from now on that a name stands for `child`: what is pending of that name, also
    what is under way, lies over this. Returns what it lay over before; empty: nothing is pending.

    Counts of names add what is pending to what the store counts, so both must be of one moment."""
    bases = []
    for one in (tree.dirty_names, tree.flying_names):
        if key in one:
            position, base = one[key]
            one[key] = (position, None if child is None else (child.id, child.kind))
            bases.append(base)
    return bases


def known(tree: Tree, id: ObjectId) -> Node:
    """The node of an object, wherever it is named. Raises Missing."""
    node = tree.nodes.get(id)
    if node is None:
        raise Missing(NODE, id)
    return node

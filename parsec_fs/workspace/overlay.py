"""Pending changes over what the store says of names: when names are loaded, or come from others.

Data flow: memory (names of a folder), remote_changes, contest -> this -> tree.

Pure and synchronous. Rules guarded here:
- whatever comes into memory lies below what is pending here;
- an object that we have deleted is not shown again because another device has named it: the name is
  withheld, as if our deletion had taken it along, until `contest` has settled which of them stands.
"""

from collections.abc import Callable, Iterable, Mapping

from parsec_fs.protocol.ids import ObjectId
from parsec_fs.protocol.manifests import FOLDER, Child
from parsec_fs.workspace.name_index import NameKey
from parsec_fs.workspace.nodes import NODE, ROOT_INODE, Entry, FolderNode, Missing, Node
from parsec_fs.workspace.times import latest
from parsec_fs.workspace.tree import Tree

LinkCount = Callable[[ObjectId], int]
"""How many names of an object the store has."""


def show_names(
    tree: Tree, folder: FolderNode, names: Mapping[bytes, Entry], times: tuple[int, int]
) -> None:
    """The store's names of a folder that was asked for, and their (mtime, ctime). Pending changes
    of a folder whose names were not in memory took names away: it was deleted here."""
    if folder.children is not None:
        return
    folder.children = dict(names)
    if folder.pending > 0:
        for _, name in pending_in(tree, folder.id):
            folder.children.pop(name, None)
    for name, entry in list(folder.children.items()):
        if is_deleted_here(tree, entry[0]):
            withhold(tree, folder, name, entry)
        else:
            place(tree.nodes.get(entry[0]), folder, anew=False)
    if tree.index is not None:
        tree.index.shown(folder)
    count_links(folder)
    folder.mtime_ns, folder.ctime_ns = latest((folder.mtime_ns, folder.ctime_ns), times)
    folder.fresh = False


def count_links(folder: FolderNode) -> None:
    """The link count of a folder in use follows from its names, as far as they are in memory."""
    folder.nlink = 2 + sum(entry[1] == FOLDER for entry in (folder.children or {}).values())


def recount(folder: FolderNode, was: Entry | None, now: Entry | None) -> None:
    """The link count of a folder after one of its names changed."""
    if folder.nlink == 0:
        count_links(folder)
    else:
        folder.nlink += (now is not None and now[1] == FOLDER) - (
            was is not None and was[1] == FOLDER
        )


def place(node: Node | None, folder: FolderNode, *, anew: bool = True) -> None:
    """A name in `folder` stands for this node: a folder lies there, and is in use. `anew`: wherever
    it was before; else only if memory does not know its place. Only hostile members name a folder
    below itself, or the root (A36): nothing may follow that."""
    if type(node) is not FolderNode or node.inode == ROOT_INODE:
        return
    if (anew or node.parent is None) and not is_below(folder, node):
        node.parent = folder
        if node.nlink == 0:
            count_links(node)


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


def names_of(tree: Tree, node: Node) -> list[tuple[FolderNode, bytes]]:
    """Where an object is named, in the folders that are in memory."""
    if tree.index is not None:
        return tree.index.names_of(node)
    return [
        (folder, name)
        for folder in tree.nodes.values()
        if type(folder) is FolderNode and folder.children
        for name, entry in folder.children.items()
        if entry == node.entry
    ]


def pending_in(tree: Tree, id: ObjectId) -> list[NameKey]:
    """Pending names in a folder."""
    if tree.index is not None:
        return tree.index.pending_in(id)
    return [key for key in {**tree.dirty_names, **tree.flying_names} if key[0] == id]


def taken_from(tree: Tree, id: ObjectId) -> list[tuple[NameKey, Entry]]:
    """Names that stood for an object and are dirty, and what they stood for."""
    if tree.index is not None:
        return tree.index.taken_from(id)
    return [(key, was) for key, (_, was) in tree.dirty_names.items() if was and was[0] == id]


def links_now(tree: Tree, id: ObjectId, link_count: LinkCount) -> int:
    """Names of an object: those in the store, and what changes of names pending here make of it."""
    pending = {**tree.dirty_names, **tree.flying_names} if tree.index is None else tree.dirty_names
    keys: Iterable[NameKey] = pending
    if tree.index is not None:
        keys = dict.fromkeys((*tree.index.named_by(id), *tree.index.taken_by(id)))
    links = link_count(id)
    for key in keys:
        if key in pending:
            base, entry = pending[key][1], shown_at(tree, key)
            links += (entry is not None and entry[0] == id) - (base is not None and base[0] == id)
    return links


def shown_at(tree: Tree, key: NameKey) -> Entry | None:
    """What a name in memory stands for."""
    folder = tree.nodes.get(key[0])
    children = folder.children if type(folder) is FolderNode else None
    return children.get(key[1]) if children else None


def is_named_here(tree: Tree, entry: Entry) -> bool:
    """True iff a pending change gives this object a name."""
    if tree.index is not None:
        keys = tree.index.named_by(entry[0])
        return any(key in tree.dirty_names and shown_at(tree, key) == entry for key in keys)
    pending = (*tree.dirty_names, *tree.flying_names)
    return any(shown_at(tree, key) == entry for key in pending)


def withhold(tree: Tree, folder: FolderNode, name: bytes, entry: Entry) -> None:
    """The store names what we have deleted. Nothing is recorded: the deletion is."""
    assert folder.children is not None
    folder.children.pop(name, None)
    if (folder.id, name) not in tree.dirty_names:
        tree.pend((folder.id, name), entry)
        folder.pending += (folder.id, name) not in tree.flying_names


def lay_over(tree: Tree, key: NameKey, child: Child | None) -> list[Entry | None]:
    """The store says from now on that a name stands for `child`: what is pending of that name, also
    what is under way, lies over this. Returns what it lay over before; empty: nothing is pending.

    Counts of names add what is pending to what the store counts, so both must be of one moment."""
    bases = []
    for one in (tree.dirty_names, tree.flying_names):
        if key in one:
            position, base = one[key]
            now = None if child is None else (child.id, child.kind)
            one[key] = (position, now)
            if tree.index is not None:
                tree.index.pends(key, now)
            bases.append(base)
    return bases


def known(tree: Tree, id: ObjectId) -> Node:
    """The node of an object, wherever it is named. Raises Missing."""
    node = tree.nodes.get(id)
    if node is None:
        raise Missing(NODE, id)
    return node

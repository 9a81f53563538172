"""What of ours another device's changes concern: questions to the tree, nothing is changed.

Data flow: contest, takeovers -> this -> tree (names and folders in memory).
"""

from collections import Counter
from collections.abc import Sequence

from parsec_fs.protocol.ids import ObjectId
from parsec_fs.workspace.name_index import NameKey
from parsec_fs.workspace.nodes import FolderNode
from parsec_fs.workspace.overlay import LinkCount, is_deleted_here, shown_at
from parsec_fs.workspace.remote_changes import RemoteChange, RemoteNames, RemoteNode
from parsec_fs.workspace.tree import Tree


def entry_id(tree: Tree, folder_id: ObjectId, name: bytes) -> ObjectId | None:
    """What a name in memory stands for."""
    entry = shown_at(tree, (folder_id, name))
    return None if entry is None else entry[0]


def named_here(tree: Tree) -> set[ObjectId]:
    """What names that are not logged stand for here."""
    pending = (*tree.dirty_names, *tree.flying_names)
    return {id for id in (entry_id(tree, *key) for key in pending) if id is not None}


def unnamed(tree: Tree, link_count: LinkCount) -> dict[ObjectId, NameKey]:
    """Objects of the store that nobody deleted, but whose last name is taken away here: one of two
    was, and another device took the other. By object: a name that we took."""
    pending = {**tree.dirty_names, **tree.flying_names}
    taken = dict[ObjectId, NameKey]()
    for key, (_, base) in pending.items():
        if base is not None and base[0] != entry_id(tree, *key):
            taken.setdefault(base[0], key)
    if not taken:
        return taken
    counts = Counter(entry_id(tree, *key) for key in pending)
    counts.subtract(base[0] for _, base in pending.values() if base is not None)
    return {
        id: key
        for id, key in taken.items()
        if counts[id] < 0 and link_count(id) + counts[id] <= 0 and not is_deleted_here(tree, id)
    }


def needed(tree: Tree, changes: Sequence[RemoteChange]) -> set[ObjectId]:
    """Objects deleted elsewhere that have changes here, and the folders above them."""
    deleted = {
        change.id
        for change in changes
        if isinstance(change, RemoteNode) and change.manifest is None
    }
    if not deleted:
        return deleted
    needed = {id for id in deleted if tree.is_dirty(id)}
    parents = [tree.nodes.get(folder) for folder, _ in (*tree.dirty_names, *tree.flying_names)]
    for change in changes:
        if isinstance(change, RemoteNames) and _names_any(tree, change, needed):
            parents.append(tree.nodes.get(change.folder))
    for folder in parents:
        while isinstance(folder, FolderNode) and folder.nlink > 0:
            needed.add(folder.id)
            folder = folder.parent
    return needed & deleted


def _names_any(tree: Tree, change: RemoteNames, ids: set[ObjectId]) -> bool:
    return any(entry_id(tree, change.folder, name) in ids for name in change.names)

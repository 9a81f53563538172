"""Moves of folders that are legal one by one and make a circle together (attack A36).

Data flow: contest (their move meets ours) -> this -> tree, journal; push (preconditions) -> this.

Pure and synchronous. Against circles: who moves a folder commits on the condition that nothing
above its new place has changed; and where a foreign move meets one that is pending here, ours is
given up.
"""

from parsec_fs.protocol.ids import ObjectId
from parsec_fs.workspace.conflicts import uncover
from parsec_fs.workspace.nodes import FolderNode
from parsec_fs.workspace.overlay import names_of, taken_from
from parsec_fs.workspace.remote_changes import Invalidation
from parsec_fs.workspace.tree import Tree


def places_above(tree: Tree, id: ObjectId) -> list[tuple[ObjectId, bytes]]:
    """Where a folder and every folder above it are named, up to the root."""
    places = []
    folder = tree.nodes.get(id)
    while type(folder) is FolderNode and folder.parent is not None:
        names = (folder.parent.children or {}).items()
        places += [(folder.parent.id, name) for name, entry in names if entry == folder.entry]
        folder = folder.parent
    return places


def pending_move(tree: Tree, folder_id: ObjectId, upper: ObjectId) -> ObjectId | None:
    """Another device puts the folder `upper` into `folder_id`. Which of our moves, not logged yet,
    cannot stand beside that: one of `upper` itself (it would have two places), or, if `folder_id`
    lies below `upper` here, the first on the way up (it would be a circle). None: all is well."""
    moving = tree.nodes.get(upper)
    # Whoever puts it there knows it: it is logged, though we may not have heard that of ours yet.
    if type(moving) is FolderNode and _is_pending(tree, moving):
        return upper
    folder, moved = tree.nodes.get(folder_id), None
    while type(folder) is FolderNode and folder.id != upper:
        if moved is None and _is_pending(tree, folder):
            moved = folder.id
        folder = folder.parent
    return moved if folder is not None else None


def _is_pending(tree: Tree, folder: FolderNode) -> bool:
    above = folder.parent
    if above is None:
        return False
    names = [name for name, entry in (above.children or {}).items() if entry == folder.entry]
    pending = (tree.dirty_names, tree.flying_names)
    return any((above.id, name) in one for one in pending for name in names)


def undo_move(
    tree: Tree, id: ObjectId, now: int
) -> tuple[list[tuple[ObjectId, bytes]], list[Invalidation]]:
    """Our move of a folder is given up: it is back where the store has it, or where the other
    device has put it, as soon as that is applied. Returns also the names that it had before and
    that are to be given back to it."""
    node = tree.nodes.get(id)
    if type(node) is not FolderNode:
        return [], []
    back = [key for key, was in taken_from(tree, id) if was == node.entry]
    places = [
        (one, name) for one, name in names_of(tree, node) if (one.id, name) in tree.dirty_names
    ]
    places = [(one, name) for one, name in places if (one.id, name) not in back]
    for folder, name in places:
        uncover(tree, folder, name, now)
    if places:
        node.parent = None
    return back if places else [], [
        Invalidation(one.inode, name, was=node.entry) for one, name in places
    ]

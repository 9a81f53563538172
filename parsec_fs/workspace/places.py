"""Where objects are named: the folders that a record of the journal does not tell.

Data flow: local store -> this -> memory (folders, from the root down to those that name it).

What is changed through the mount was looked up, so its folders are in memory. After a start they
are not: the journal says only what changed. Whoever needs the place of something pending (a copy
beside it, a circle of moves) loads it with this. One folder of the local store a step.
"""

from collections import deque
from collections.abc import Iterable, Iterator

from parsec_fs.protocol.errors import LocalError
from parsec_fs.protocol.ids import ROOT_OBJECT, ObjectId
from parsec_fs.protocol.manifests import FOLDER, FolderManifest
from parsec_fs.workspace.memory import Memory
from parsec_fs.workspace.nodes import CHILDREN, NODE, ROOT_INODE, Entry, FolderNode, Missing, Node
from parsec_fs.workspace.overlay import is_deleted_here, place
from parsec_fs.workspace.tree import Tree


def pending_folders(tree: Tree) -> set[ObjectId]:
    """Folders in which names are pending."""
    return {folder for folder, _ in (*tree.dirty_names, *tree.flying_names)}


def moves_folders(tree: Tree) -> bool:
    """True iff a pending name stands for a folder that the store has."""
    for folder_id, name in (*tree.dirty_names, *tree.flying_names):
        folder = tree.nodes.get(folder_id)
        children = folder.children if type(folder) is FolderNode else None
        entry = children.get(name) if children else None
        node = None if entry is None else tree.nodes.get(entry[0])
        if type(node) is FolderNode and not node.created:
            return True
    return False


def unplaced(tree: Tree, ids: Iterable[ObjectId]) -> set[ObjectId]:
    """Those of the objects that are somewhere, but memory does not know in which folders."""
    wanted = set(ids)
    above = {
        entry[0]: folder
        for folder in (list(tree.nodes.values()) if wanted else ())
        if type(folder) is FolderNode and folder.children
        for entry in folder.children.values()
    }
    return {
        id
        for id in wanted
        if not is_deleted_here(tree, id) and not is_placed(tree.nodes.get(id), above.get(id))
    }


def is_placed(node: Node | None, folder: FolderNode | None = None) -> bool:
    """True iff memory knows the way from the root to a node; `folder` names it, if it is none."""
    if type(node) is FolderNode:
        folder = node
    while folder is not None and folder.inode != ROOT_INODE:
        folder = folder.parent
    return folder is not None


def load_places(memory: Memory, wanted: Iterable[ObjectId]) -> Iterator[None]:
    """Load every folder that names one of these objects in the store, and all folders above."""
    counts = {id: memory.loader.link_count(id) for id in wanted}
    left = {id: count for id, count in counts.items() if count > 0}
    paths, seen = deque[tuple[ObjectId, ...]]([(ROOT_OBJECT,)]), {ROOT_OBJECT}
    while paths and left:
        path = paths.popleft()
        entries = _entries(memory, path[-1])
        named = [id for id, _ in entries if id in left]
        if named:
            _load_path(memory, path)
        for id in named:
            left[id] -= 1
        left = {id: count for id, count in left.items() if count > 0} if named else left
        below = {id for id, kind in entries if kind == FOLDER} - seen
        seen |= below
        paths.extend((*path, id) for id in below)
        yield


def _entries(memory: Memory, id: ObjectId) -> list[Entry]:
    try:
        manifest = memory.loader.load(id)
        if not isinstance(manifest, FolderManifest):
            return []
        return list(memory.loader.load_children(id, manifest).names.values())
    except LocalError:
        return []


def _load_path(memory: Memory, path: tuple[ObjectId, ...]) -> None:
    upper: FolderNode | None = None
    for id in path:
        if is_deleted_here(memory.tree, id):
            return
        if id not in memory.tree.nodes:
            memory.load(Missing(NODE, id))
        folder = memory.tree.nodes[id]
        if type(folder) is not FolderNode or folder.nlink == 0:
            return
        if folder.children is None:
            memory.load(Missing(CHILDREN, id))
        if upper is not None and folder.entry in (upper.children or {}).values():
            place(folder, upper, anew=False)
        upper = folder

"""What lay behind damage in the journal, or is of what is damaged itself, for people to look at: a
folder of recovered files.

Data flow: storage/journal (records behind damage) -> this -> files in a new folder of the tree.

Pure. Records behind a lost group cannot be applied: they may build on what was lost. But file
content in them is worth keeping, so each file they speak of is put together as far as they tell,
under its last known name, in a folder beside everything else (decisions.md 6). Nothing existing is
changed. Missing is raised before anything is made.
"""

from collections.abc import Iterable, Set
from typing import Any, Final

from parsec_fs.protocol.errors import DataError
from parsec_fs.protocol.ids import BlockId, Hash, ObjectId
from parsec_fs.workspace import names, records
from parsec_fs.workspace.conflicts import record_everything
from parsec_fs.workspace.nodes import TYPE_FOLDER, FileNode, FolderNode, Missing
from parsec_fs.workspace.replay import Replay
from parsec_fs.workspace.tree import Tree

_CONTENT: Final = (records.INLINE, records.DATA, records.SIZE, records.BLOCK)
_BLOCK_ID: Final = 3
_NAME_AND_ID: Final = {records.CREATE: (2, 3), records.ENTRY: (2, 3), records.MOVE: (4, 5)}


def salvage(
    tree: Tree, salvaged: Iterable[tuple[int, Any]], folder_name: bytes, now: int
) -> list[FileNode]:
    """Make the folder (in the root) and its files. Returns the files; none: no folder either.
    Raises Missing."""
    salvaged = [record for _, record in salvaged]
    about = (record[1] for record in salvaged if record[0] in _CONTENT)
    wanted = {ObjectId(id) for id in about if type(id) is bytes}
    if not wanted:
        return []
    root = tree.folder(1)
    owner = (root.uid, root.gid)
    folder = names.create(
        tree, 1, _free(tree, root, folder_name), TYPE_FOLDER | 0o700, owner=owner, now=now
    )
    assert isinstance(folder, FolderNode)
    folder.lookups = 0
    known = _last_names(salvaged)
    made: dict[ObjectId, FileNode] = {}
    for id in sorted(wanted):
        name = _free(tree, folder, known.get(id, id.hex().encode()))
        made[id] = names.make_file(tree, folder.inode, name, 0o600, owner, now)
        made[id].lookups = 0
    _fill(tree, salvaged, made)
    for node in made.values():
        record_everything(tree, node)
    return list(made.values())


def unapplied(
    tree: Tree, replayed: Iterable[tuple[int, Any]], damaged: Set[ObjectId]
) -> dict[ObjectId, list[tuple[int, Any]]]:
    """Names and content of files that could not be replayed, because the file or the folder that it
    was made in does not open: by file. What was given up, as after a salvage, is not among them."""
    found: dict[ObjectId, list[tuple[int, Any]]] = {id: [] for id in damaged}
    digests: dict[Any, tuple[int, Any]] = {}
    for position, record in replayed:
        tag: Any = record[0] if record else None
        if tag == records.DIGEST:
            digests[record[1]] = (position, record)
        if tag == records.CREATE and record[1] in damaged:
            found.setdefault(record[3], [])
        place = 1 if tag in _CONTENT else _NAME_AND_ID.get(tag, (0, 0))[1]
        if place and record[place] in found:
            found[record[place]].append((position, record))
        elif tag == records.REVERT and record[1] in found:
            found[record[1]].clear()
    named = {node.id for node in tree.nodes.values() if node.nlink > 0}
    return {
        id: told + _digests_of(told, digests)
        for id, told in found.items()
        if id not in named and any(record[0] in _CONTENT for _, record in told)
    }


def digests_of(salvaged: Iterable[tuple[int, Any]]) -> dict[BlockId, Hash]:
    """Digests of blocks in records behind damage: what is before it may name the blocks."""
    found: dict[BlockId, Hash] = {}
    for _, record in salvaged:
        if len(record) == 3 and record[0] == records.DIGEST:
            found[BlockId(record[1])] = Hash(record[2])
    return found


def _digests_of(
    told: list[tuple[int, Any]], digests: dict[Any, tuple[int, Any]]
) -> list[tuple[int, Any]]:
    blocks = (record[_BLOCK_ID] for _, record in told if record[0] == records.BLOCK)
    return [digests[block] for block in blocks if block in digests]


def _last_names(salvaged: list[Any]) -> dict[ObjectId, bytes]:
    found: dict[ObjectId, bytes] = {}
    for record in salvaged:
        place = _NAME_AND_ID.get(record[0])
        if place is not None and record[place[1]]:
            found[record[place[1]]] = record[place[0]]
    return found


def _free(tree: Tree, folder: FolderNode, name: bytes) -> bytes:
    children = tree.children(folder)
    candidate, number = name, 1
    while candidate in children:
        number += 1
        candidate = name[:240] + b" %d" % number
    return candidate


def _fill(tree: Tree, salvaged: list[Any], made: dict[ObjectId, FileNode]) -> None:
    """Apply the content records to the new files, in order, with the ids exchanged."""
    replay, position = Replay(tree), tree.position
    for record in salvaged:
        if record[0] == records.DIGEST:
            moved = record
        elif record[0] in _CONTENT and record[1] in made:
            moved = (record[0], made[record[1]].id, *record[2:])
        else:
            continue
        try:
            replay.apply(position, moved)
        except (DataError, Missing):
            continue
    for node in made.values():
        replay.complete(node)
    tree.position = position

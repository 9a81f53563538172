"""Changes that must wait move to the end of the journal, so that what lies before can go.

Data flow: held (files whose content cannot be sent) -> `waiting_for` -> capture -> `carry` -> tree,
    journal.

Pure and synchronous. What is logged leaves the journal by one position. If that stood still before
a change that waits for days, everything logged after it would be replayed at the next start over
versions that other devices made since, and undo them. So whenever something else is logged, what
waits is recorded anew, as a whole, behind it. Nothing in the tree changes but the marks.
"""

from collections.abc import Callable, Iterable, Set
from dataclasses import dataclass
from typing import Final

from parsec_fs.protocol.ids import NO_HASH, ObjectId
from parsec_fs.protocol.limits import BLOCK_SIZE
from parsec_fs.protocol.manifests import FOLDER, HOLE, BlockRef
from parsec_fs.workspace import files, records
from parsec_fs.workspace.name_index import NameKey
from parsec_fs.workspace.nodes import Entry, FileNode, FolderNode, Node
from parsec_fs.workspace.tree import Tree

StoredXattrs = Callable[[ObjectId], Iterable[bytes]]
"""Names of extended attributes that the store says an object has."""

_HOLE: Final = BlockRef(id=HOLE, key=bytes(32), digest=NO_HASH, size=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """What cannot be logged now: files, the names that depend on them, and objects (`gone`) that
    cannot be deleted because such a name is what they have in the store."""

    nodes: Set[ObjectId] = frozenset()
    names: Set[NameKey] = frozenset()
    gone: Set[ObjectId] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.nodes)

    def is_all(self, tree: Tree) -> bool:
        """True iff nothing else is left to be logged."""
        rest = tree.dirty_nodes.keys() - self.nodes - self.gone
        return not rest and tree.dirty_names.keys() <= self.names


NOTHING: Final = Waiting()


def waiting_for(tree: Tree, held: Set[ObjectId]) -> Waiting:
    """What waits with these files: a name of a file that the store does not have, the new name of a
    folder whose old place is to be taken by such a name, and all names in a folder that is to be
    deleted for it."""
    if not held:
        return NOTHING
    entries = {key: entry_at(tree, key) for key in tree.dirty_names}
    names = {key for key, entry in entries.items() if entry and _is_new(tree, entry, held)}
    more = names
    while more:
        covered = {base for key in more if (base := tree.dirty_names[key][1]) is not None}
        moved = {base for base in covered if base[1] == FOLDER}
        # A folder that cannot be deleted yet keeps what was in it.
        kept = {base[0] for base in moved if _is_gone(tree, base[0])}
        more = {key for key, at in entries.items() if at in moved or key[0] in kept} - names
        names |= more
    bases = (tree.dirty_names[key][1] for key in names)
    gone = {base[0] for base in bases if base is not None and _is_gone(tree, base[0])}
    return Waiting(nodes=frozenset(held), names=frozenset(names), gone=frozenset(gone))


def entry_at(tree: Tree, key: NameKey) -> Entry | None:
    """What a name stands for in a folder that is in memory and not deleted."""
    folder = tree.nodes.get(key[0])
    if type(folder) is not FolderNode or folder.nlink == 0:
        return None
    return (folder.children or {}).get(key[1])


def _is_new(tree: Tree, entry: Entry, held: Set[ObjectId]) -> bool:
    node = tree.nodes.get(entry[0])
    return node is not None and node.created and entry[0] in held


def _is_gone(tree: Tree, id: ObjectId) -> bool:
    node = tree.nodes.get(id)
    return id in tree.dirty_nodes and (node is None or node.nlink == 0)


def carry(tree: Tree, waiting: Waiting, stored_xattrs: StoredXattrs) -> None:
    """Record it all anew: first what is taken away, so that nothing has two places meanwhile."""
    names = [key for key in tree.dirty_names if key in waiting.names]
    for id in [id for id in tree.dirty_nodes if id in waiting.gone]:
        _moved_on(tree, id)
    for key in names:
        base = tree.dirty_names.pop(key)[1]
        tree.pend(key, base)
        if base is not None or entry_at(tree, key) is None:
            tree.record((records.ENTRY, *key, b"", 0, _time_of(tree, key)))
    known: set[ObjectId] = set()
    for key in names:
        _name(tree, key, known)
    for id in [id for id in tree.dirty_nodes if id in waiting.nodes]:
        node = tree.nodes.get(id)
        if id not in known:
            _moved_on(tree, id)
        if type(node) is FileNode:
            _whole(tree, node, stored_xattrs)


def _moved_on(tree: Tree, id: ObjectId) -> None:
    """What is not logged of an object begins with the next record."""
    tree.dirty_nodes.pop(id, None)
    tree.dirty_nodes[id] = tree.position + 1


def _time_of(tree: Tree, key: NameKey) -> int:
    folder = tree.nodes.get(key[0])
    return folder.mtime_ns if folder is not None else 0


def _name(tree: Tree, key: NameKey, known: set[ObjectId]) -> None:
    entry, now = entry_at(tree, key), _time_of(tree, key)
    if entry is None:
        return
    if tree.dirty_names[key][1] is None:
        # Nothing was recorded of it before.
        base = tree.dirty_names.pop(key)[1]
        tree.pend(key, base)
    node = tree.nodes.get(entry[0])
    if node is not None and node.created and node.id not in known:
        known.add(node.id)
        _moved_on(tree, node.id)
        tree.record((records.CREATE, *key, *_creation(node), now, b""))
    else:
        tree.record((records.ENTRY, *key, *entry, now))


def _creation(node: Node) -> tuple[ObjectId, int, int, int, int]:
    return node.id, node.mode, node.uid, node.gid, node.rdev


def _whole(tree: Tree, node: FileNode, stored_xattrs: StoredXattrs) -> None:
    """A file as it is, whatever the store says of it."""
    tree.record(files.node_record(node))
    xattrs = node.xattrs or {}
    for name in stored_xattrs(node.id):
        if name not in xattrs:
            tree.record((records.XATTR_GONE, node.id, node.ctime_ns, name))
    for name, value in xattrs.items():
        tree.record((records.XATTR, node.id, node.ctime_ns, name, value))
    times = (node.mtime_ns, node.ctime_ns)
    if node.blocks is not None:
        _blocks(tree, node, times)
    elif node.content is not None:
        tree.record((records.INLINE, node.id, node.size, *times, bytes(node.content)))


def _blocks(tree: Tree, node: FileNode, times: tuple[int, int]) -> None:
    for index, found in enumerate(node.blocks or ()):
        ref = found or _HOLE
        start, block = index * BLOCK_SIZE, (ref.id, ref.key, ref.digest, ref.size)
        reached = min(start + BLOCK_SIZE, node.size)
        tree.record((records.BLOCK, node.id, index, *block, reached, *times))
        if index in node.cuts:
            # Zeros from there on, whatever follows.
            tree.record((records.SIZE, node.id, start + node.cuts[index], *times))
    for index, buffer in node.buffers.items():
        for start, stop in buffer.known:
            data = bytes(memoryview(buffer.data)[start:stop])
            tree.record((records.DATA, node.id, index * BLOCK_SIZE + start, data))
    tree.record((records.SIZE, node.id, node.size, *times))

"""When two devices changed the same file or took the same name: nothing is lost.

Data flow: sync (a compare-and-swap was refused) -> this -> tree, journal; invalidations -> notify.

Pure and synchronous. Our version goes on as a new object under a conflict name beside the other
one; handles that are open here stay with our version, so what is written through them goes there.
The old object shows the other device's version from then on.
"""

import re
from typing import Final

from parsec_fs.protocol.ids import ObjectId
from parsec_fs.protocol.limits import BLOCK_SIZE, NAME_MAX_SIZE
from parsec_fs.protocol.manifests import Child
from parsec_fs.workspace import files, records
from parsec_fs.workspace.nodes import Entry, FileNode, FolderNode, Node
from parsec_fs.workspace.overlay import is_deleted_here, is_named_here, names_of, recount
from parsec_fs.workspace.remote_changes import Invalidation
from parsec_fs.workspace.tree import Tree

_COPY: Final = re.compile(
    rb"(.+) \(conflict, (.*[^ ]) (\d{4}-\d\d-\d\d) (\d\d)\.(\d\d)(?: \d+)?\)(.*)", re.DOTALL
)
_MARK: Final = b" (conflict, "
_REFUSED: Final = b'/\\:*?"<>|'
"""In names of files, by other systems."""


def is_conflict_name(name: bytes) -> bool:
    """Is this the name of a conflict copy?"""
    return _MARK in name and split_conflict_name(name) is not None


def split_conflict_name(name: bytes) -> tuple[bytes, bytes, bytes] | None:
    """What a conflict name says: (name of the other version, whose this one is, "YYYY-MM-DD
    HH:MM"). None: it is no conflict name. Of a name that had to be shortened only the shortened one
    is known."""
    found = _COPY.fullmatch(name)
    if found is None:
        return None
    stem, label, day, hour, minute, extension = found.groups()
    if extension and (extension[:1] != b"." or len(extension) > 17):
        return None
    if stem + extension in (b".", b".."):
        return None
    return stem + extension, label, day + b" " + hour + b":" + minute


def conflict_name(name: bytes, label: bytes, taken: dict[bytes, object]) -> bytes:
    """`report (conflict, LABEL).odt`; shortened to fit, numbered until it is free.

    `label` is "WHOSE YYYY-MM-DD HH.MM", its beginning from `parsec_fs.authors`. Whatever it is, the
    name fits and has no characters that other systems refuse.
    """
    label = bytes(c for c in label if c >= 32 and c not in _REFUSED)[:80]
    stem, dot, extension = name.rpartition(b".")
    if not stem or len(extension) > 16:
        stem, dot, extension = name, b"", b""
    number = 1
    while True:
        again = b" %d" % number if number > 1 else b""
        tail = _MARK + label + again + b")" + dot + extension
        candidate = cut(stem, NAME_MAX_SIZE - len(tail)) + tail
        if candidate not in taken:
            return candidate
        number += 1


def cut(stem: bytes, size: int) -> bytes:
    """At most `size` bytes, not ending within a UTF-8 character."""
    if len(stem) <= size:
        return stem
    while size > 0 and stem[size] & 0xC0 == 0x80:
        size -= 1
    return stem[:size]


def set_aside(
    tree: Tree, node: FileNode, label: bytes, now: int
) -> tuple[ObjectId | None, list[Invalidation]]:
    """Our version of a file becomes a new object under a conflict name beside the old one.

    Returns its id (None: the file has no name any more, nothing to keep). Raises Missing if small
    content must be loaded first (into `node.content`).
    """
    places = names_of(tree, node)
    old = node.id
    if not places or node.nlink == 0:
        revert(tree, node)
        return None, []
    files.require_content(node)
    folder, name = places[0]
    assert folder.children is not None
    new_name = conflict_name(name, label, dict(folder.children))
    rekey(tree, node)
    tree.record((records.REVERT, old))
    tree.set_name(folder, new_name, node, now)
    tree.dirty_nodes[node.id] = tree.position + 1
    owner = (node.uid, node.gid)
    tree.record(
        (records.CREATE, folder.id, new_name, node.id, node.mode, *owner, node.rdev, now, b"")
    )
    record_everything(tree, node)
    shown = (old, node.kind)
    out = [Invalidation(place.inode, taken, was=shown) for place, taken in places]
    out += [Invalidation(folder.inode, new_name), Invalidation(folder.inode, None, True)]
    return node.id, out


def rekey(tree: Tree, node: Node) -> None:
    """The node goes on under a new id; the old id is not in memory any more, and not dirty."""
    tree.nodes.pop(node.id, None)
    tree.dirty_nodes.pop(node.id, None)
    node.id = tree.new_id()
    node.entry = (node.id, node.kind)
    node.created, node.nlink, node.fresh = True, 0, False
    tree.nodes[node.id] = node


def record_everything(tree: Tree, node: FileNode) -> None:
    """Records that make the whole file from nothing."""
    tree.record(files.node_record(node))
    for name, value in (node.xattrs or {}).items():
        tree.record((records.XATTR, node.id, node.ctime_ns, name, value))
    for index, ref in enumerate(node.blocks or ()):
        if ref is not None:
            reached = min((index + 1) * BLOCK_SIZE, node.size)
            block = (ref.id, ref.key, ref.digest, ref.size)
            times = (node.mtime_ns, node.ctime_ns)
            tree.record((records.BLOCK, node.id, index, *block, reached, *times))
    for buffer in node.buffers.values():
        buffer.fresh = [list(one) for one in buffer.known]
    node.unjournaled = True
    files.journal_content(tree, node)


def revert(tree: Tree, node: Node) -> None:
    """Drop our changes of an object, not of names; then `apply_remote` the store's version."""
    tree.dirty_nodes.pop(node.id, None)
    if type(node) is FileNode:
        tree.unjournaled.pop(node, None)
        node.unjournaled = False
    tree.record((records.REVERT, node.id))


def give_way(
    tree: Tree, folder: FolderNode, name: bytes, theirs: Child | None, label: bytes, now: int
) -> tuple[bytes | None, list[Invalidation]]:
    """Another device took a name that we changed too: theirs stands, ours gets a conflict name.

    `theirs` is what the name stands for in the store now. Returns our new name, None if we had
    only taken the name away. Call with no capture in flight. Raises Missing.
    """
    children = tree.children(folder)
    entry = children.get(name)
    stored = None if theirs is None else (theirs.id, theirs.kind)
    # What the name stands for in the store has no reason to go aside: it would have two names.
    node = None if entry is None or entry == stored else tree.child(folder, entry)
    new_name = None
    if node is not None:
        new_name = conflict_name(name, label, dict(children))
        tree.set_name(folder, new_name, node, now)
        tree.record((records.ENTRY, folder.id, new_name, node.id, node.kind, now))
        if type(node) is not FolderNode:
            node.nlink -= 1
    drop_pending(tree, folder, name, stored)
    tree.record((records.THEIRS, folder.id, name))
    changed = [
        Invalidation(folder.inode, name, was=entry),
        Invalidation(folder.inode, None, True),
    ]
    if new_name is not None:
        changed.append(Invalidation(folder.inode, new_name))
    return new_name, changed


def uncover(tree: Tree, folder: FolderNode, name: bytes, now: int) -> None:
    """What we let a name stand for is given up, and nothing else: the name stands for what the
    store says, or for nothing, if we took that away as well."""
    theirs = tree.dirty_names[folder.id, name][1]
    if theirs is None or not (is_deleted_here(tree, theirs[0]) or is_named_here(tree, theirs)):
        drop_pending(tree, folder, name, theirs)
        tree.record((records.THEIRS, folder.id, name))
        return
    assert folder.children is not None
    recount(folder, folder.children.pop(name, None), None)
    folder.fresh = False
    tree.record((records.ENTRY, folder.id, name, b"", 0, now))


def drop_pending(tree: Tree, folder: FolderNode, name: bytes, theirs: Entry | None) -> None:
    """Our change of a name is given up: it stands for what the store says."""
    if tree.dirty_names.pop((folder.id, name), None) is not None:
        folder.pending -= 1
    assert folder.children is not None
    was = folder.children.pop(name, None)
    if theirs is not None:
        tree.put(folder, name, theirs)
    recount(folder, was, theirs)
    folder.fresh = False

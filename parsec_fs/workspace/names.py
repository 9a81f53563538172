"""What POSIX says about names: create, unlink, rmdir, link, rename.

Data flow: mount/operations -> this -> workspace/tree (marks, links) -> journal records.

The kernel has checked permissions (default_permissions); this checks everything that depends on
what the names stand for. Each function checks first, then changes, then records; it raises
LocalError with the errno, or Missing, before any change.
Renaming or unlinking sets an object's ctime in memory but does not count as a change of the object
itself: a rename here and an edit elsewhere are no conflict.
"""

import errno
from typing import Final, NoReturn

from parsec_fs.protocol.errors import LocalError
from parsec_fs.protocol.limits import NAME_MAX_SIZE, SYMLINK_MAX_SIZE
from parsec_fs.protocol.manifests import FOLDER
from parsec_fs.workspace import files, records
from parsec_fs.workspace.nodes import (
    TYPE_BITS,
    TYPE_FILE,
    TYPE_FOLDER,
    TYPE_SYMLINK,
    FileNode,
    FolderNode,
    Node,
    SymlinkNode,
    new_node,
)
from parsec_fs.workspace.tree import Tree

RENAME_NOREPLACE: Final = 1
RENAME_EXCHANGE: Final = 2
SETGID: Final = 0o2000
STICKY: Final = 0o1000


def _refuse(code: int) -> NoReturn:
    raise LocalError(errno.errorcode[code], errno=code)


def _new_name(tree: Tree, parent: int, name: bytes) -> FolderNode:
    """The folder in which `name` is free. Raises ENOENT, ENAMETOOLONG, EEXIST."""
    folder = tree.folder(parent)
    if folder.nlink == 0:
        _refuse(errno.ENOENT)
    if len(name) > NAME_MAX_SIZE:
        _refuse(errno.ENAMETOOLONG)
    if name in tree.children(folder):
        _refuse(errno.EEXIST)
    return folder


def _existing(tree: Tree, parent: int, name: bytes, uid: int) -> tuple[FolderNode, Node]:
    """A folder and what a name in it stands for, which `uid` may take away (sticky bit)."""
    folder = tree.folder(parent)
    entry = tree.children(folder).get(name)
    if entry is None:
        _refuse(errno.ENAMETOOLONG if len(name) > NAME_MAX_SIZE else errno.ENOENT)
    node = tree.child(folder, entry)
    if folder.mode & STICKY and uid not in (0, folder.uid, node.uid):
        _refuse(errno.EPERM)
    return folder, node


def create(
    tree: Tree,
    parent: int,
    name: bytes,
    mode: int,
    *,
    owner: tuple[int, int],
    now: int,
    rdev: int = 0,
    target: bytes = b"",
) -> Node:
    """A new object of the type in `mode`; the caller holds a kernel reference to it.

    Raises ENOENT (folder deleted), EEXIST, ENAMETOOLONG, Missing.
    """
    folder = _new_name(tree, parent, name)
    uid, gid = owner
    type_bits = mode & TYPE_BITS
    if folder.mode & SETGID:
        gid = folder.gid
        if type_bits == TYPE_FOLDER:
            mode |= SETGID
    id = tree.new_id()
    node = new_node(id, tree.inode_for(id), mode, uid, gid, rdev, now)
    extra = b""
    if type(node) is FolderNode:
        node.page_key = extra = tree.new_id() + tree.new_id()
    elif type(node) is SymlinkNode:
        if len(target) > SYMLINK_MAX_SIZE:
            _refuse(errno.ENAMETOOLONG)
        node.target = extra = target
        node.size = len(target)
    node.lookups = 1
    tree.add(node)
    tree.set_name(folder, name, node, now)
    tree.dirty_nodes[id] = tree.position + 1
    tree.record((records.CREATE, folder.id, name, id, mode, uid, gid, rdev, now, extra))
    return node


def make_file(
    tree: Tree, parent: int, name: bytes, mode: int, owner: tuple[int, int], now: int
) -> FileNode:
    """A new empty file."""
    node = create(tree, parent, name, mode & ~TYPE_BITS | TYPE_FILE, owner=owner, now=now)
    assert type(node) is FileNode
    return node


def make_symlink(
    tree: Tree, parent: int, name: bytes, target: bytes, owner: tuple[int, int], now: int
) -> Node:
    """A new symbolic link."""
    mode = TYPE_SYMLINK | 0o777
    return create(tree, parent, name, mode, owner=owner, now=now, target=target)


def unlink(tree: Tree, parent: int, name: bytes, uid: int, now: int) -> Node:
    """Take a name of a file away. Raises ENOENT, EISDIR, EPERM (sticky), Missing."""
    folder, node = _existing(tree, parent, name, uid)
    if type(node) is FolderNode:
        _refuse(errno.EISDIR)
    tree.set_name(folder, name, None, now)
    node.ctime_ns = now
    tree.record((records.ENTRY, folder.id, name, b"", 0, now))
    tree.settle_links(node)
    return node


def rmdir(tree: Tree, parent: int, name: bytes, uid: int, now: int) -> Node:
    """Take an empty folder away. Raises ENOENT, ENOTDIR, ENOTEMPTY, EPERM (sticky), Missing."""
    folder, node = _existing(tree, parent, name, uid)
    if type(node) is not FolderNode:
        _refuse(errno.ENOTDIR)
    if tree.children(node):
        _refuse(errno.ENOTEMPTY)
    tree.set_name(folder, name, None, now)
    node.ctime_ns = now
    tree.record((records.ENTRY, folder.id, name, b"", 0, now))
    tree.settle_links(node)
    return node


def link(tree: Tree, inode: int, parent: int, name: bytes, now: int) -> Node:
    """One more name for a file. Raises EPERM (folders), ENOENT (orphans), EEXIST, Missing."""
    node = tree.node(inode)
    if type(node) is FolderNode:
        _refuse(errno.EPERM)
    if node.nlink == 0:
        _refuse(errno.ENOENT)
    folder = _new_name(tree, parent, name)
    tree.set_name(folder, name, node, now)
    node.ctime_ns = now
    node.lookups += 1
    tree.record((records.ENTRY, folder.id, name, node.id, node.kind, now))
    return node


def rename(
    tree: Tree,
    parent: int,
    name: bytes,
    new_parent: int,
    new_name: bytes,
    *,
    flags: int,
    uid: int,
    now: int,
) -> None:
    """rename(2) with its flags. Raises what rename(2) says, or Missing.

    The dirty data of the source enters the journal first, so that replacing a file by a newly
    written one never leaves an empty file after a crash (decisions.md 6).
    """
    if flags not in (0, RENAME_NOREPLACE, RENAME_EXCHANGE):
        _refuse(errno.EINVAL)
    folder, node = _existing(tree, parent, name, uid)
    new_folder = tree.folder(new_parent)
    if new_folder.nlink == 0:
        _refuse(errno.ENOENT)
    if len(new_name) > NAME_MAX_SIZE:
        _refuse(errno.ENAMETOOLONG)
    target = tree.children(new_folder).get(new_name)
    if type(node) is FolderNode:
        _check_not_below(node, new_folder)
    if flags == RENAME_EXCHANGE:
        _exchange(tree, folder, name, node, new_folder, new_name, uid, now)
        return
    replaced = None
    if target is not None:
        if flags == RENAME_NOREPLACE:
            _refuse(errno.EEXIST)
        if target == node.entry:
            return
        replaced = _replaceable(tree, new_parent, new_name, node, uid)
    if type(node) is FileNode and node.unjournaled:
        files.journal_content(tree, node)
    tree.move(folder, name, new_folder, new_name, node, now)
    node.ctime_ns = now
    tree.record((records.MOVE, folder.id, name, new_folder.id, new_name, node.id, node.kind, now))
    if replaced is not None:
        replaced.ctime_ns = now
        tree.settle_links(replaced)


def _check_not_below(node: FolderNode, folder: FolderNode) -> None:
    above: FolderNode | None = folder
    while above is not None:
        if above is node:
            _refuse(errno.EINVAL)
        above = above.parent


def _replaceable(tree: Tree, parent: int, name: bytes, source: Node, uid: int) -> Node:
    """What a rename replaces, if it may. Raises EISDIR, ENOTDIR, ENOTEMPTY, EPERM."""
    _, target = _existing(tree, parent, name, uid)
    if type(target) is FolderNode:
        if source.kind != FOLDER:
            _refuse(errno.EISDIR)
        if tree.children(target):
            _refuse(errno.ENOTEMPTY)
    elif source.kind == FOLDER:
        _refuse(errno.ENOTDIR)
    return target


def _exchange(
    tree: Tree,
    folder: FolderNode,
    name: bytes,
    node: Node,
    new_folder: FolderNode,
    new_name: bytes,
    uid: int,
    now: int,
) -> None:
    _, other = _existing(tree, new_folder.inode, new_name, uid)
    if type(other) is FolderNode:
        _check_not_below(other, folder)
    for one in (node, other):
        if type(one) is FileNode and one.unjournaled:
            files.journal_content(tree, one)
    if node is other:
        return
    tree.swap(folder, name, other, new_folder, new_name, node, now)
    node.ctime_ns = other.ctime_ns = now
    one_side: tuple[int | bytes, ...] = (folder.id, name, *other.entry)
    other_side: tuple[int | bytes, ...] = (new_folder.id, new_name, *node.entry)
    tree.record((records.SWAP, *one_side, *other_side, now))

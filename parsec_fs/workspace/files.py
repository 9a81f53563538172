"""Attributes, extended attributes and content of nodes: change, mark, record.

Data flow: mount/operations, filesystem -> this -> file_ops (where bytes lie), tree (marks)
    -> journal records.

Rule (decisions.md 6): size and mtime enter the journal only together with their data. Data of an
open file is journalled on fsync, close, rename, attribute changes and by the shell's ticker; until
then the file is in `tree.unjournaled`.
"""

import errno
from typing import Final

from parsec_fs.protocol.errors import LocalError
from parsec_fs.protocol.limits import XATTR_VALUE_MAX_SIZE, XATTRS_MAX_SIZE
from parsec_fs.protocol.manifests import BlockRef, block_count
from parsec_fs.workspace import file_ops, records
from parsec_fs.workspace.nodes import (
    CONTENT,
    FileNode,
    FolderNode,
    Missing,
    Node,
    SymlinkNode,
)
from parsec_fs.workspace.tree import Tree

PERMISSION_BITS: Final = 0o7777
SIZE_MAX: Final = 1 << 40
"""Largest file that is made here. Every block has its place in the file's manifest, holes as well:
one byte written far beyond would cost memory for all places before it."""

DEFER_ABOVE: Final = 64 * 1024
"""With more unjournalled bytes than this, an attribute change waits for them instead of forcing
them into the journal: they are about to be sealed as blocks."""

_NO_REF: Final = (bytes(16), bytes(32), bytes(32), 0)


def set_attributes(
    tree: Tree,
    node: Node,
    now: int,
    *,
    mode: int | None = None,
    uid: int | None = None,
    gid: int | None = None,
    atime_ns: int | None = None,
    mtime_ns: int | None = None,
) -> None:
    """chmod, chown and utimens; ctime becomes now."""
    if type(node) is FileNode and node.unjournaled and not node.deferred:
        if fresh_size(node) > DEFER_ABOVE:
            node.deferred = True
        else:
            journal_content(tree, node)
    if mode is not None:
        node.mode = node.mode & ~PERMISSION_BITS | mode & PERMISSION_BITS
    if uid is not None:
        node.uid = uid
    if gid is not None:
        node.gid = gid
    if atime_ns is not None:
        node.atime_ns = atime_ns
    if mtime_ns is not None:
        node.mtime_ns = mtime_ns
    node.ctime_ns = now
    tree.mark(node)
    if not (type(node) is FileNode and node.deferred):
        tree.record(node_record(node))
    elif node.nlink == 0:
        node.deferred = False


def node_record(node: Node) -> records.Record:
    """All attributes of a node."""
    extra = b""
    if type(node) is FolderNode:
        extra = node.page_key
    elif type(node) is SymlinkNode:
        extra = node.target
    return (
        records.NODE,
        node.id,
        node.mode,
        node.uid,
        node.gid,
        node.rdev,
        node.atime_ns,
        node.mtime_ns,
        node.ctime_ns,
        node.birth_ns,
        extra,
    )


def set_xattr(tree: Tree, node: Node, name: bytes, value: bytes, now: int) -> None:
    """Set an extended attribute. Raises E2BIG, ENOSPC."""
    if len(value) > XATTR_VALUE_MAX_SIZE:
        raise LocalError("xattr too large", errno=errno.E2BIG)
    others = (node.xattrs or {}).items()
    used = sum(len(n) + len(v) for n, v in others if n != name)
    if used + len(name) + len(value) > XATTRS_MAX_SIZE or len(others) >= 1024:
        raise LocalError("too many xattrs", errno=errno.ENOSPC)
    if node.xattrs is None:
        node.xattrs = {}
    node.xattrs[name] = value
    node.ctime_ns = now
    tree.mark(node)
    tree.record((records.XATTR, node.id, now, name, value))


def remove_xattr(tree: Tree, node: Node, name: bytes, now: int) -> None:
    """Remove an extended attribute. Raises ENODATA."""
    if node.xattrs is None or name not in node.xattrs:
        raise LocalError("no such xattr", errno=errno.ENODATA)
    del node.xattrs[name]
    node.ctime_ns = now
    tree.mark(node)
    tree.record((records.XATTR_GONE, node.id, now, name))


def write(tree: Tree, node: FileNode, offset: int, data: bytes, now: int) -> int:
    """Write into a file. Returns the index of a block that became complete, or -1.

    Raises EFBIG, Missing.
    """
    if offset + len(data) > SIZE_MAX:
        raise LocalError("file too large", errno=errno.EFBIG)
    complete = file_ops.write(node, offset, data)
    node.mtime_ns = node.ctime_ns = now
    node.fresh = False
    _dirty_content(tree, node)
    return complete


def _dirty_content(tree: Tree, node: FileNode) -> None:
    if node.nlink == 0 or node.unjournaled:
        return
    node.unjournaled = True
    tree.unjournaled[node] = None
    tree.mark(node)


def truncate(tree: Tree, node: FileNode, size: int, now: int) -> None:
    """Cut or extend a file. Raises EFBIG, Missing."""
    if size > SIZE_MAX:
        raise LocalError("file too large", errno=errno.EFBIG)
    if size:
        require_content(node)
    gone = list(node.blocks or ())[block_count(size) :]
    file_ops.truncate(node, size)
    tree.drop_blocks(gone, tree.position + 1)
    node.journaled_size = min(node.journaled_size, size)
    node.mtime_ns = node.ctime_ns = now
    node.fresh = False
    if node.nlink == 0:
        return
    tree.mark(node)
    if node.blocks is None:
        _journal_inline(tree, node)
        _journaled(tree, node)
    elif not node.unjournaled:
        _record_size(tree, node)
    else:
        # Data journalled earlier lies beyond the cut: replay must cut there too, even if the file
        # grows again before its remaining data is journalled.
        tree.record((records.SIZE, node.id, node.journaled_size, now, now))


def _record_size(tree: Tree, node: FileNode) -> None:
    tree.record((records.SIZE, node.id, node.size, node.mtime_ns, node.ctime_ns))
    node.journaled_size = node.size


def require_content(node: FileNode) -> None:
    """Raises Missing if small content is not in memory."""
    if node.blocks is None and node.content is None:
        raise Missing(CONTENT, node.id)


def fresh_size(node: FileNode) -> int:
    """Bytes that are in memory only."""
    if node.blocks is None:
        return len(node.content or b"")
    return sum(stop - start for b in node.buffers.values() for start, stop in b.fresh)


def journal_content(tree: Tree, node: FileNode) -> None:
    """Record everything of a file's content that the journal lacks, with its size and times."""
    if not node.unjournaled:
        return
    if node.nlink:
        tree.mark(node)
        if node.blocks is None:
            _journal_inline(tree, node)
        else:
            for offset, data in file_ops.fresh_ranges(node):
                tree.record((records.DATA, node.id, offset, data))
            for buffer in node.buffers.values():
                buffer.fresh = []
            _record_size(tree, node)
    _journaled(tree, node)


def _journal_inline(tree: Tree, node: FileNode) -> None:
    assert node.content is not None
    content = node.content if type(node.content) is bytes else bytes(node.content)
    tree.record((records.INLINE, node.id, node.size, node.mtime_ns, node.ctime_ns, content))
    node.journaled_size = node.size
    node.spilled = tree.position
    node.content = content


def _journaled(tree: Tree, node: FileNode) -> None:
    node.unjournaled = False
    tree.unjournaled.pop(node, None)
    if node.deferred:
        node.deferred = False
        if node.nlink:
            tree.record(node_record(node))


def block_sealed(
    tree: Tree, node: FileNode, index: int, ref: BlockRef | None, *, reached: int
) -> None:
    """A block was sealed from exactly what is in memory: refer to it and record that.

    `reached` is the size up to which the file's data is in the journal with this record.
    """
    tree.drop_blocks((file_ops.base_of(node, index),), tree.position + 1)
    file_ops.sealed(node, index, ref)
    node.journaled_size = max(node.journaled_size, min(reached, node.size))
    if node.nlink == 0:
        return
    tree.mark(node)
    block = _NO_REF if ref is None else (ref.id, ref.key, ref.digest, ref.size)
    times = (node.mtime_ns, node.ctime_ns)
    tree.record((records.BLOCK, node.id, index, *block, node.journaled_size, *times))
    if node.unjournaled and node.journaled_size == node.size and not fresh_size(node):
        _journaled(tree, node)


def became_inline(tree: Tree, node: FileNode, content: bytes) -> None:
    """A file in blocks that shrank: from now on its content travels in its manifest."""
    tree.drop_blocks(node.blocks, tree.position + 1)
    node.blocks, node.content = None, content
    node.buffers, node.cuts = {}, {}
    if node.nlink:
        tree.mark(node)
        _journal_inline(tree, node)
        _journaled(tree, node)

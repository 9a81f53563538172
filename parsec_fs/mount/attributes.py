"""What stat shows of a node: kept `EntryAttributes`, refreshed only when the node changed.

Data flow: workspace/nodes -> this -> pyfuse3 answers.

One object per inode, kept in the node's `cookie` (decisions.md 6): building one per answer costs
more than the rest of a handler. `node.fresh` is cleared by whoever changes the node.
"""

from typing import Final

import pyfuse3

from parsec_fs.protocol.manifests import FOLDER, SYMLINK
from parsec_fs.workspace.nodes import CHILDREN, FileNode, FolderNode, Missing, Node

CACHE_S: Final = 86_400.0
"""How long the kernel may keep names, missing names and attributes: remote changes invalidate."""

_FOLDER_SIZE: Final = 4096


class Attributes:
    """Translates nodes. `shown_owner` is whom files belong to in stat, None: as stored."""

    def __init__(self, shown_owner: tuple[int, int] | None = None) -> None:
        self._owner = shown_owner
        self.absent = pyfuse3.EntryAttributes()
        self.absent.st_ino = pyfuse3.InodeT(0)
        self.absent.entry_timeout = CACHE_S

    def of(self, node: Node) -> pyfuse3.EntryAttributes:
        """The attributes of a node, valid until the next change.

        Raises Missing for a folder whose names are not loaded: links and times follow from them.
        """
        if node.fresh:
            kept: pyfuse3.EntryAttributes = node.cookie
            return kept
        if type(node) is FolderNode and node.children is None:
            raise Missing(CHILDREN, node.id)
        attrs = node.cookie
        if attrs is None:
            attrs = node.cookie = pyfuse3.EntryAttributes()
            attrs.entry_timeout = attrs.attr_timeout = CACHE_S
            attrs.st_ino = node.inode
            attrs.st_blksize = 131072
            attrs.st_rdev = node.rdev
            attrs.st_birthtime_ns = node.birth_ns
        attrs.st_mode = node.mode
        attrs.st_nlink = node.nlink
        attrs.st_uid, attrs.st_gid = self._owner or (node.uid, node.gid)
        attrs.st_atime_ns = node.atime_ns
        attrs.st_mtime_ns = node.mtime_ns
        attrs.st_ctime_ns = node.ctime_ns
        self._sizes(attrs, node)
        node.fresh = True
        return attrs  # type: ignore[no-any-return]

    def _sizes(self, attrs: pyfuse3.EntryAttributes, node: Node) -> None:
        if type(node) is FileNode:
            attrs.st_size = node.size
            attrs.st_blocks = (node.allocated() + 511) // 512
        elif node.kind == FOLDER:
            attrs.st_size = _FOLDER_SIZE
            attrs.st_blocks = _FOLDER_SIZE // 512
        elif node.kind == SYMLINK:
            attrs.st_size = node.size

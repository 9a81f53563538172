"""What a manifest says, into a node.

Data flow: local store, remote_changes -> this -> nodes of the tree (not their names).
"""

from parsec_fs.protocol.manifests import (
    HOLE,
    FileManifest,
    FolderManifest,
    SpecialManifest,
    SymlinkManifest,
)
from parsec_fs.workspace.nodes import FileNode, FolderNode, Node, SymlinkNode

NodeManifest = FileManifest | FolderManifest | SymlinkManifest | SpecialManifest


def assign_manifest(node: Node, manifest: NodeManifest) -> None:
    """Let a node say what a manifest says (not its names)."""
    a = manifest.attributes
    node.mode, node.uid, node.gid, node.rdev = a.mode, a.uid, a.gid, a.rdev
    node.atime_ns, node.birth_ns = a.atime_ns, a.birth_ns
    node.mtime_ns, node.ctime_ns = a.mtime_ns, a.ctime_ns
    node.xattrs = {x.name: x.value for x in a.xattrs} or None
    node.fresh = False
    if isinstance(manifest, FolderManifest) and isinstance(node, FolderNode):
        node.page_key, node.page_bits = manifest.page_key, manifest.page_bits
    elif isinstance(manifest, SymlinkManifest) and isinstance(node, SymlinkNode):
        node.target = manifest.target
        node.size = len(manifest.target)
    elif isinstance(manifest, FileManifest) and isinstance(node, FileNode):
        assign_content(node, manifest)


def assign_content(node: FileNode, manifest: FileManifest) -> None:
    """Let a file's content be what a manifest (with flat references) says."""
    node.size = node.journaled_size = manifest.size
    node.buffers, node.cuts, node.spilled = {}, {}, 0
    if manifest.refs:
        node.content = b""
        node.blocks = [None if ref.id == HOLE else ref for ref in manifest.refs]
    else:
        node.content, node.blocks = manifest.inline, None

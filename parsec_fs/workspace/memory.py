"""What of a workspace is in memory: replayed at start, loaded when asked for, spilled when much.

Data flow: local store, journal -> this -> workspace/tree.

A shell over `Loader` and `Journal`; all but `block` is synchronous and takes tens of microseconds
(but for the replay). Rules guarded here:
- local changes are never lost to a load: what is in memory stays as it is;
- small content leaves memory only if it can be read again, from the store or a written record;
- blocks that no state needs any more are deleted only when the journal that says so is durable.
"""

import errno
import logging
from collections.abc import Callable
from typing import Final, TypeVar

from parsec_fs.protocol.errors import DataError, LocalError, VerificationError
from parsec_fs.protocol.ids import ROOT_OBJECT, ObjectId
from parsec_fs.protocol.limits import MIB
from parsec_fs.protocol.manifests import BlockRef, FileManifest
from parsec_fs.storage.contents import Contents
from parsec_fs.storage.journal import Journal
from parsec_fs.storage.journal_scan import Recovered
from parsec_fs.workspace import files, records
from parsec_fs.workspace.loader import Loader
from parsec_fs.workspace.nodes import (
    CHILDREN,
    CONTENT,
    ROOT_INODE,
    TYPE_FOLDER,
    FileNode,
    FolderNode,
    Missing,
    Node,
)
from parsec_fs.workspace.overlay import show_names
from parsec_fs.workspace.replay import NoPast, Past, Replay
from parsec_fs.workspace.salvage import digests_of, unapplied
from parsec_fs.workspace.settlements import Positioned, whole
from parsec_fs.workspace.tree import Tree

T = TypeVar("T")
log = logging.getLogger(__name__)

RESIDENT_MAX: Final = 48 * MIB
"""Small content kept in memory; more is read again from journal or store."""


class Memory:
    """Loads for one tree. `resident` is the small content in memory, oldest first."""

    def __init__(self, tree: Tree, journal: Journal, contents: Contents, loader: Loader) -> None:
        self.tree = tree
        self.journal = journal
        self.contents = contents
        self.loader = loader
        self.past: Past = NoPast()
        self.resident: dict[FileNode, int] = {}
        self.resident_size = 0

    # Opening

    def open(self, now: int, root_owner: tuple[int, int]) -> Recovered:
        """Replay the journal over the store. What lay behind damage is in `salvaged`."""
        tree = self.tree
        recovered = self.journal.open(self.loader.journal_position())
        tree.position = self.loader.journal_position()
        self.past.begin()
        is_new = self._load_root(now, root_owner)
        replay = Replay(tree, self.past)
        kept, unfinished = whole(recovered.records)
        clean = [self._replay(replay, position, record) for position, record in kept]
        replay.digests |= digests_of(recovered.salvaged)
        replay.finish()
        tree.position = self.journal.position
        tree.dropped.clear()
        if unfinished:
            tree.record((records.ABANDONED,))
        if is_new and not tree.is_dirty(ROOT_OBJECT):
            tree.mark(tree.nodes[ROOT_OBJECT])
            tree.record(files.node_record(tree.nodes[ROOT_OBJECT]))
        self.past.finish()
        self._give_up(recovered, unapplied(tree, kept, replay.damaged))
        self._expect_contents(is_whole=all(clean) and not recovered.damaged)
        return recovered

    def _give_up(self, recovered: Recovered, lost: dict[ObjectId, list[Positioned]]) -> None:
        """What was written to what is damaged is for salvage, once: the journal says so."""
        for id, told in lost.items():
            recovered.salvaged += told
            self.tree.record((records.REVERT, id))

    def _replay(self, replay: Replay, position: int, record: tuple[int | bytes, ...]) -> bool:
        clean = True
        while True:
            try:
                replay.apply(position, record)
                return clean
            except Missing as missing:
                was_absent = missing.id in replay.absent
                loaded = self._load_if_intact(missing, replay.damaged)
                if loaded is not True:
                    replay.absent.add(missing.id)
                clean = clean and loaded is not None
                if loaded is None and was_absent:
                    return False
            except DataError:
                log.error("journal: record %d is not well-formed, passed over", position)
                return False

    def _load_if_intact(self, missing: Missing, damaged: set[ObjectId]) -> bool | None:
        """As `_load`; None: it is there, and does not open. What needs it is passed over, and a
        bad payload of one object does not keep the workspace from opening (rule 12)."""
        try:
            return self._load(missing)
        except LocalError as error:
            if missing.id not in damaged:
                damaged.add(missing.id)
                log.error("journal: changes that need what is damaged are passed over: %s", error)
            return None

    def _load_root(self, now: int, owner: tuple[int, int]) -> bool:
        """The root from the store; or a new one, if this workspace never logged one (True)."""
        if self._load_node(ROOT_OBJECT, None) is not None:
            return False
        root = FolderNode(ROOT_OBJECT, ROOT_INODE, TYPE_FOLDER | 0o755, *owner, 0, now)
        root.page_key = self.tree.new_id() + self.tree.new_id()
        self.tree.add(root)
        return True

    def _expect_contents(self, *, is_whole: bool) -> None:
        """What nothing refers to is deleted only if all was replayed."""
        files = (node for node in self.tree.nodes.values() if type(node) is FileNode)
        blocks = (ref for node in files for ref in node.blocks or ())
        referenced = [ref for ref in blocks if ref is not None]
        self.contents.files.expect(referenced)
        if is_whole:
            self.contents.files.sweep(referenced)

    # Loading what is missing

    def call(self, function: Callable[..., T], *args: object) -> T:
        """Call a function of the tree, loading what it misses."""
        while True:
            try:
                return function(*args)
            except Missing as missing:
                self.load(missing)

    def load(self, missing: Missing) -> None:
        """Load what the tree asked for. Raises LocalError (EIO) if it is not there."""
        if not self._load(missing):
            raise LocalError("object is not in the local store", errno=errno.EIO)

    def _load(self, missing: Missing) -> bool:
        if missing.what == CHILDREN:
            return self._load_children(missing.id)
        if missing.what == CONTENT:
            return self._load_content(missing.id)
        return self._load_node(missing.id, missing.parent) is not None

    def _load_node(self, id: ObjectId, parent: FolderNode | None) -> Node | None:
        manifest = self.loader.load(id)
        if manifest is None:
            return None
        inode = ROOT_INODE if id == ROOT_OBJECT and ROOT_INODE not in self.tree.inodes else 0
        links = self.loader.link_count(id)
        node = self.tree.insert(id, manifest, nlink=links, parent=parent, inode=inode)
        if type(node) is FileNode:
            self.keep_resident(node)
        return node

    def _load_children(self, id: ObjectId) -> bool:
        folder = self.tree.nodes[id]
        manifest = self.loader.load(id)
        if type(folder) is not FolderNode or manifest is None:
            return False
        names = self.loader.load_children(id, manifest)
        show_names(self.tree, folder, names.names, (names.mtime_ns, names.ctime_ns))
        return True

    def _load_content(self, id: ObjectId) -> bool:
        node = self.tree.nodes.get(id)
        if type(node) is not FileNode:
            return False
        self.load_content(node)
        return True

    def load_content(self, node: FileNode) -> None:
        """Bring small content back into memory. Raises LocalError (EIO)."""
        node.content = self.small_content(node)
        self.keep_resident(node)

    def small_content(self, node: FileNode) -> bytes:
        """Content of a small file that is not in memory. Raises LocalError (EIO)."""
        if node.spilled:
            record = self.journal.read(node.spilled)
            content = record[-1]
            if record[0] == records.INLINE and record[1] == node.id and type(content) is bytes:
                return content
        else:
            manifest = self.loader.load(node.id)
            if isinstance(manifest, FileManifest) and not manifest.refs:
                return manifest.inline
        raise LocalError("content is lost", errno=errno.EIO)

    def is_stored(self, id: ObjectId) -> bool:
        """The store has the object: also one that does not open here, which others may read."""
        try:
            return self.loader.load(id) is not None
        except LocalError:
            return True

    def stored_xattrs(self, id: ObjectId) -> list[bytes]:
        """Names of extended attributes that the store says an object has."""
        try:
            manifest = self.loader.load(id)
        except LocalError:
            return []
        return [] if manifest is None else [one.name for one in manifest.attributes.xattrs]

    def keep_resident(self, node: FileNode) -> None:
        """Account for small content in memory; the oldest that can be read again goes."""
        if node.blocks is not None or not node.content:
            return
        self.resident_size += len(node.content) - self.resident.pop(node, 0)
        self.resident[node] = len(node.content)
        if self.resident_size > RESIDENT_MAX:
            self._spill()

    def _spill(self) -> None:
        for node in list(self.resident):
            if self.resident_size <= RESIDENT_MAX * 7 // 8:
                return
            self.resident_size -= self.resident.pop(node)
            if self._readable_again(node):
                node.content = None

    def _readable_again(self, node: FileNode) -> bool:
        if node.blocks is not None or node.unjournaled or node.nlink == 0:
            return False
        if node.spilled:
            return node.spilled <= self.journal.written
        return not self.tree.is_dirty(node.id)

    def discard_dropped(self) -> None:
        """Delete sealed blocks that were cut off, overwritten or deleted before they were uploaded.

        Only when the journal is durable up to that change, and no capture may still name them.
        """
        tree = self.tree
        if tree.flying_nodes:
            return
        while tree.dropped and tree.dropped[0][0] <= self.journal.synced:
            _, refs = tree.dropped.pop(0)
            for ref in refs:
                self.contents.discard(ref)

    async def block(self, node: FileNode, index: int, ref: BlockRef) -> bytearray:
        """A block; damage is told by inode and place, because names are not for logs."""
        try:
            return await self.contents.read(ref)
        except LocalError as error:
            if isinstance(error.__cause__, VerificationError):
                log.error(
                    "contents: inode %d: bytes %d to %d are damaged and cannot be had elsewhere; "
                    "the rest of the file is intact (find MOUNTPOINT -inum %d names it)",
                    *(node.inode, index * MIB, min(index * MIB + MIB, node.size), node.inode),
                )
            raise

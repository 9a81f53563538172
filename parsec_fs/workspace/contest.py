"""Objects and names that changed both here and elsewhere, and how they are settled.

Data flow: replica (changes that meet something pending here) -> `note`; between captures
    -> `settle` -> filesystem (conflict copy, give way, revert) -> next capture.

The store holds the other device's version already when this hears of it. Until it is settled ours
must not be committed on top: that would silently undo theirs.
"""

from collections.abc import Callable
from dataclasses import replace

from parsec_fs.protocol.errors import LocalError
from parsec_fs.protocol.ids import ObjectId
from parsec_fs.protocol.manifests import Child
from parsec_fs.workspace import capture as captures
from parsec_fs.workspace import file_ops, files
from parsec_fs.workspace.filesystem import Filesystem
from parsec_fs.workspace.nodes import FileNode, FolderNode, Node
from parsec_fs.workspace.payloads import Found
from parsec_fs.workspace.rebase import Verdict, judge, merged_attributes
from parsec_fs.workspace.remote_changes import (
    Invalidation,
    RemoteChange,
    RemoteNames,
    RemoteNode,
)
from parsec_fs.workspace.tree import NameKey, NodeManifest

Invalidate = Callable[[list[Invalidation]], None]


class Contest:
    """What is contested. `label` names this device in conflict names; `invalidate` tells the
    kernel."""

    def __init__(
        self, filesystem: Filesystem, *, label: Callable[[], bytes], invalidate: Invalidate
    ) -> None:
        self._filesystem = filesystem
        self._tree = filesystem.tree
        self._label = label
        self._invalidate = invalidate
        self._names: dict[NameKey, RemoteNames] = {}
        self._nodes: dict[ObjectId, NodeManifest | None] = {}

    def __bool__(self) -> bool:
        return bool(self._names or self._nodes)

    def note(self, found: Found) -> None:
        """What others changed, before it is applied to the tree."""
        for change in found.changes:
            if isinstance(change, RemoteNames):
                self._note_names(change)
            elif self._tree.is_dirty(change.id):
                # Of several foreign versions only the first replaced what we started from.
                self._nodes.setdefault(change.id, found.bases.get(change.id))

    def _note_names(self, change: RemoteNames) -> None:
        pending = (self._tree.dirty_names, self._tree.flying_names)
        for name in change.names:
            key = (change.folder, name)
            if any(key in one for one in pending):
                self._names[key] = change

    def settle(self) -> None:
        """Settle everything. Call with no capture in flight and changed files sealed."""
        names, self._names = self._names, {}
        nodes, self._nodes = self._nodes, {}
        for (_, name), change in names.items():
            self._settle_name(name, change)
        for id, base in nodes.items():
            if self._tree.is_dirty(id):
                self._settle_node(id, base)
            else:
                # Ours was logged before theirs: what flew then made the tree pass theirs over.
                self._apply(RemoteNode(id=id, manifest=self._stored(id)))

    def _settle_name(self, name: bytes, change: RemoteNames) -> None:
        folder = self._tree.nodes.get(change.folder)
        theirs = change.names[name]
        if type(folder) is not FolderNode:
            return
        if (folder.id, name) not in self._tree.dirty_names:
            self._apply(replace(change, names={name: theirs}))
            return
        ours = (folder.children or {}).get(name)
        if theirs is not None and (ours is None or ours[0] != theirs.id):
            done = self._filesystem.give_way(folder.id, name, theirs, self._label())
            self._invalidate(done[1])

    def _apply(self, change: RemoteChange) -> None:
        self._invalidate(self._filesystem.apply_remote([change]))

    def _stored(self, id: ObjectId) -> NodeManifest | None:
        try:
            return self._filesystem.loader.load(id)
        except LocalError:
            return None

    def _settle_node(self, id: ObjectId, base: NodeManifest | None) -> None:
        node = self._tree.nodes.get(id)
        theirs = self._stored(id)
        if node is not None and node.nlink > 0 and self._in_use(node):
            verdict = Verdict.COPY
        else:
            verdict = judge(base, self._ours(node), theirs)
        if verdict is Verdict.COPY and type(node) is FileNode:
            self._invalidate(self._filesystem.create_conflict_copy(id, self._label())[1])
        elif verdict is Verdict.REVIVE:
            self._revive(id)
        elif verdict is Verdict.THEIRS and theirs is not None:
            self._take(id, theirs)
        elif verdict is Verdict.MERGE:
            self._merge(id, node, base, theirs)

    def _merge(
        self,
        id: ObjectId,
        node: Node | None,
        base: NodeManifest | None,
        theirs: NodeManifest | None,
    ) -> None:
        """Their content with the attributes that only we changed."""
        ours = self._ours(node)
        if node is None or base is None or ours is None or theirs is None:
            return
        merged = merged_attributes(base.attributes, ours.attributes, theirs.attributes)
        self._take(id, theirs)
        node = self._tree.nodes.get(id)
        if node is None:
            # Open here: the handles keep the old node, the name loads theirs when it is used.
            return
        files.set_attributes(
            self._tree,
            node,
            merged.ctime_ns,
            mode=merged.mode,
            uid=merged.uid,
            gid=merged.gid,
            atime_ns=merged.atime_ns,
            mtime_ns=merged.mtime_ns,
        )

    def _revive(self, id: ObjectId) -> None:
        """Our deletion is given up: the names that we took away are back."""
        for (folder, name), (_, old) in list(self._tree.dirty_names.items()):
            if old is not None and old[0] == id:
                theirs = Child(name=name, id=id, kind=old[1])
                self._invalidate(self._filesystem.give_way(folder, name, theirs, self._label())[1])
        self._filesystem.revert(id)

    def _in_use(self, node: Node) -> bool:
        """A file that is being written: what it will be is not known yet, but not theirs."""
        return type(node) is FileNode and (node.unjournaled or file_ops.unsettled(node))

    def _ours(self, node: Node | None) -> NodeManifest | None:
        if node is None or node.nlink == 0:
            return None
        return captures.manifest_of(node, self._filesystem.small_content)

    def _take(self, id: ObjectId, theirs: NodeManifest) -> None:
        self._filesystem.revert(id)
        self._apply(RemoteNode(id=id, manifest=theirs))

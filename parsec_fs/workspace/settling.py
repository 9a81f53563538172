"""What is contested becomes what every device will show (docs/concurrency.md has the rules).

Data flow: contest -> this -> filesystem (conflict copy, give way, revert), journal; invalidations
    -> mount/notify.

Between two captures, with everything that it needs in memory: nothing is under way meanwhile.
"""

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TypeVarTuple

from parsec_fs.protocol.errors import LocalError
from parsec_fs.protocol.ids import ObjectId
from parsec_fs.protocol.manifests import FOLDER, Child
from parsec_fs.workspace import capture as captures
from parsec_fs.workspace import file_ops, files
from parsec_fs.workspace.assigning import NodeManifest
from parsec_fs.workspace.circles import undo_move
from parsec_fs.workspace.contested import entry_id, unnamed
from parsec_fs.workspace.filesystem import Filesystem
from parsec_fs.workspace.name_index import NameKey
from parsec_fs.workspace.nodes import Entry, FileNode, FolderNode, Node
from parsec_fs.workspace.overlay import is_below, is_deleted_here
from parsec_fs.workspace.rebase import Verdict, judge, merged_attributes
from parsec_fs.workspace.remote_changes import (
    RemoteChange,
    RemoteNames,
    RemoteNode,
)
from parsec_fs.workspace.revival import drop_names, reborn
from parsec_fs.workspace.reviving import Invalidate, Reviving

log = logging.getLogger(__name__)
Ts = TypeVarTuple("Ts")


def _depth(folder: FolderNode) -> int:
    depth, above = 0, folder.parent
    while above is not None:
        depth, above = depth + 1, above.parent
    return depth


class Settling:
    """In one workspace. `label` names this device in conflict names; `invalidate` tells the
    kernel."""

    def __init__(
        self, filesystem: Filesystem, *, label: Callable[[], bytes], invalidate: Invalidate
    ) -> None:
        self._filesystem = filesystem
        self._tree = filesystem.tree
        self._is_stored = filesystem.memory.is_stored
        self._label = label
        self._invalidate = invalidate
        self._reviving = Reviving(filesystem, label=label, invalidate=invalidate)

    def settle(
        self,
        names: Mapping[NameKey, RemoteNames],
        nodes: Mapping[ObjectId, NodeManifest | None],
        circles: Iterable[ObjectId],
    ) -> None:
        """Names as others changed them, objects with what we had started from, and folders whose
        move cannot stand beside theirs. What cannot be settled, because something that it needs
        is damaged, stays as we have it, and the rest is settled (rule 12)."""
        self._reviving.forget()
        for id in circles:
            self._attempt(self._undo_move, id)
        # First what took a name: a file that is copied needs to be seen under its name. Names
        # that are gone come last: copies and adopted folders take their places.
        for (_, name), change in names.items():
            if change.names[name] is not None:
                self._attempt(self._settle_name, name, change)
        for id, base in nodes.items():
            self._attempt(self._settle_object, id, base)
        self._adopt_folders(nodes)
        for (_, name), change in names.items():
            if change.names[name] is None:
                self._attempt(self._settle_name, name, change)
        self._break_circles()
        link_count = self._filesystem.loader.link_count
        for key in unnamed(self._tree, link_count).values():
            self._attempt(self._reviving.give_back, *key)
        self._reviving.forget()

    def _attempt(self, step: Callable[[*Ts], None], *args: *Ts) -> None:
        try:
            step(*args)
        except LocalError as error:
            log.error("not settled, what this device has stays: %s", error)

    def take_back(self, folder_id: ObjectId, name: bytes) -> None:
        """A name was not logged as we have it: the tree shows what the store says."""
        self._reviving.forget()
        folder = self._tree.nodes.get(folder_id)
        if type(folder) is FolderNode and folder.children is not None:
            theirs = self._reviving.stored_child(folder_id, name)
            times = {"mtime_ns": folder.mtime_ns, "ctime_ns": folder.ctime_ns}
            self._apply(RemoteNames(folder=folder_id, names={name: theirs}, **times))

    def _break_circles(self) -> None:
        """What was given back may lie below what we moved: then our move is given up too."""
        for folder_id, name in list(self._tree.dirty_names):
            folder, id = self._tree.nodes.get(folder_id), entry_id(self._tree, folder_id, name)
            moved = None if id is None else self._tree.nodes.get(id)
            if type(moved) is not FolderNode or type(folder) is not FolderNode:
                continue
            if is_below(folder, moved) and not moved.created:
                self._attempt(self._undo_move, moved.id)

    def _undo_move(self, id: ObjectId) -> None:
        back, changed = undo_move(self._tree, id, self._filesystem.clock())
        self._invalidate(changed)
        for folder, name in back:
            # What we have put there since goes aside.
            theirs = Child(name=name, id=id, kind=FOLDER)
            self._invalidate(self._filesystem.give_way(folder, name, theirs, self._label())[1])
        self._reviving.place(id)

    def _settle_object(self, id: ObjectId, base: NodeManifest | None) -> None:
        is_stored = self._is_stored(id)
        if type(self._tree.nodes.get(id)) is FolderNode and not is_stored:
            return
        if self._tree.is_dirty(id):
            self._settle_node(id, base)
            return
        theirs = self._reviving.stored(id)
        if not is_stored:
            uncovered, changed = drop_names(self._tree, id)
            self._invalidate(changed)
            for other in uncovered:
                # What we had put aside for it stays after all.
                if other in self._tree.dirty_nodes:
                    self._reviving.revive(other)
                self._reviving.place(other)
        # Ours was logged before theirs: what flew then made the tree pass theirs over.
        self._apply(RemoteNode(id=id, manifest=theirs))

    def _adopt_folders(self, ids: Iterable[ObjectId]) -> None:
        """Folders deleted elsewhere that hold something of ours go on under new ids, lower ones
        first: so an upper one sees that what is left in it lives."""
        gone = [
            node
            for node in map(self._tree.nodes.get, ids)
            if type(node) is FolderNode and node.nlink > 0 and not self._is_stored(node.id)
        ]
        for folder in sorted(gone, key=_depth, reverse=True):
            self._attempt(self._adopt, folder.id)

    def _adopt(self, id: ObjectId) -> None:
        self._invalidate(self._filesystem.adopt(id))

    def _settle_name(self, name: bytes, change: RemoteNames) -> None:
        folder = self._tree.nodes.get(change.folder)
        theirs = change.names[name]
        if type(folder) is not FolderNode:
            return
        ours = (folder.children or {}).get(name)
        if (folder.id, name) not in self._tree.dirty_names and not self._outlives(ours, theirs):
            self._apply(replace(change, names={name: theirs}))
            return
        if theirs is not None and (ours is None or ours[0] != theirs.id):
            done = self._filesystem.give_way(folder.id, name, theirs, self._label())
            self._invalidate(done[1])
            if is_deleted_here(self._tree, theirs.id):
                # Its name here was the last one; theirs had been covered by what gave way.
                self._reviving.revive(theirs.id)
            self._reviving.place(theirs.id)

    def _outlives(self, ours: Entry | None, theirs: Child | None) -> bool:
        """They replaced what we changed, as editors save: ours goes on, and needs a name."""
        if ours is None or theirs is None or ours[0] == theirs.id:
            return False
        return self._tree.is_dirty(ours[0]) and not self._is_stored(ours[0])

    def _apply(self, change: RemoteChange) -> None:
        self._invalidate(self._filesystem.apply_remote([change]))

    def _settle_node(self, id: ObjectId, base: NodeManifest | None) -> None:
        node = self._tree.nodes.get(id)
        theirs = self._reviving.stored(id)
        if theirs is None and self._is_stored(id):
            self._settle_damaged(id, node)
            return
        if node is not None and node.nlink > 0 and self._in_use(node):
            verdict = Verdict.COPY
        else:
            verdict = judge(base, self._ours(node), theirs)
        if verdict is Verdict.COPY and theirs is None and node is not None:
            self._invalidate(
                self._filesystem.call(reborn, self._tree, node, self._filesystem.clock())
            )
        elif verdict is Verdict.COPY and type(node) is FileNode:
            self._copy(id, theirs)
        elif verdict is Verdict.REVIVE:
            self._reviving.revive(id)
        elif verdict is Verdict.THEIRS and theirs is not None:
            self._take(id, theirs)
        elif verdict is Verdict.MERGE:
            self._merge(id, node, base, theirs)

    def _settle_damaged(self, id: ObjectId, node: Node | None) -> None:
        """What they made of it does not open here, but may elsewhere: it stays, under its names. A
        file of ours goes aside, our deletion and new attributes are given up."""
        if node is None or node.nlink == 0:
            self._reviving.revive(id)
        elif type(node) is FileNode:
            self._copy(id, None)
        else:
            self._filesystem.revert(id)

    def _copy(self, id: ObjectId, theirs: NodeManifest | None) -> None:
        copy, changed = self._filesystem.create_conflict_copy(id, self._label())
        self._invalidate(changed)
        if copy is None and theirs is not None:
            # It has no name here any more, so nothing of ours is to be kept.
            self._apply(RemoteNode(id=id, manifest=theirs))

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

"""Our deletions that are given up, and names that stand for what the store says again.

Data flow: settling -> this -> filesystem (give way, revert), journal; invalidations
    -> mount/notify.

Deleted folders are given up with all that was deleted in them, and with the deleted folders above:
a work list, because there may be thousands below each other, and one look at what the store says of
a folder, because there may be thousands of names in it.
"""

from collections.abc import Callable, Iterator, Sequence

from parsec_fs.protocol.errors import LocalError
from parsec_fs.protocol.ids import ObjectId
from parsec_fs.protocol.manifests import Child, FolderManifest
from parsec_fs.workspace import records
from parsec_fs.workspace.assigning import NodeManifest
from parsec_fs.workspace.filesystem import Filesystem
from parsec_fs.workspace.loader import Names
from parsec_fs.workspace.name_index import NameKey
from parsec_fs.workspace.nodes import Entry, FolderNode
from parsec_fs.workspace.overlay import (
    is_deleted_here,
    is_named_here,
    known,
    links_now,
    names_of,
    pending_in,
    place,
    taken_from,
)
from parsec_fs.workspace.remote_changes import Invalidation, RemoteNode

Invalidate = Callable[[list[Invalidation]], None]


class Reviving:
    """In one workspace. `label` names this device in conflict names; `invalidate` tells the
    kernel. `forget` what the store says before each settlement: it does not change meanwhile."""

    def __init__(
        self, filesystem: Filesystem, *, label: Callable[[], bytes], invalidate: Invalidate
    ) -> None:
        self._filesystem = filesystem
        self._tree = filesystem.tree
        self._label = label
        self._invalidate = invalidate
        self._names: dict[ObjectId, Names] = {}

    # What the store says

    def forget(self) -> None:
        """Names that were read are read again."""
        self._names.clear()

    def stored(self, id: ObjectId) -> NodeManifest | None:
        """None: it was deleted, or it is there (`memory.is_stored`) and damaged."""
        try:
            return self._filesystem.loader.load(id)
        except LocalError:
            return None

    def stored_child(self, folder_id: ObjectId, name: bytes) -> Child | None:
        """What a name stands for."""
        names = self._names.get(folder_id)
        if names is None:
            folder = self.stored(folder_id)
            if folder is None:
                return None
            names = self._filesystem.loader.load_children(folder_id, folder)
            self._names[folder_id] = names
        entry = names.names.get(name)
        return None if entry is None else Child(name=name, id=entry[0], kind=entry[1])

    # Giving up

    def revive(self, id: ObjectId) -> None:
        """Our deletion is given up: the names that we took away are back, and so is everything
        that went with a folder, and the folders above."""
        under_way = [self._reviving(id)]
        while under_way:
            next_id = next(under_way[-1], None)
            if next_id is None:
                under_way.pop()
            else:
                under_way.append(self._reviving(next_id))

    def _reviving(self, id: ObjectId) -> Iterator[ObjectId]:
        """Yields what has to be revived before it goes on."""
        names = taken_from(self._tree, id)
        below = [(key, self._tree.dirty_names[key][1]) for key in pending_in(self._tree, id)]
        self._filesystem.revert(id)
        changed = self._filesystem.apply_remote([RemoteNode(id=id, manifest=self.stored(id))])
        self._invalidate(changed)
        self.place(id)
        for (folder, name), _ in names:
            theirs = self.stored_child(folder, name)
            if theirs is not None and theirs.id == id and is_deleted_here(self._tree, folder):
                yield folder
            self.give_back(folder, name)
        if isinstance(self.stored(id), FolderManifest):
            yield from self._refilling(id, [(key, was) for key, was in below if was is not None])

    def _refilling(
        self, id: ObjectId, taken: Sequence[tuple[NameKey, Entry]]
    ) -> Iterator[ObjectId]:
        """A revived folder shows what the store says, but for what we moved away before: what was
        put into it meanwhile had been passed over."""
        folder = self._filesystem.call(known, self._tree, id)
        if type(folder) is not FolderNode:
            return
        folder.pending = len(pending_in(self._tree, id))
        folder.children, folder.nlink = None, 2
        self._filesystem.call(self._tree.children, folder)
        self.place(id)
        for key, was in taken:
            if is_named_here(self._tree, was):
                continue
            self.give_back(*key)
            if was[0] in self._tree.dirty_nodes:
                yield was[0]

    def give_back(self, folder_id: ObjectId, name: bytes) -> None:
        """The name stands for what the store says now; where we put something else, that goes
        aside."""
        folder = self._tree.nodes.get(folder_id)
        theirs = self.stored_child(folder_id, name)
        if type(folder) is not FolderNode:
            if self._tree.dirty_names.pop((folder_id, name), None) is not None:
                self._tree.record((records.THEIRS, folder_id, name))
            return
        if theirs is None and (folder.children or {}).get(name) is not None:
            return
        self._invalidate(self._filesystem.give_way(folder_id, name, theirs, self._label())[1])
        if theirs is not None:
            self.place(theirs.id, folder)

    def place(self, id: ObjectId, folder: FolderNode | None = None) -> None:
        """An object that is named again counts its names, and a folder knows where it is: in
        `folder`, or wherever a name stands for it."""
        node = self._tree.nodes.get(id)
        if type(node) is FolderNode:
            named = [folder] if folder else [one for one, _ in names_of(self._tree, node)]
            for one in named:
                place(node, one)
        elif node is not None:
            node.nlink = links_now(self._tree, id, self._filesystem.loader.link_count)

"""Objects and names that changed both here and elsewhere: noted as they come, settled later.

Data flow: replica (changes that meet something pending here) -> `note`; between captures
    -> `settle` -> settling -> next capture.

The store holds the other device's version already when this hears of it. Until it is settled ours
must not be committed on top: that would silently undo theirs.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace

from parsec_fs.protocol.ids import ObjectId
from parsec_fs.protocol.manifests import FOLDER
from parsec_fs.workspace import records
from parsec_fs.workspace.assigning import NodeManifest
from parsec_fs.workspace.circles import pending_move
from parsec_fs.workspace.contested import entry_id, named_here, needed, unnamed
from parsec_fs.workspace.filesystem import Filesystem
from parsec_fs.workspace.manifest_build import Build
from parsec_fs.workspace.name_index import NameKey
from parsec_fs.workspace.overlay import is_deleted_here
from parsec_fs.workspace.payloads import Found
from parsec_fs.workspace.remote_changes import RemoteChange, RemoteNames
from parsec_fs.workspace.reviving import Invalidate
from parsec_fs.workspace.settlements import one_settlement
from parsec_fs.workspace.settling import Settling


class Contest:
    """What is contested. `label` names this device in conflict names; `invalidate` tells the
    kernel."""

    def __init__(
        self, filesystem: Filesystem, *, label: Callable[[], bytes], invalidate: Invalidate
    ) -> None:
        self._tree = filesystem.tree
        self._link_count = filesystem.loader.link_count
        self._settling = Settling(filesystem, label=label, invalidate=invalidate)
        self._names: dict[NameKey, RemoteNames] = {}
        self._nodes: dict[ObjectId, NodeManifest | None] = {}
        self._circles: set[ObjectId] = set()
        self._unnamed = False

    def __bool__(self) -> bool:
        return bool(self._names or self._nodes or self._unnamed)

    def note(self, found: Found) -> list[RemoteChange]:
        """What others changed, before it is applied to the tree; returns what may be applied now.

        Names of what was deleted elsewhere but is needed here are held back until `settle`."""
        held = needed(self._tree, found.changes)
        named = named_here(self._tree)
        passed: list[RemoteChange] = []
        for change in found.changes:
            if isinstance(change, RemoteNames):
                self._note_deletions(change)
                passed.append(self._note_names(change, held))
                continue
            lost = change.manifest is None and change.id in named
            if self._tree.is_dirty(change.id) or change.id in held or lost:
                # Of several foreign versions only the first replaced what we started from.
                self._nodes.setdefault(change.id, found.bases.get(change.id))
            passed.append(change)
        self._note_unnamed(passed)
        return passed

    def _note_unnamed(self, changes: Iterable[RemoteChange]) -> None:
        if not self and any(isinstance(one, RemoteNames) for one in changes):
            self._unnamed = bool(unnamed(self._tree, self._link_count))

    def _note_deletions(self, change: RemoteNames) -> None:
        """We deleted what was moved there, or the folder that something was put into."""
        put = [child.id for child in change.names.values() if child is not None]
        for id in (*put, change.folder) if put else ():
            if is_deleted_here(self._tree, id):
                self._nodes.setdefault(id, None)

    def _note_names(self, change: RemoteNames, held: set[ObjectId]) -> RemoteNames:
        pending = (self._tree.dirty_names, self._tree.flying_names)
        passed = dict(change.names)
        for name, child in change.names.items():
            key, moved = (change.folder, name), None
            if child is not None and child.kind == FOLDER:
                moved = pending_move(self._tree, change.folder, child.id)
            if moved is not None:
                self._circles.add(moved)
            if any(key in one for one in pending):
                self._names[key] = change
                continue
            ours = entry_id(self._tree, change.folder, name)
            if moved or (ours in held and (child is None or child.id != ours)):
                self._names[key] = change
                del passed[name]
        return replace(change, names=passed)

    def held_back(self) -> list[RemoteChange]:
        """Names that are contested, and that nothing pending stands for here any more."""
        pending = self._tree.dirty_names.keys() | self._tree.flying_names.keys()
        return [
            replace(change, names={name: change.names[name]})
            for (folder, name), change in self._names.items()
            if (folder, name) not in pending
        ]

    def forget(self) -> None:
        """All of it is settled already."""
        self._names, self._nodes, self._circles, self._unnamed = {}, {}, set(), False

    def objects(self) -> set[ObjectId]:
        """Contested objects that have changes here."""
        return {id for id in self._nodes if self._tree.is_dirty(id)}

    def settle(self) -> bool:
        """Settle everything; False: nothing was contested. Call with no capture in flight, changed
        files sealed, and the places of `objects` in memory. Only once its records are durable may
        what it led to be sent: settled anew it would be there twice. After an error all of it is
        contested still: what was settled already is settled anew without an effect."""
        if not self:
            return False
        with one_settlement(self._tree):
            self._settling.settle(self._names, self._nodes, self._circles)
            self._tree.record((records.SETTLED,))
            self.forget()
        return True

    def take_back(self, build: Build) -> None:
        """What was logged without a folder's second name: the tree shows what the store says."""
        for folder_id, name in build.withdrawn:
            if (folder_id, name) not in self._names:
                self._settling.take_back(folder_id, name)

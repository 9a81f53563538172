"""Others' changes into the tree: as they come, and once more in their place when a journal is
replayed.

Data flow: replica (a foreign group is in the store) -> this -> contest -> tree, journal (TAKEN);
    opening: journal (TAKEN), storage/before -> this -> contest -> tree.

What is pending here was made over what the store said then. A journal that is replayed over what it
says now would let our version silently win over theirs, or lose what they deleted. So the store
keeps what each foreign group replaced, the journal says when the tree took it over, and an opened
workspace holds the same as the one that ended: also what is contested (decision 0013).
"""

from collections.abc import Callable, Iterable

from parsec_fs.protocol.errors import LocalError
from parsec_fs.protocol.ids import ObjectId
from parsec_fs.protocol.manifests import FOLDER, PAGE, PageManifest
from parsec_fs.storage.realm_store import RealmStore
from parsec_fs.storage.realm_tables import StoredObject
from parsec_fs.workspace import records
from parsec_fs.workspace.capture import Capture, lift_off
from parsec_fs.workspace.contest import Contest
from parsec_fs.workspace.filesystem import Filesystem
from parsec_fs.workspace.nodes import FolderNode
from parsec_fs.workspace.overlay import lay_over
from parsec_fs.workspace.page_changes import PageChanges
from parsec_fs.workspace.payloads import Found
from parsec_fs.workspace.places import load_places, moves_folders, pending_folders, unplaced
from parsec_fs.workspace.remote_changes import RemoteNames, RemoteNode
from parsec_fs.workspace.reviving import Invalidate
from parsec_fs.workspace.slices import Slices
from parsec_fs.workspace.store_loader import StoreLoader


class Takeovers:
    """Of one workspace. `wake`: something is contested, which a push settles. `resume`: this
    capture was under way when the program ended."""

    def __init__(
        self,
        store: RealmStore,
        loader: StoreLoader,
        filesystem: Filesystem,
        contest: Contest,
        *,
        invalidate: Invalidate,
    ) -> None:
        self.wake: Callable[[], None] = lambda: None
        self._store = store
        self._loader = loader
        self._filesystem = filesystem
        self._tree = filesystem.tree
        self.contest = contest
        self._invalidate = invalidate
        self.resume: Callable[[Capture], None] = lambda capture: None
        self._signed: int | None = None
        self._flight: Capture | None = None
        self._waiting: list[int] = []
        self._unrecorded: list[int] = []
        self._replayed: set[ObjectId] = set()

    # While the workspace is open

    def show(self, found: Found) -> None:
        """What others changed, or what of ours is logged; the store has it."""
        for names in found.logged:
            for name, child in names.names.items():
                lay_over(self._tree, (names.folder, name), child)
        if not found.changes:
            return
        changes = self.contest.note(found)
        self._invalidate(self._filesystem.apply_remote(changes))
        if self.contest:
            self.wake()

    def taken(self, size: int) -> bool:
        """The tree has what others wrote up to a size of the log: the journal says so at once.
        False: nothing is pending that it could be told from."""
        if self._is_quiet():
            return False
        self._record(size)
        return True

    def _is_quiet(self) -> bool:
        tree = self._tree
        pending = tree.dirty_nodes or tree.dirty_names or tree.flying_nodes or tree.flying_names
        return not pending and tree.position <= self._store.journal_position()

    def _record(self, size: int) -> None:
        self._tree.record((records.TAKEN, size))
        self._note(self._tree.position, size)

    def _note(self, position: int, size: int) -> None:
        self._store.takeovers.add(position, size, logged=self._store.journal_position())

    async def prepare(self, slices: Slices) -> None:
        """Before others' changes are stored: the places of what was replayed come into memory, once
        after a start. Where they delete such a place, nobody could tell it afterwards."""
        replayed, self._replayed = self._replayed, set()
        for _ in load_places(self._filesystem.memory, unplaced(self._tree, replayed)):
            await slices.pause()

    async def place_contested(self, slices: Slices) -> None:
        """Before contested changes are settled: what changed files hold is sealed, and their places
        are in memory. After a start nobody may have looked at them yet."""
        tried = set[ObjectId]()
        while True:
            await self._filesystem.settle()
            wanted = unplaced(self._tree, self.contest.objects() - tried)
            if not wanted:
                return
            tried |= wanted
            for _ in load_places(self._filesystem.memory, wanted):
                await slices.pause()

    # While the journal is replayed

    def begin(self) -> None:
        """The store is seen as it was before the first foreign group that it still tells from."""
        self._waiting, self._unrecorded = self._store.before.sizes(), []
        entries = self._store.outbox.entries()
        self._signed = entries[-1].position if entries else None
        if self._waiting:
            self._loader.go_back()

    def reach(self, position: int) -> None:
        """What was signed before the last start, and not answered, is under way again: it covers
        all that was pending up to its position, and must not be told from what came later."""
        if self._signed is not None and position > self._signed:
            self._delete()
            self._flight = lift_off(self._tree, self._signed)
            self._signed = None

    def take(self, size: int) -> None:
        """A record says that groups up to this size were taken over here."""
        while self._waiting and self._waiting[0] <= size:
            self._take(self._waiting.pop(0))
        self._note(self._tree.position + 1, size)

    def settled(self) -> None:
        """A record says that all that was contested is settled: by the records before it, but for
        names that were held back and then shown as they came, which made none."""
        changes = self.contest.held_back()
        self.contest.forget()
        self._filesystem.apply_remote(changes)

    def reverted(self, folder: FolderNode) -> None:
        """Changes of a folder itself were given up: it is what the store says, its names aside."""
        try:
            manifest = self._loader.load(folder.id)
        except LocalError:
            return  # It is there, and does not open: it stays as it is.
        self._filesystem.apply_remote([RemoteNode(id=folder.id, manifest=manifest)])

    def take_rest(self) -> None:
        """After the last record: what was stored, but not recorded in time."""
        if self._signed is not None:
            self.reach(self._signed + 1)
        while self._waiting:
            self._unrecorded.append(self._waiting.pop(0))
            self._take(self._unrecorded[-1])
        self._loader.come_back()
        self._drop_deleted()

    def _drop_deleted(self) -> None:
        """What the capture under way deletes is pending no more, but for what came later."""
        for item in self._flight.nodes if self._flight is not None else ():
            node = self._tree.nodes.get(item.id) if item.deleted else None
            if node is not None and node.nlink == 0:
                self._tree.drop(node)

    def finish(self) -> None:
        """The tree is complete: now records can be made. What is contested, or could meet another
        device's move, must have its place."""
        flight, self._flight = self._flight, None
        if flight is not None:
            self.resume(flight)
        for size in self._unrecorded:
            self._record(size)
        if self.contest or moves_folders(self._tree):
            self._load_places(())
        tree = self._tree
        self._replayed = {*tree.dirty_nodes, *tree.flying_nodes, *pending_folders(tree)}

    def _take(self, size: int) -> None:
        """One group, as `show` did it."""
        self._delete()
        found = self._found(size)
        self._load_places(found.changes)
        found.changes = [
            change
            for change in found.changes
            if isinstance(change, RemoteNames) or self._concerns_tree(change.id)
        ]
        self._loader.advance(size)
        self._filesystem.apply_remote(self.contest.note(found))

    def _delete(self) -> None:
        """What lost its last name by the records so far is deleted here."""
        tree = self._tree
        for node in tree.nodes.values():
            if node.nlink == 0 and node.created:
                tree.dirty_nodes.pop(node.id, None)
            elif node.nlink == 0:
                self._delete_node(node.id)

    def _delete_node(self, id: ObjectId) -> None:
        if id not in self._tree.flying_nodes:
            self._tree.dirty_nodes.setdefault(id, self._tree.position)

    def _concerns_tree(self, id: ObjectId) -> bool:
        return id in self._tree.nodes or self._tree.is_dirty(id)

    def _found(self, size: int) -> Found:
        """What a group changed, told from the rows before and after it."""
        found, pages = Found(), PageChanges()
        for id, before in self._store.before.group(size):
            after = self._loader.row_after(id, size)
            if not (_is_page(before) or _is_page(after) or self._concerns_tree(id)):
                continue
            old, new = self._loader.opened(before), self._loader.opened(after)
            if isinstance(old, PageManifest):
                pages.was(old)
            if isinstance(new, PageManifest):
                pages.is_now(new)
            if isinstance(old, PageManifest) or isinstance(new, PageManifest):
                continue
            if old is not None:
                found.bases[id] = old
            if new is not None or after is None or after.sealed is None:
                found.changes.append(RemoteNode(id=id, manifest=new))
        found.changes += pages.names()
        return found

    def _load_places(self, changes: Iterable[RemoteNode | RemoteNames]) -> None:
        tree = self._tree
        wanted = {*tree.dirty_nodes, *tree.flying_nodes, *pending_folders(tree)}
        if not wanted:
            return
        for change in changes:
            if isinstance(change, RemoteNames):
                put = [child for child in change.names.values() if child is not None]
                wanted |= {change.folder, *(child.id for child in put if child.kind == FOLDER)}
        for _ in load_places(self._filesystem.memory, unplaced(tree, wanted)):
            pass


def _is_page(row: StoredObject | None) -> bool:
    return row is not None and row.kind == PAGE

"""The local store as the tree sees it.

Data flow: storage/realm_store -> opener -> this (`loader.Loader`) -> filesystem -> tree.

Synchronous, tens of microseconds per object. A page counts only for the folder that it is a page
of: its id must follow from the folder's page key (rule 12; a hostile page names another folder).
"""

import errno
import logging
from collections import Counter
from collections.abc import Callable

from parsec_fs.protocol.errors import LocalError
from parsec_fs.protocol.ids import ObjectId
from parsec_fs.protocol.manifests import PAGE, FolderManifest, Manifest, PageManifest, page_id
from parsec_fs.storage.realm_store import RealmStore
from parsec_fs.storage.realm_tables import StoredObject
from parsec_fs.workspace.assigning import NodeManifest
from parsec_fs.workspace.loader import Names
from parsec_fs.workspace.nodes import Entry
from parsec_fs.workspace.opener import DAMAGE, Opener
from parsec_fs.workspace.times import NEVER, latest

log = logging.getLogger(__name__)


class StoreLoader:
    """What the tree does not have in memory, from realm.db."""

    def __init__(self, store: RealmStore, opener: Opener) -> None:
        self.on_closed: Callable[[], None] = lambda: None
        self._store = store
        self._opener = opener
        self._taken: int | None = None
        self._links = Counter[ObjectId]()

    # The store as it was: while the journal is replayed

    def go_back(self) -> None:
        """From now on this tells what the store said before the first change that it keeps."""
        self._taken = 0
        for id in self._store.before.pages():
            self._count(self._row(id), self._store.object(id))

    def advance(self, size: int) -> None:
        """What others wrote up to this size of the log is told now."""
        for id, before in self._store.before.group(size):
            self._count(self.row_after(id, size), before)
        self._taken = size

    def come_back(self) -> None:
        """The store is told as it is."""
        self._taken = None
        self._links.clear()

    def row_after(self, id: ObjectId, size: int) -> StoredObject | None:
        """An object as a group has left it."""
        changed, row = self._store.before.find(id, size)
        return row if changed else self._store.object(id)

    def opened(self, row: StoredObject | None) -> Manifest | None:
        """What a row says; None also if it is damaged, or a page that belongs to no folder."""
        if row is None or row.kind == 0:
            return None
        try:
            return self._opener.open(row)
        except DAMAGE:
            return None

    def _row(self, id: ObjectId) -> StoredObject | None:
        return self._store.object(id) if self._taken is None else self.row_after(id, self._taken)

    def _count(self, told: StoredObject | None, instead: StoredObject | None) -> None:
        """Names in one page are told instead of those in another version of it."""
        for row, change in ((told, 1), (instead, -1)):
            page = self.opened(row)
            if isinstance(page, PageManifest):
                for child in page.children:
                    self._links[child.id] += change

    # Reading

    def load(self, id: ObjectId) -> NodeManifest | None:
        """An object's manifest. Raises LocalError (EIO) if it is damaged."""
        row = self._row(id)
        if row is None:
            return None
        try:
            manifest = self._opener.open(row)
        except DAMAGE as error:
            self.on_closed()
            raise LocalError(f"object {id.hex()} is damaged", errno=errno.EIO) from error
        return None if isinstance(manifest, PageManifest) else manifest

    def load_children(self, id: ObjectId, folder: NodeManifest) -> Names:
        """All names of a folder. A damaged page costs its own names."""
        names: dict[bytes, Entry] = {}
        times = NEVER
        if isinstance(folder, FolderManifest):
            for page in self._pages(id, folder):
                names.update({child.name: (child.id, child.kind) for child in page.children})
                times = latest(times, (page.mtime_ns, page.ctime_ns))
        return Names(names=names, mtime_ns=times[0], ctime_ns=times[1])

    def page(self, id: ObjectId, folder: ObjectId) -> PageManifest | None:
        """One page of a folder, None if there is none (or none that opens)."""
        row = self._row(id)
        if row is None or row.kind != PAGE:
            return None
        try:
            manifest = self._opener.open(row)
        except DAMAGE:
            log.warning("page %s is damaged", id.hex())
            return None
        return (
            manifest if isinstance(manifest, PageManifest) and manifest.folder == folder else None
        )

    def _pages(self, id: ObjectId, folder: FolderManifest) -> list[PageManifest]:
        count = 1 << folder.page_bits
        ids = [page_id(folder.page_key, folder.page_bits, number) for number in range(count)]
        found = [self.page(one, id) for one in ids]
        return [page for page in found if page is not None]

    def link_count(self, id: ObjectId) -> int:
        """Names of this object in the store."""
        return self._store.link_count(id) + self._links.get(id, 0)

    def version(self, id: ObjectId) -> int:
        """Version in the store, 0 if it is not there."""
        state = self._store.state(id)
        return 0 if state is None else state.version

    def journal_position(self) -> int:
        """Journal records up to this one are in the store."""
        return self._store.journal_position()

"""fsck: is a workspace on this device consistent? Of one that is open and that nobody uses.

Data flow: realm.db, tree (with the journal replayed over it), blocks on this device -> this ->
faults, one at a time; `tally` says what was looked at.

Nothing is mended here: what can be had elsewhere is fetched when it is read, and what cannot is
held back by itself. Rules looked after: the objects are those of the verified log (R-6), names and
link counts agree and a folder has one place (R-12), a block is what its reference means (R-5).
"""

from collections import Counter
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from parsec_fs.protocol.errors import DataError, DecryptionError, LocalError
from parsec_fs.protocol.ids import ROOT_OBJECT, ObjectId
from parsec_fs.protocol.limits import MIB
from parsec_fs.protocol.manifests import PAGE, BlockRef, FileManifest
from parsec_fs.protocol.records import Context
from parsec_fs.protocol.sealing import open_block, open_checked_block
from parsec_fs.storage.contents import Contents
from parsec_fs.storage.database import damage_of
from parsec_fs.storage.realm_store import RealmStore
from parsec_fs.workspace.filesystem import Filesystem
from parsec_fs.workspace.nodes import ROOT_INODE, Entry, FileNode, FolderNode
from parsec_fs.workspace.realm_rebuild import light_state, with_map
from parsec_fs.workspace.store_loader import StoreLoader

_STEP: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """`place`: a path in the workspace, or what holds it."""

    place: bytes
    what: str


@dataclass(slots=True, kw_only=True)
class Tally:
    """What was looked at; `bytes` are those of the blocks."""

    names: int = 0
    objects: int = 0
    blocks: int = 0
    bytes: int = 0


def database_faults(path: Path) -> list[Fault]:
    """Of realm.db as a file; reads all of it. One that is damaged may not open: ask this first."""
    return [Fault(place=b"realm.db", what=line) for line in damage_of(path)]


class Fsck:
    """One check. `filesystem` is open, and not served to anybody; its database is whole."""

    def __init__(
        self,
        store: RealmStore,
        context: Context,
        filesystem: Filesystem,
        loader: StoreLoader,
        contents: Contents,
    ) -> None:
        self.tally = Tally()
        self._store = store
        self._context = context
        self._filesystem = filesystem
        self._tree = filesystem.tree
        self._loader = loader
        self._contents = contents
        self._folders: set[ObjectId] = {ROOT_OBJECT}
        self._names = Counter[ObjectId]()
        self._links: dict[ObjectId, tuple[int, bytes]] = {}
        """Link count and a place, of files that say that they have not one name."""

    def run(self) -> Iterator[Fault]:
        """Everything, to the end; a database that is damaged ends it."""
        yield from self._map()
        yield from self._names_below_root()
        yield from self._link_counts()
        yield from self._objects()

    def _map(self) -> Iterator[Fault]:
        try:
            for _ in with_map(light_state(self._store, self._context), self._store):
                pass
        except DataError as error:
            yield Fault(place=b"realm.db", what=str(error))

    # Names

    def _names_below_root(self) -> Iterator[Fault]:
        waiting = [(self._tree.folder(ROOT_INODE), b"")]
        while waiting:
            folder, path = waiting.pop()
            try:
                children = sorted(self._filesystem.call(self._tree.children, folder).items())
            except LocalError as error:
                yield Fault(place=path or b"/", what=f"its names cannot be read: {error}")
                continue
            for name, entry in children:
                place = path + b"/" + name
                below = yield from self._named(folder, entry, place)
                if below is not None:
                    waiting.append((below, place))
            self._forget(entry for _, entry in children)

    def _named(
        self, folder: FolderNode, entry: Entry, place: bytes
    ) -> Generator[Fault, None, FolderNode | None]:
        """What one name stands for; a folder, if it is one that has not been met yet."""
        self.tally.names += 1
        try:
            node = self._filesystem.call(self._tree.child, folder, entry)
        except LocalError as error:
            yield Fault(place=place, what=f"what it stands for cannot be read: {error}")
            return None
        if isinstance(node, FolderNode):
            if node.id in self._folders:
                yield Fault(place=place, what="this folder stands in another place as well")
                return None
            self._folders.add(node.id)
            return node
        self._names[node.id] += 1
        if node.nlink != 1:
            self._links[node.id] = (node.nlink, place)
        if isinstance(node, FileNode) and self._names[node.id] == 1:
            yield from self._content(node, place)
        return None

    def _forget(self, entries: Iterable[Entry]) -> None:
        """Files leave memory again: a large workspace does not fit."""
        nodes = (self._tree.nodes.get(entry[0]) for entry in entries)
        self._tree.trim([node for node in nodes if node and not isinstance(node, FolderNode)])

    def _link_counts(self) -> Iterator[Fault]:
        for id, count in self._names.items():
            told, place = self._links.get(id, (1, id.hex().encode()))
            if told != count:
                yield Fault(place=place, what=f"its link count is {told}, it has {count} names")

    # Content

    def _content(self, node: FileNode, place: bytes) -> Iterator[Fault]:
        if node.blocks is None:
            try:
                if node.content is None:
                    self._filesystem.small_content(node)
            except LocalError as error:
                yield Fault(place=place, what=f"its content cannot be read: {error}")
            return
        elsewhere = self._logged(node) if self._tree.is_dirty(node.id) else None
        for index, ref in enumerate(node.blocks):
            what = self._block(ref, elsewhere) if ref is not None else ""
            if what:
                end = min(index * MIB + MIB, node.size)
                yield Fault(place=place, what=f"bytes {index * MIB} to {end}: {what}")

    def _logged(self, node: FileNode) -> frozenset[BlockRef]:
        """Blocks that the server has: what a changed file had before."""
        try:
            manifest = self._loader.load(node.id)
        except LocalError:
            return frozenset()  # `_object` tells
        return frozenset(manifest.refs) if isinstance(manifest, FileManifest) else frozenset()

    def _block(self, ref: BlockRef, elsewhere: frozenset[BlockRef] | None) -> str:
        """What is wrong with a block. `elsewhere`: those that can be fetched; None: it can."""
        fetched = elsewhere is None or ref in elsewhere
        again = "it is fetched again when it is read" if fetched else "nobody else has it"
        try:
            sealed = self._contents.files.read(ref)
        except FileNotFoundError:
            return "" if fetched else f"missing on this device, and {again}"
        except OSError as error:
            return f"cannot be read on this device ({error.strerror}); {again}"
        self.tally.blocks += 1
        self.tally.bytes += len(sealed)
        opening = open_checked_block if ref.is_local else open_block
        try:
            opening(sealed, ref, realm=self._contents.realm)
        except DecryptionError:
            return f"damaged on this device; {again}"
        return ""

    # Objects

    def _objects(self) -> Iterator[Fault]:
        """What exists has a name, unless its deletion is not logged yet."""
        last = b""
        while rows := self._store.states_after(last, _STEP):
            for id, _ in rows:
                what = self._object(id)
                if what:
                    yield Fault(place=id.hex().encode(), what=what)
            last = rows[-1][0]

    def _object(self, id: ObjectId) -> str:
        row = self._store.object(id)
        if row is None or row.sealed is None:
            return ""
        self.tally.objects += 1
        if row.kind == 0:
            return "this object does not open: its key is not here, or it was written so"
        if row.kind == PAGE:
            return "" if self._loader.opened(row) else "this page of a folder's names does not open"
        known = id in self._folders or id in self._names
        return "" if known or self._tree.is_dirty(id) else "this object has no name"

"""From captured changes to new versions of objects, over what the store says now.

Data flow: capture, store -> this -> `closures` -> push (seals, signs, posts).

Pure. Rules guarded here:
- names are merged into the store's current pages one by one, so that two devices that add names to
  one folder never undo each other (rule 11: rebase is by name);
- the store's page key and number of pages win over the captured ones, unless this capture splits;
- what the store says already is not said again: repeating a capture is harmless;
- versions count up from the store's; a deletion is a tombstone (rule 7), a folder's with its pages.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Protocol

from parsec_fs.protocol.commits import DELETED
from parsec_fs.protocol.ids import NO_HASH, ObjectId
from parsec_fs.protocol.manifests import (
    FOLDER,
    Child,
    FolderManifest,
    Manifest,
    PageManifest,
    page_id,
    page_of,
)
from parsec_fs.protocol.records import ObjectState
from parsec_fs.workspace.assigning import NodeManifest
from parsec_fs.workspace.capture import Capture, CapturedFolder, CapturedNode
from parsec_fs.workspace.times import latest


class StoreView(Protocol):
    """What the store says now."""

    def state(self, id: ObjectId) -> ObjectState | None:
        """Version and last write of an object."""

    def load(self, id: ObjectId) -> NodeManifest | None:
        """Manifest of an object that is not a page; None if it is deleted or unknown."""

    def page(self, id: ObjectId, folder: ObjectId) -> PageManifest | None:
        """A page of a folder."""

    def links(self, id: ObjectId) -> int:
        """How many names an object has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewVersion:
    """A new version of an object: manifest None is a tombstone. `before`: the state it replaces."""

    id: ObjectId
    manifest: Manifest | None
    before: ObjectState | None

    @property
    def version(self) -> int:
        """Number of this version."""
        return 1 + (self.before.version if self.before else 0)

    @property
    def base(self) -> bytes:
        """Record of the write that it replaces."""
        return self.before.write if self.before else NO_HASH


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderChange:
    """The pages of one folder that change. `atomic`: a split, which is one step or none. `above`:
    pages that name the folder and all folders above it, if a folder was moved in here."""

    folder: ObjectId
    pages: tuple[NewVersion, ...]
    gained: frozenset[ObjectId]
    lost: frozenset[ObjectId]
    atomic: bool
    above: tuple[ObjectId, ...] = ()


@dataclass(slots=True)
class Build:
    """New versions of one capture. `gone` are objects that were changed here and deleted
    elsewhere: an id never comes back, so they need a new one. `withdrawn` are second
    names of folders: the tree has to take them back."""

    nodes: dict[ObjectId, NewVersion] = field(default_factory=dict)
    folders: list[FolderChange] = field(default_factory=list)
    tombstones: dict[ObjectId, tuple[NewVersion, ...]] = field(default_factory=dict)
    bases: dict[ObjectId, NodeManifest] = field(default_factory=dict)
    gone: list[ObjectId] = field(default_factory=list)
    withdrawn: list[tuple[ObjectId, bytes]] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.nodes or self.folders or self.tombstones)


Places = Callable[[ObjectId], Iterable[tuple[ObjectId, bytes]]]
"""Where a folder and every folder above it are named: (folder, name), up to the root."""


class Builder:
    """Builds one capture, item by item, so that the caller can yield in between."""

    def __init__(self, capture: Capture, view: StoreView, places: Places) -> None:
        self.build = Build()
        self._view = view
        self._places = places
        self._capture = capture
        self._links: dict[ObjectId, int] = {}
        self._split = {one.id: one for one in capture.folders if one.page_bits > one.old_page_bits}

    def steps(self) -> Iterable[None]:
        """All items, one step each."""
        if self._moves_folders():
            yield from self._counting()
        for node in self._capture.nodes:
            self._node(node)
            yield
        for folder in self._capture.folders:
            self._folder(folder)
            yield
        self._touch_linked()

    def _moves_folders(self) -> bool:
        """True iff a folder that the store has gets a name."""
        names = (child for folder in self._capture.folders for _, child in folder.names)
        return any(one and one.kind == FOLDER and self._view.state(one.id) for one in names)

    def _counting(self) -> Iterable[None]:
        for folder in self._capture.folders:
            self._count(folder)
            yield
        for node in self._capture.nodes:
            self._count_deleted(node)
            yield

    def _count(self, captured: CapturedFolder) -> None:
        """Names that objects lose in this folder."""
        stored = self._view.load(captured.id) if self._view.state(captured.id) else None
        if not isinstance(stored, FolderManifest):
            return
        names = dict(captured.names)
        if captured.id in self._split:
            # It holds all names: what it lacks is gone.
            was = self._names_in(captured.id, stored, range(1 << stored.page_bits))
        else:
            pages = _by_page(captured.names, stored.page_key, stored.page_bits)
            found = self._names_in(captured.id, stored, pages)
            was = {name: child for name, child in found.items() if name in names}
        for name, child in was.items():
            now = names.get(name)
            if now is None or now.id != child.id:
                self._links[child.id] = self._links_of(child.id) - 1

    def _count_deleted(self, node: CapturedNode) -> None:
        """A folder that is deleted takes all its names along."""
        stored = self._view.load(node.id) if node.manifest is None else None
        if isinstance(stored, FolderManifest):
            for child in self._names_in(node.id, stored, range(1 << stored.page_bits)).values():
                self._links[child.id] = self._links_of(child.id) - 1

    def _names_in(
        self, id: ObjectId, folder: FolderManifest, numbers: Iterable[int]
    ) -> dict[bytes, Child]:
        ids = (page_id(folder.page_key, folder.page_bits, number) for number in numbers)
        pages = [page for one in ids if (page := self._view.page(one, id))]
        return {child.name: child for page in pages for child in page.children}

    def _links_of(self, id: ObjectId) -> int:
        return self._links[id] if id in self._links else self._view.links(id)

    def _touch_linked(self) -> None:
        """What got one more name, or one of several less, is committed too, as it is: so that
        another device that deletes it or takes another name meanwhile conflicts, and no name is
        left without its object, and no object without a name."""
        gained = set[ObjectId]().union(*(change.gained for change in self.build.folders))
        lost = set[ObjectId]().union(*(change.lost for change in self.build.folders))
        left = {id for id in lost - gained if self._view.links(id) > 1}
        for id in sorted((gained - lost | left) - self.build.nodes.keys()):
            before, stored = self._view.state(id), self._view.load(id)
            if before is not None and stored is not None and id not in self.build.tombstones:
                self.build.nodes[id] = NewVersion(id=id, manifest=stored, before=before)

    def _node(self, node: CapturedNode) -> None:
        before = self._view.state(node.id)
        stored = None if before is None else self._view.load(node.id)
        if node.manifest is None:
            if before is not None and stored is not None:
                self.build.tombstones[node.id] = self._tombstones(node.id, before, stored)
            return
        if before is not None and stored is None:
            self.build.gone.append(node.id)
            return
        manifest = self._with_pages_of(node.id, node.manifest, stored)
        if manifest == stored:
            return
        if stored is not None:
            self.build.bases[node.id] = stored
        self.build.nodes[node.id] = NewVersion(id=node.id, manifest=manifest, before=before)

    def _with_pages_of(
        self, id: ObjectId, manifest: NodeManifest, stored: NodeManifest | None
    ) -> NodeManifest:
        """Where a folder's pages lie is the store's business: another device may have split it."""
        if not isinstance(manifest, FolderManifest) or not isinstance(stored, FolderManifest):
            return manifest
        bits = stored.page_bits
        if id in self._split:
            bits = max(bits, self._split[id].page_bits)
        return replace(manifest, page_key=stored.page_key, page_bits=bits)

    def _tombstones(
        self, id: ObjectId, before: ObjectState, stored: NodeManifest
    ) -> tuple[NewVersion, ...]:
        """A folder goes with all its pages, also those that do not exist yet: so a name that
        another device adds meanwhile conflicts and is not lost in a deleted folder."""
        tombstone = NewVersion(id=id, manifest=None, before=before)
        if not isinstance(stored, FolderManifest):
            return (tombstone,)
        return (tombstone, *self._page_tombstones(stored))

    def _page_tombstones(self, folder: FolderManifest) -> tuple[NewVersion, ...]:
        ids = (
            page_id(folder.page_key, folder.page_bits, number)
            for number in range(1 << folder.page_bits)
        )
        pages = (NewVersion(id=one, manifest=None, before=self._view.state(one)) for one in ids)
        return tuple(page for page in pages if not _is_dead(page.before))

    def _folder(self, captured: CapturedFolder) -> None:
        before = self._view.state(captured.id)
        stored = None if before is None else self._view.load(captured.id)
        if before is not None and not isinstance(stored, FolderManifest):
            if captured.id not in self.build.gone:
                self.build.gone.append(captured.id)
            return
        key, bits = captured.page_key, captured.page_bits
        if isinstance(stored, FolderManifest):
            if captured.page_bits > stored.page_bits:
                self._add(self._split_folder(captured, stored), captured)
                return
            key, bits = stored.page_key, stored.page_bits
        change = self._pages(captured, key, bits)
        if change.pages:
            self._add(change, captured)

    def _add(self, change: FolderChange, captured: CapturedFolder) -> None:
        """Two moves that were legal one by one can make a circle (A36): who moves a folder in
        says which names above must not have changed."""
        folders = [child.id for _, child in captured.names if child and child.kind == FOLDER]
        if any(id in change.gained and self._view.state(id) for id in folders):
            above = [self._page_naming(*place) for place in self._places(captured.id)]
            change = replace(change, above=tuple(id for id in above if id is not None))
        self.build.folders.append(change)

    def _page_naming(self, folder: ObjectId, name: bytes) -> ObjectId | None:
        stored = self._view.load(folder)
        if not isinstance(stored, FolderManifest):
            return None
        number = page_of(name, stored.page_key, stored.page_bits)
        return page_id(stored.page_key, stored.page_bits, number)

    def _pages(self, captured: CapturedFolder, key: bytes, bits: int) -> FolderChange:
        pages, gained, lost = [], set[ObjectId](), set[ObjectId]()
        # A capture that wanted to split holds all names: what it lacks is gone.
        everything = captured.page_bits > captured.old_page_bits
        by_page = _by_page(captured.names, key, bits)
        for number in range(1 << bits) if everything else by_page:
            id = page_id(key, bits, number)
            old = self._view.page(id, captured.id)
            children = {child.name: child for child in old.children} if old else {}
            names = {
                name: self._allowed(captured.id, child, children.get(name))
                for name, child in by_page.get(number, {}).items()
            }
            new = _merged({} if everything else children, names)
            if new == children:
                continue
            gained |= _ids(new) - _ids(children)
            lost |= _ids(children) - _ids(new)
            manifest = _page(captured, new, old)
            before = self._view.state(id)
            pages.append(NewVersion(id=id, manifest=manifest, before=before))
        return FolderChange(
            folder=captured.id,
            pages=tuple(pages),
            gained=frozenset(gained - lost),
            lost=frozenset(lost - gained),
            atomic=False,
        )

    def _allowed(self, folder: ObjectId, child: Child | None, was: Child | None) -> Child | None:
        """What a name may stand for; if not for what the capture says, then for nothing: what it
        stood for has lost it all the same, and may have another place by now."""
        if child is None or not self._free(folder, child, was):
            return None
        return self._living(child)

    def _free(self, folder: ObjectId, child: Child, was: Child | None) -> bool:
        """A folder has one place: where the store has it, unless this capture takes it away."""
        if child.kind != FOLDER or (was is not None and was.id == child.id):
            return True
        if self._links_of(child.id) > 0:
            self.build.withdrawn.append((folder, child.name))
            return False
        self._links[child.id] = 1
        return True

    def _living(self, child: Child) -> Child | None:
        """A name never stands for an object that is deleted, whatever the capture says."""
        if child.id in self.build.nodes:
            return child
        known = self._view.state(child.id) is not None
        return child if not known or self._view.load(child.id) is not None else None

    def _split_folder(self, captured: CapturedFolder, stored: FolderManifest) -> FolderChange:
        """All names into twice as many pages (or more) with new ids; the old pages are deleted."""
        was = self._names_in(captured.id, stored, range(1 << stored.page_bits))
        left = [
            (name, child)
            for name, child in captured.names
            if child is not None and self._free(captured.id, child, was.get(name))
        ]
        key, bits = stored.page_key, captured.page_bits
        pages = []
        for number, names in _by_page(left, key, bits).items():
            id = page_id(key, bits, number)
            manifest = _page(captured, _merged({}, names), None)
            pages.append(NewVersion(id=id, manifest=manifest, before=self._view.state(id)))
        old, new = _ids(was), {child.id for _, child in left}
        return FolderChange(
            folder=captured.id,
            pages=(*pages, *self._page_tombstones(stored)),
            gained=frozenset(new - old),
            lost=frozenset(old - new),
            atomic=True,
        )


def _is_dead(state: ObjectState | None) -> bool:
    return state is not None and state.flags & DELETED != 0


def _by_page(
    names: Iterable[tuple[bytes, Child | None]], key: bytes, bits: int
) -> dict[int, dict[bytes, Child | None]]:
    pages: dict[int, dict[bytes, Child | None]] = {}
    for name, child in names:
        pages.setdefault(page_of(name, key, bits), {})[name] = child
    return pages


def _merged(children: dict[bytes, Child], names: dict[bytes, Child | None]) -> dict[bytes, Child]:
    merged = {name: child for name, child in children.items() if name not in names}
    merged.update({name: child for name, child in names.items() if child is not None})
    return merged


def _ids(children: dict[bytes, Child]) -> set[ObjectId]:
    return {child.id for child in children.values()}


def _page(
    captured: CapturedFolder, children: dict[bytes, Child], old: PageManifest | None
) -> PageManifest:
    """Merged times are those of the latest change (rule 11)."""
    ours = (captured.mtime_ns, captured.ctime_ns)
    mtime, ctime = latest(ours, (old.mtime_ns, old.ctime_ns) if old else ours)
    return PageManifest(
        folder=captured.id,
        mtime_ns=mtime,
        ctime_ns=ctime,
        children=tuple([children[name] for name in sorted(children)]),
    )

"""How many conflict copies a mounted workspace has, for the hint in `status`.

Data flow: pages in realm.db, names in memory -> this -> status.

Nothing is counted before somebody asks. Then each page is read once, between requests of the mount,
and again after it was stored anew; names that are not logged yet are looked up in memory. Whoever
asks waits a moment at most: a large workspace is counted while its status is asked for again.
"""

from collections.abc import Iterable
from typing import Final

import trio

from parsec_fs.protocol.ids import ObjectId
from parsec_fs.protocol.manifests import PAGE, PageManifest
from parsec_fs.storage.realm_store import RealmStore
from parsec_fs.workspace.conflicts import is_conflict_name
from parsec_fs.workspace.nodes import FolderNode
from parsec_fs.workspace.slices import Slices
from parsec_fs.workspace.store_loader import StoreLoader
from parsec_fs.workspace.tree import Tree

PATIENCE_S: Final = 1.0
_ROWS: Final = 500
_FIRST: Final = b""

Name = tuple[ObjectId, bytes]
"""Folder and name in it."""


class ConflictCount:
    """Conflict copies of one open workspace, those that are not synchronised yet included."""

    def __init__(
        self, *, store: RealmStore, loader: StoreLoader, tree: Tree, slices: Slices
    ) -> None:
        self._store = store
        self._loader = loader
        self._tree = tree
        self._slices = slices
        self._found: dict[ObjectId, frozenset[Name]] = {}
        self._stale: set[ObjectId] = set()
        self._read_up_to: bytes | None = _FIRST
        self._one_at_a_time = trio.Lock()
        store.on_pages = self._stored

    async def now(self) -> int | None:
        """How many there are; None if counting takes longer than a moment: ask again."""
        with trio.move_on_after(PATIENCE_S), self._slices.hurried():
            async with self._one_at_a_time:
                await self._read_all()
                await self._read_again()
                return len(self._shown())
        return None

    def _stored(self, pages: Iterable[ObjectId], ended: Iterable[ObjectId]) -> None:
        """Of what ended only what had conflict names matters, and of it there is little."""
        if self._read_up_to != _FIRST:
            self._stale.update(pages)
            self._stale.update(self._found.keys() & set(ended))

    async def _read_all(self) -> None:
        """Every page, once; goes on where it was interrupted."""
        while self._read_up_to is not None:
            rows = self._store.kinds_after(self._read_up_to, _ROWS)
            for id, kind in rows:
                self._read_up_to = id
                if kind == PAGE:
                    self._read(id)
                    await self._slices.pause()
            if len(rows) < _ROWS:
                self._read_up_to = None
            await self._slices.pause()

    async def _read_again(self) -> None:
        while self._stale:
            self._read(self._stale.pop())
            await self._slices.pause()

    def _read(self, id: ObjectId) -> None:
        page, names = self._loader.opened(self._store.object(id)), frozenset[Name]()
        if isinstance(page, PageManifest):
            children = page.children
            names = frozenset(
                (page.folder, one.name) for one in children if is_conflict_name(one.name)
            )
        if names:
            self._found[id] = names
        else:
            self._found.pop(id, None)

    def _shown(self) -> set[Name]:
        """As the mount shows them: with names that were given or taken here and are not logged."""
        shown = set[Name]().union(*self._found.values())
        tree = self._tree
        for marks in (tree.dirty_names, tree.flying_names):
            for folder, name in (key for key in marks if is_conflict_name(key[1])):
                node = tree.nodes.get(folder)
                if isinstance(node, FolderNode) and name in (node.children or {}):
                    shown.add((folder, name))
                else:
                    shown.discard((folder, name))
        return shown

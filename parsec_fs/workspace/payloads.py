"""Payloads of verified leaves: fetched, checked, opened, and what they mean for names and links.

Data flow: leaf group -> server (payloads) or outbox -> digest -> opener -> rows, links, changes.

A payload is what its object record says (digest) or it is not taken. One that does not open is
damage of one object, kept and shown as EIO, and stops nobody (rule 12). Own commits need no
fetching and are not applied to the tree, which made them.
"""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

from parsec_fs.protocol.commits import DELETED
from parsec_fs.protocol.errors import DataError, LocalError
from parsec_fs.protocol.ids import DeviceId, Hash, ObjectId, RealmId
from parsec_fs.protocol.limits import COMMIT_MAX_OBJECTS
from parsec_fs.protocol.manifests import (
    FOLDER,
    PAGE,
    BlockRef,
    FileManifest,
    FolderManifest,
    Manifest,
    PageManifest,
)
from parsec_fs.storage.realm_store import RealmStore
from parsec_fs.storage.realm_tables import StoredObject
from parsec_fs.workspace.assigning import NodeManifest
from parsec_fs.workspace.leaf_groups import ChangedObject, LeafGroup
from parsec_fs.workspace.nesting import flatten
from parsec_fs.workspace.opener import DAMAGE, Opener
from parsec_fs.workspace.page_changes import PageChanges, belongs
from parsec_fs.workspace.remote_changes import RemoteChange, RemoteNames, RemoteNode
from parsec_fs.workspace.replica_checks import REPLICA_CHECKS, ReplicaChecks
from parsec_fs.workspace.slices import Slices

log = logging.getLogger(__name__)

_ASK_MOST: Final = 4 * COMMIT_MAX_OBJECTS
ReadNode = Callable[[BlockRef], Awaitable[bytes]]


@dataclass(slots=True)
class Found:
    """What a group puts into the store, and what the tree has to take over. `bases`: what the
    store said before of objects that have changes pending here. `logged`: names that this device
    has changed, as the store says them from now on."""

    rows: list[StoredObject] = field(default_factory=list)
    links: dict[ObjectId, int] = field(default_factory=dict)
    changes: list[RemoteChange] = field(default_factory=list)
    bases: dict[ObjectId, NodeManifest] = field(default_factory=dict)
    logged: list[RemoteNames] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.changes or self.logged)


class PayloadSource(Protocol):
    """Where payloads come from."""

    async def read_payloads(self, realm: RealmId, hashes: tuple[Hash, ...]) -> tuple[bytes, ...]:
        """The first ones that fit, in the order asked for; unverified."""


class GroupReader(Protocol):
    """What a replica has made of a group."""

    async def read(self, group: LeafGroup, slices: Slices) -> Found:
        """Everything of a group. Raises OfflineError, ProofError, DataError."""


class PayloadReader:
    """Reads the payloads of one realm. `in_memory` says what the tree holds, `pending` what was
    changed here; `read_node` opens a block of references of a large file."""

    def __init__(
        self,
        store: RealmStore,
        client: PayloadSource,
        opener: Opener,
        *,
        realm: RealmId,
        device: DeviceId,
        in_memory: Callable[[ObjectId], bool] = lambda id: False,
        pending: Callable[[ObjectId], bool] = lambda id: False,
        read_node: ReadNode,
        checks: ReplicaChecks = REPLICA_CHECKS,
    ) -> None:
        self.in_memory = in_memory
        self.pending = pending
        self.read_node = read_node
        self._store = store
        self._client = client
        self._opener = opener
        self._realm = realm
        self._device = device
        self._checks = checks

    async def read(self, group: LeafGroup, slices: Slices) -> Found:
        """Everything of a group. Raises OfflineError, ProofError, DataError."""
        sealed = await self._sealed(group, slices)
        reading = _Reading(self, group, sealed)
        for id, change in group.objects.items():
            await reading.take(id, change)
            await slices.pause()
        return await reading.finish(slices)

    async def _sealed(self, group: LeafGroup, slices: Slices) -> dict[Hash, bytes]:
        found: dict[Hash, bytes] = {}
        missing: list[Hash] = []
        declared: dict[Hash, int] = {}
        for change in group.objects.values():
            if change.record.flags & DELETED:
                continue
            record = change.record
            declared[record.payload] = max(record.payload_size, declared.get(record.payload, 0))
            kept = self._kept(change)
            if kept is None:
                missing.append(change.record.payload)
            else:
                found[change.record.payload] = kept
        while missing:
            answer = await self._client.read_payloads(self._realm, tuple(missing[:_ASK_MOST]))
            if not 0 < len(answer) <= len(missing):
                raise DataError("the server gives no payloads")
            for expected, payload in zip(missing, answer, strict=False):
                checked = self._checks.payload(payload, expected=expected)
                # Longer than its author declared: the object is damaged, and it must not fill the
                # memory, which groups are measured for by what is declared.
                found[expected] = checked if len(checked) <= declared[expected] else b""
                await slices.pause()
            del missing[: len(answer)]
        return found

    def _kept(self, change: ChangedObject) -> bytes | None:
        own = change.author == self._device
        return self._store.outbox.payload(change.record.payload) if own else None


class _Reading:
    """One group being read."""

    def __init__(self, reader: PayloadReader, group: LeafGroup, sealed: dict[Hash, bytes]) -> None:
        self._reader = reader
        self._store = reader._store
        self._opener = reader._opener
        self._sealed = sealed
        self._found = Found()
        self._all = PageChanges()
        self._others = PageChanges()
        self._folders: dict[ObjectId, FolderManifest] = {}
        self._pages: list[tuple[StoredObject, PageManifest]] = []
        self._own = group.own

    async def take(self, id: ObjectId, change: ChangedObject) -> None:
        """One object."""
        self._look_back(id, change)
        if change.record.flags & DELETED:
            self._found.rows.append(self._row(id, change, 0, None, None))
            if self._concerns_tree(id):
                self._found.changes.append(RemoteNode(id=id, manifest=None))
            return
        sealed = self._sealed[change.record.payload]
        try:
            row, manifest = await self._opened(id, change, sealed)
        except (*DAMAGE, LocalError) as error:
            log.warning("object %s of device %s: %s", id.hex(), change.author.hex(), error)
            self._found.rows.append(self._row(id, change, 0, sealed, None))
            return
        if isinstance(manifest, PageManifest):
            self._pages.append((row, manifest))
            return
        self._found.rows.append(row)
        if self._concerns_tree(id):
            self._found.changes.append(RemoteNode(id=id, manifest=manifest))

    def _concerns_tree(self, id: ObjectId) -> bool:
        """What this device wrote is in the tree already."""
        return not self._own and (self._reader.in_memory(id) or self._reader.pending(id))

    async def finish(self, slices: Slices) -> Found:
        """After the last object: now every folder of the group is known."""
        for row, page in self._pages:
            folder = self._folder(page.folder)
            if folder is None or not belongs(page, row.id, folder):
                log.warning("page %s is in no folder", row.id.hex())
                row = _without_kind(row)
            else:
                self._all.is_now(page)
                if not self._own:
                    self._others.is_now(page)
            self._found.rows.append(row)
            await slices.pause()
        self._found.links = self._all.links()
        self._found.changes += self._others.names()
        self._found.logged = self._all.names() if self._own else []
        return self._found

    async def _opened(
        self, id: ObjectId, change: ChangedObject, sealed: bytes
    ) -> tuple[StoredObject, Manifest]:
        data = self._opener.open_bytes(sealed, id, change.state.version, change.author)
        manifest = self._opener.parse(data)
        flat = None
        if isinstance(manifest, FolderManifest):
            self._folders[id] = manifest
        elif isinstance(manifest, FileManifest) and manifest.depth:
            flat = self._store.outbox.flat(change.record.payload)
            manifest = await flatten(manifest, self._reader.read_node)
            flat = flat or self._opener.seal_flat(manifest.refs, id)
        return self._row(id, change, data[0], sealed, flat), manifest

    def _look_back(self, id: ObjectId, change: ChangedObject) -> None:
        """The names that an older version of this page held; and what our changes started from."""
        if change.state.version == 1:
            return
        row = self._store.object(id)
        pending = not self._own and self._reader.pending(id)
        if row is None or not (row.kind == PAGE or pending):
            return
        try:
            old = self._opener.open(row)
        except DAMAGE:
            return
        if isinstance(old, PageManifest):
            self._all.was(old)
            if not self._own:
                self._others.was(old)
        elif old is not None and pending:
            self._found.bases[id] = old

    def _folder(self, id: ObjectId) -> FolderManifest | None:
        if id in self._folders:
            return self._folders[id]
        row = self._store.object(id)
        if row is None or row.kind != FOLDER:
            return None
        manifest = self._opener.open(row)
        return manifest if isinstance(manifest, FolderManifest) else None

    def _row(
        self,
        id: ObjectId,
        change: ChangedObject,
        kind: int,
        sealed: bytes | None,
        flat: bytes | None,
    ) -> StoredObject:
        return StoredObject(
            id=id, state=change.state, author=change.author, kind=kind, sealed=sealed, flat=flat
        )


def _without_kind(row: StoredObject) -> StoredObject:
    return StoredObject(
        id=row.id, state=row.state, author=row.author, kind=0, sealed=row.sealed, flat=None
    )

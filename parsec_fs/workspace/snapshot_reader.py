"""The objects of a snapshot: pages verified as a whole, then payloads fetched and stored.

Data flow: bootstrap (opened start) -> server (pages) -> `Snapshot.finish` -> payloads -> realm.db.

Nothing of a snapshot is used before all of it was verified, not even to fetch a key: a false
rotation could otherwise plant one (A13). Until then its pages wait in a nameless file. What is
stored counts only when the base is written, last; before that the store still says that it is
empty. Payloads go the way that replayed ones go (`payloads`), with two differences: a snapshot does
not say who wrote a manifest, so the author is the device under whose name it opens; and a page of a
folder may come before its folder, so pages without one are placed at the end.
"""

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import IO, Final, Protocol

from parsec_fs.identity import DeviceSecrets, Random
from parsec_fs.protocol.codec import decode, encode_trusted
from parsec_fs.protocol.errors import DecryptionError
from parsec_fs.protocol.ids import DeviceId, Hash, ObjectId, RealmId
from parsec_fs.protocol.log_state import log_state
from parsec_fs.protocol.realm_state import RealmState
from parsec_fs.protocol.snapshots import (
    PAGE_MOST,
    Snapshot,
    SnapshotItem,
    SnapshotPage,
)
from parsec_fs.storage.realm_base import StoredBase
from parsec_fs.storage.realm_store import RealmStore
from parsec_fs.storage.realm_tables import StoredObject
from parsec_fs.workspace.leaf_groups import (
    GROUP_BYTES,
    GROUP_OBJECTS,
    ChangedObject,
    LeafGroup,
)
from parsec_fs.workspace.opener import Opener
from parsec_fs.workspace.payloads import GroupReader
from parsec_fs.workspace.realm_keys import RealmKeys
from parsec_fs.workspace.replica_checks import REPLICA_CHECKS, ReplicaChecks
from parsec_fs.workspace.slices import Slices

UNKNOWN: Final = DeviceId(bytes(16))
"""Author of a tombstone, or of a manifest that opens under no name, until the log was replayed."""

_LENGTH: Final = 4


class SnapshotServer(Protocol):
    """The server as far as snapshots need it; answers are unverified."""

    async def read_snapshot_page(
        self, realm: RealmId, size: int, after: tuple[ObjectId, ...], most: int
    ) -> SnapshotPage:
        """Raises RefusedError, OfflineError, DataError."""


class AuthorFinder(Opener):
    """Opens manifests whose author is not known under the name of whoever sealed them. The key
    commitment makes a wrong guess cheap, and the name that fits the only one."""

    def __init__(
        self,
        candidates: Iterable[DeviceId],
        keys: RealmKeys,
        realm: RealmId,
        secrets: DeviceSecrets,
        *,
        random: Random,
        checks: ReplicaChecks = REPLICA_CHECKS,
    ) -> None:
        super().__init__(keys, realm, secrets, random=random, checks=checks)
        self._candidates = list(candidates)
        self.found: dict[ObjectId, DeviceId] = {}

    def open_bytes(self, sealed: bytes, id: ObjectId, version: int, author: DeviceId) -> bytes:
        """Encoded manifest. Raises DAMAGE."""
        if author != UNKNOWN:
            return super().open_bytes(sealed, id, version, author)
        for place, candidate in enumerate(self._candidates):
            try:
                data = super().open_bytes(sealed, id, version, candidate)
            except DecryptionError:
                continue
            self._candidates.insert(0, self._candidates.pop(place))
            self.found[id] = candidate
            return data
        raise DecryptionError("manifest opens under the name of no device")


class StoredPayloads:
    """Payloads that are in the store already, as `PayloadReader` asks for them."""

    def __init__(self, store: RealmStore) -> None:
        self._store = store
        self.ids: dict[Hash, ObjectId] = {}

    async def read_payloads(self, realm: RealmId, hashes: tuple[Hash, ...]) -> tuple[bytes, ...]:
        """All of them."""
        rows = [self._store.object(self.ids[hash]) for hash in hashes]
        return tuple(b"" if row is None or row.sealed is None else row.sealed for row in rows)


class SnapshotReader:
    """Takes one snapshot into an empty store."""

    def __init__(
        self,
        store: RealmStore,
        server: SnapshotServer,
        *,
        slices: Slices,
        directory: Path,
        checks: ReplicaChecks = REPLICA_CHECKS,
    ) -> None:
        self._store = store
        self._server = server
        self._slices = slices
        self._directory = directory
        self._checks = checks
        self._unplaced: list[ChangedObject] = []

    async def verify(self, snapshot: Snapshot, pages: IO[bytes]) -> RealmState:
        """Fetch all pages into the file; the realm that they are. Raises OfflineError,
        RefusedError, DataError, ProofError."""
        realm, more = RealmId(snapshot.context.log), True
        while more:
            page = await self._server.read_snapshot_page(
                realm, snapshot.position.size, snapshot.last, PAGE_MOST
            )
            snapshot = snapshot.after(page)
            data = encode_trusted(page)
            pages.write(len(data).to_bytes(_LENGTH, "big") + data)
            more = bool(page.more)
        return self._checks.snapshot(snapshot)

    def pages(self) -> IO[bytes]:
        """A file for the pages; nobody else can open it, and it ends with the program."""
        return tempfile.TemporaryFile(dir=self._directory)

    async def store(
        self, state: RealmState, pages: IO[bytes], reader: GroupReader, finder: AuthorFinder
    ) -> None:
        """Fetch, open and store the payloads of verified pages. Raises OfflineError, ProofError,
        DataError."""
        for items in _read(pages):
            for group in _groups(state, map(_change, items)):
                await self._store_group(group, reader, finder)

    async def place(self, state: RealmState, reader: GroupReader, payloads: StoredPayloads) -> None:
        """Once more, and without the server, what was in no folder yet."""
        for group in _groups(state, self._unplaced):
            payloads.ids = {one.record.payload: id for id, one in group.objects.items()}
            found = await reader.read(group, self._slices)
            await self._write(found.rows, found.links)

    async def _store_group(
        self, group: LeafGroup, reader: GroupReader, finder: AuthorFinder
    ) -> None:
        found = await reader.read(group, self._slices)
        rows = [replace(row, author=finder.found.get(row.id, UNKNOWN)) for row in found.rows]
        self._unplaced += [
            replace(group.objects[row.id], author=row.author)
            for row in rows
            if row.author != UNKNOWN and row.kind == 0
        ]
        finder.found.clear()
        await self._write(rows, found.links)

    async def _write(self, rows: list[StoredObject], links: Mapping[ObjectId, int]) -> None:
        async with self._store.writing() as write:
            for row in rows:
                write.object(row)
                await self._slices.pause()
            for id, change in links.items():
                write.links(id, change)

    async def finish(self, snapshot: Snapshot, state: RealmState) -> None:
        """From here on the store begins with this snapshot."""
        base = StoredBase(
            state=log_state(state),
            created=snapshot.created,
            roles=snapshot.roles,
            rotations=snapshot.rotations,
        )
        async with self._store.writing() as write:
            write.position(state.position)
            write.base(base)


def _read(pages: IO[bytes]) -> Iterator[tuple[SnapshotItem, ...]]:
    pages.seek(0)
    while length := pages.read(_LENGTH):
        yield decode(SnapshotPage, pages.read(int.from_bytes(length, "big"))).items


def _change(item: SnapshotItem) -> ChangedObject:
    return ChangedObject(record=item.record, state=item.state, author=UNKNOWN)


def _groups(state: RealmState, changes: Iterable[ChangedObject]) -> Iterator[LeafGroup]:
    """Groups without leaves, each with no more than may be in memory together."""
    group = LeafGroup(state=state)
    for change in changes:
        size = change.record.payload_size
        full = len(group.objects) == GROUP_OBJECTS or group.payload_bytes + size > GROUP_BYTES
        if group.objects and full:
            yield group
            group = LeafGroup(state=state)
        group.objects[change.record.object] = change
        group.payload_bytes += size
    if group.objects:
        yield group

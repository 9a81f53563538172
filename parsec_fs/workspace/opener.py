"""Sealed rows of the store into manifests, and manifests into payloads.

Data flow: storage/realm_store (sealed) -> this -> store_loader, replica, sync.

A manifest opens only at its object, version and author, under the realm key that it names. What a
member wrote that does not open or parse is damage of that one object: it never stops the others
(rule 12).
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from parsec_fs.identity import DeviceSecrets
from parsec_fs.protocol.codec import decode, encode_trusted
from parsec_fs.protocol.errors import DataError, DecryptionError
from parsec_fs.protocol.ids import DeviceId, ObjectId, RealmId
from parsec_fs.protocol.manifests import BlockRef, FileManifest, Manifest
from parsec_fs.protocol.sealing import (
    LocalSealer,
    ManifestContext,
    open_manifest,
    seal_manifest,
    sealed_key_index,
)
from parsec_fs.storage.realm_tables import StoredObject
from parsec_fs.workspace.nesting import FlatRefs
from parsec_fs.workspace.realm_keys import RealmKeys
from parsec_fs.workspace.replica_checks import REPLICA_CHECKS, ReplicaChecks

_FLAT: Final = b"flat-references"
DAMAGE: Final = (DataError, DecryptionError)
"""What opening raises if a manifest is not what its place says."""


class Opener:
    """Opens and seals manifests of one realm."""

    def __init__(
        self,
        keys: RealmKeys,
        realm: RealmId,
        secrets: DeviceSecrets,
        *,
        random: Callable[[int], bytes],
        checks: ReplicaChecks = REPLICA_CHECKS,
    ) -> None:
        self._keys = keys
        self._checks = checks
        self._realm = realm
        self._org = secrets.org
        self._device = secrets.device
        self._local = LocalSealer(secrets.local_key)
        self._random = random

    def open_bytes(self, sealed: bytes, id: ObjectId, version: int, author: DeviceId) -> bytes:
        """Encoded manifest. Raises DAMAGE."""
        key = self._keys.key(sealed_key_index(sealed))
        return open_manifest(sealed, key=key, expected_context=self._context(id, version, author))

    def parse(self, data: bytes) -> Manifest:
        """A manifest as its author encoded it. Raises DataError."""
        return self._checks.manifest(data)

    def open(self, row: StoredObject) -> Manifest | None:
        """The manifest of an object, references flat; None if it is deleted. Raises DAMAGE."""
        if row.sealed is None:
            return None
        data = self.open_bytes(row.sealed, row.id, row.state.version, row.author)
        manifest = self.parse(data)
        if isinstance(manifest, FileManifest) and manifest.depth:
            if row.flat is None:
                raise DataError("the references of this file are not here")
            refs = self.open_flat(row.flat, row.id)
            return replace(manifest, refs=refs, depth=0)
        return manifest

    def seal(self, manifest: bytes, id: ObjectId, version: int) -> bytes:
        """Payload of a new version by this device, under the newest key."""
        return seal_manifest(
            manifest,
            key=self._keys.newest(),
            context=self._context(id, version, self._device),
            salt=self._random(32),
        )

    def seal_flat(self, refs: tuple[BlockRef, ...], id: ObjectId) -> bytes:
        """References as they are kept on this device."""
        data = encode_trusted(FlatRefs(refs=refs))
        return self._local.seal(data, context=_FLAT + id, salt=self._random(32))

    def open_flat(self, flat: bytes, id: ObjectId) -> tuple[BlockRef, ...]:
        """Raises DAMAGE."""
        data = self._local.open(flat, expected_context=_FLAT + id)
        return decode(FlatRefs, data, max_size=2**30).refs

    def _context(self, id: ObjectId, version: int, author: DeviceId) -> ManifestContext:
        return ManifestContext(
            org=self._org, realm=self._realm, object=id, version=version, author=author
        )

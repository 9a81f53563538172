"""A member who hands a server everything that a member knows: keys, manifests, blocks.

Data flow: state folder of a device -> copy -> `Insider` -> forged payloads and blocks -> server.

What an insider makes is sealed with the right keys, under the right names, at the right place; only
the author's signature is missing, which covers digests and hashes.
"""

import os
import sqlite3
from dataclasses import dataclass, replace
from pathlib import Path

from parsec_fs.device_file import DeviceFile
from parsec_fs.protocol.hashing import payload_hash
from parsec_fs.protocol.ids import ROOT_OBJECT, Hash, ObjectId
from parsec_fs.protocol.manifests import BlockRef, FileManifest, encode_manifest
from parsec_fs.protocol.sealing import (
    ManifestContext,
    RealmKey,
    open_block,
    seal_block,
    seal_manifest,
)
from parsec_fs.storage.realm_store import RealmStore
from parsec_fs.storage.realm_tables import StoredObject
from parsec_fs.workspace.opener import Opener
from parsec_fs.workspace.realm_keys import RealmKeys
from parsec_fs.workspace.realm_rebuild import light_state
from parsec_fs.workspace.store_loader import StoreLoader
from tests.support.product import Machine


@dataclass(frozen=True, kw_only=True)
class KnownFile:
    """A file as a member sees it: its manifest, and the row that holds it sealed."""

    id: ObjectId
    manifest: FileManifest
    row: StoredObject

    @property
    def sealed(self) -> bytes:
        """The payload as it was committed."""
        assert self.row.sealed is not None
        return self.row.sealed

    @property
    def payload(self) -> Hash:
        """What the commit names."""
        return payload_hash(self.sealed)


class Insider:
    """What a machine knows now. Files lie at the root of the workspace."""

    def __init__(self, machine: Machine, copy: Path) -> None:
        identity = DeviceFile(machine.home.device).load()
        self.realm = machine.product.realm()
        self._org = identity.anchor.org
        _copy(machine.home.workspace(self.realm).database, copy)
        self._store = RealmStore(copy, self.realm)
        self._keys = RealmKeys(self._store, self.realm, identity.secrets)
        context = identity.anchor.context(self._store.log)
        self._keys.open_stored(light_state(self._store, context).rotations)
        opener = Opener(self._keys, self.realm, identity.secrets, random=os.urandom)
        self._loader = StoreLoader(self._store, opener)

    def close(self) -> None:
        """Close the copy."""
        self._store.close()

    def key(self) -> RealmKey:
        """The key of the realm."""
        return self._keys.newest()

    def file(self, name: str) -> KnownFile:
        """A file of the root folder."""
        root = self._loader.load(ROOT_OBJECT)
        assert root is not None
        id, _ = self._loader.load_children(ROOT_OBJECT, root).names[name.encode()]
        manifest, row = self._loader.load(id), self._store.object(id)
        assert isinstance(manifest, FileManifest)
        assert row is not None
        return KnownFile(id=id, manifest=manifest, row=row)

    def open_block(self, ref: BlockRef, sealed: bytes) -> bytes:
        """Plaintext of a block."""
        return bytes(open_block(sealed, ref, realm=self.realm))

    def forge_block(self, ref: BlockRef, plaintext: bytes) -> bytes:
        """Another content under the key and id of a block: everything holds but the digest."""
        return seal_block(plaintext, realm=self.realm, block_id=ref.id, key=ref.key)

    def forge_manifest(self, now: KnownFile, old: FileManifest) -> bytes:
        """An older manifest, sealed at the place and version of the newest one."""
        context = ManifestContext(
            org=self._org,
            realm=self.realm,
            object=now.id,
            version=now.row.state.version,
            author=now.row.author,
        )
        manifest = encode_manifest(replace(old))
        return seal_manifest(
            manifest, key=self._keys.newest(), context=context, salt=os.urandom(32)
        )


def _copy(source: Path, target: Path) -> None:
    reading, writing = sqlite3.connect(source), sqlite3.connect(target)
    try:
        reading.backup(writing)
    finally:
        reading.close()
        writing.close()

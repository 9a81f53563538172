"""Tables of realm.db, and the values that its rows stand for.

Data flow: realm_store, realm_writer, outbox -> SQL.
"""

from dataclasses import dataclass
from typing import Final

from parsec_fs.protocol.ids import DeviceId, Hash, ObjectId
from parsec_fs.protocol.records import ObjectState
from parsec_fs.storage.heads import HEAD_TABLES

REALM_TABLES: Final = (
    """
-- Newest logged state of every object. `sealed` is the manifest as it was committed: ciphertext
-- under a realm key, bound to object, version and author. NULL: deleted.
CREATE TABLE IF NOT EXISTS objects (
    id BLOB PRIMARY KEY,
    version INTEGER NOT NULL,
    write_index INTEGER NOT NULL,         -- leaf of the last write
    write_hash BLOB NOT NULL,             -- record of the last write
    operations INTEGER NOT NULL,
    history BLOB NOT NULL,                -- history digest
    flags INTEGER NOT NULL,               -- of the last version; 1: deleted
    author BLOB NOT NULL,                 -- device of the last write
    kind INTEGER NOT NULL,                -- manifest kind; 0: deleted or damaged
    sealed BLOB,
    flat BLOB                             -- files with nested references: the data blocks' own,
                                          -- sealed under the device's local key
);
CREATE INDEX IF NOT EXISTS closed ON objects (id) WHERE kind = 0 AND sealed IS NOT NULL;
-- Rows of `objects` as they were before other devices' changes, as long as the journal holds what
-- was changed here before (decision 0013). `size`: of the log after that group of leaves.
CREATE TABLE IF NOT EXISTS before (
    size INTEGER NOT NULL,
    id BLOB NOT NULL,
    version INTEGER,                      -- NULL, and all that follows: there was no such object
    write_index INTEGER,
    write_hash BLOB,
    operations INTEGER,
    history BLOB,
    flags INTEGER,
    author BLOB,
    kind INTEGER,
    sealed BLOB,
    flat BLOB,
    PRIMARY KEY (id, size)
);
CREATE INDEX IF NOT EXISTS before_sizes ON before (size);
-- Which leaf made which version of an object: `parsec-fs log`.
CREATE TABLE IF NOT EXISTS operations (
    object BLOB NOT NULL,
    version INTEGER NOT NULL,
    leaf INTEGER NOT NULL,
    PRIMARY KEY (object, version)
) WITHOUT ROWID;
-- How many names an object has in all folders. Derived, never believed (rule 12).
CREATE TABLE IF NOT EXISTS links (
    object BLOB PRIMARY KEY,
    count INTEGER NOT NULL
) WITHOUT ROWID;
-- Every verified leaf: what audit and reports need of it, and the roots after it.
CREATE TABLE IF NOT EXISTS leaves (
    number INTEGER PRIMARY KEY,
    header BLOB NOT NULL,                 -- encoded LeafHeader
    author BLOB,                          -- device; NULL: a leaf of read stamps
    record BLOB,                          -- name of the signed record
    log_root BLOB NOT NULL,               -- after this leaf
    map_root BLOB NOT NULL                -- after this leaf
);
-- Bodies of the realm's certificates: roles and key rotations are replayed from them.
CREATE TABLE IF NOT EXISTS certificates (
    number INTEGER PRIMARY KEY,
    body BLOB NOT NULL
);
-- Each device's records in this log: how many, and the name of the last.
CREATE TABLE IF NOT EXISTS chains (
    device BLOB PRIMARY KEY,
    sequence INTEGER NOT NULL,
    last BLOB NOT NULL
) WITHOUT ROWID;
-- Commits signed here whose fate is not known yet: exact bytes, in order (rule 20).
CREATE TABLE IF NOT EXISTS outbox (
    sequence INTEGER PRIMARY KEY,
    record BLOB NOT NULL,                 -- name of the commit
    body BLOB NOT NULL,
    position INTEGER                      -- journal watermark once this one is logged; or NULL
);
-- Sealed manifests of the commits in the outbox.
CREATE TABLE IF NOT EXISTS outbox_payloads (
    hash BLOB PRIMARY KEY,
    sequence INTEGER NOT NULL,
    sealed BLOB NOT NULL
);
-- Signed refusals of own commits, for ever: a refused commit in the log convicts (P6).
CREATE TABLE IF NOT EXISTS refusals (
    record BLOB PRIMARY KEY,              -- name of the commit
    refusal BLOB NOT NULL                 -- exact signed bytes
) WITHOUT ROWID;
-- Data blocks of files whose references are nested, until the commit that names them is logged.
CREATE TABLE IF NOT EXISTS outbox_flat (
    hash BLOB PRIMARY KEY,                -- payload that the references belong to
    flat BLOB NOT NULL
);
-- Single values: position, journal watermark, key boxes.
CREATE TABLE IF NOT EXISTS facts (
    name TEXT PRIMARY KEY,
    value BLOB NOT NULL
) WITHOUT ROWID;
"""
    + HEAD_TABLES
)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredObject:
    """Newest logged state of an object. `sealed` is None iff it is deleted."""

    id: ObjectId
    state: ObjectState
    author: DeviceId
    kind: int
    sealed: bytes | None
    flat: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredLeaf:
    """A verified leaf: encoded header, and who wrote which record (None: read stamps)."""

    header: bytes
    author: DeviceId | None
    record: Hash | None

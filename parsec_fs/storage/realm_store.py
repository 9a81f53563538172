"""The device's copy of one realm: objects, leaves, certificates, heads (realm.db). Reading.

Data flow: workspace/replica -> realm_writer -> realm.db -> this -> loader, replica, sync, audit.

Everything in here was verified before it was stored. Reads are synchronous: some microseconds.
Manifests lie here as they were committed, sealed; their keys are not in this file.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from parsec_fs.protocol.codec import decode
from parsec_fs.protocol.hashing import EMPTY_MAP, EMPTY_TREE
from parsec_fs.protocol.ids import DeviceId, Hash, LogId, ObjectId, RealmId
from parsec_fs.protocol.log_state import DeviceChain, LogPosition
from parsec_fs.protocol.merkle import Frontier
from parsec_fs.protocol.records import LeafHeader, LogState, ObjectState
from parsec_fs.storage.before import Before, Takeovers
from parsec_fs.storage.database import Database, Row
from parsec_fs.storage.heads import HeadStore
from parsec_fs.storage.outbox import Outbox
from parsec_fs.storage.realm_base import BASE, StoredBase, fill_in
from parsec_fs.storage.realm_tables import REALM_TABLES, StoredLeaf, StoredObject
from parsec_fs.storage.realm_writer import (
    JOURNAL,
    POSITION,
    RealmWriter,
    StoredPosition,
    decode_number,
)

_STATE: Final = "version, write_index, write_hash, operations, history, flags"


class RealmStore:
    """realm.db of one workspace on this device."""

    def __init__(self, path: Path, realm: RealmId) -> None:
        self._db = Database(path, REALM_TABLES, version=2, older=(1,))
        self.log = LogId(realm)
        self.heads = HeadStore(self._db, realm)
        self.outbox = Outbox(self._db)
        self.before = Before(self._db)
        self.takeovers = Takeovers()
        self.on_pages: Callable[[set[ObjectId], set[ObjectId]], None] = lambda pages, ended: None
        """Told which pages were stored, and which objects deleted, once they can be read here."""

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[RealmWriter]:
        """One atomic, durable change."""
        async with self._db.transaction() as connection:
            writer = RealmWriter(connection, self.heads, self.takeovers)
            yield writer
        if writer.pages or writer.ended:
            self.on_pages(writer.pages, writer.ended)

    # Position and log

    def position(self) -> LogPosition:
        """The verified prefix that is stored."""
        value = self.fact(POSITION)
        if value is None:
            return LogPosition()
        stored = decode(StoredPosition, value)
        frontier = Frontier(size=stored.size, nodes=stored.nodes)
        return LogPosition(frontier=frontier, time_ms=stored.time_ms, org_size=stored.org_size)

    def roots_at(self, size: int) -> LogState:
        """State of the log after `size` leaves; `size` is at most that of `position`, and at least
        that of the base. Raises LookupError."""
        if size == 0:
            return self._log_state(0, EMPTY_TREE, EMPTY_MAP, 0)
        query = "SELECT header, log_root, map_root FROM leaves WHERE number = ?"
        row = self._db.one(query, size - 1)
        if row is None:
            base = self.base()
            if base is not None and base.state.size == size:
                return base.state
            raise LookupError(f"leaf {size - 1} is not stored")
        header = decode(LeafHeader, row[0])
        return self._log_state(size, row[1], row[2], header.org_size)

    def _log_state(self, size: int, log_root: Hash, map_root: Hash, org_size: int) -> LogState:
        return LogState(
            log=self.log, size=size, log_root=log_root, map_root=map_root, org_size=org_size
        )

    def leaf(self, number: int) -> StoredLeaf | None:
        """A verified leaf."""
        row = self._db.one("SELECT header, author, record FROM leaves WHERE number = ?", number)
        return None if row is None else StoredLeaf(header=row[0], author=row[1], record=row[2])

    def certificates(self, start: int = 0) -> list[bytes]:
        """Bodies of the realm's certificates from a leaf on, in log order."""
        query = "SELECT body FROM certificates WHERE number >= ? ORDER BY number"
        return [row[0] for row in self._db.all(query, start)]

    def certificate_numbers(self, start: int = 0) -> list[int]:
        """The leaves of these certificates, in log order."""
        query = "SELECT number FROM certificates WHERE number >= ? ORDER BY number"
        return [row[0] for row in self._db.all(query, start)]

    def base(self) -> StoredBase | None:
        """The snapshot that this store begins with; None if it has the whole log."""
        value = self.fact(BASE)
        return None if value is None else decode(StoredBase, value)

    async def fill_in(self, past: "RealmStore", pause: Callable[[], Awaitable[None]]) -> None:
        """Copy what lies before the base from a store that has the whole log. It counts when the
        base is taken away."""
        base = self.base()
        if base is not None:
            await fill_in(past._db, self._db, base=base.state.size, pause=pause)

    def chains(self) -> dict[DeviceId, DeviceChain]:
        """Each device's records so far."""
        rows = self._db.all("SELECT device, sequence, last FROM chains")
        return {row[0]: DeviceChain(sequence=row[1], last=row[2]) for row in rows}

    # Objects

    def state(self, id: ObjectId) -> ObjectState | None:
        """Map value of an object."""
        row = self._db.one(f"SELECT {_STATE} FROM objects WHERE id = ?", id)
        return None if row is None else _state(row)

    def object(self, id: ObjectId) -> StoredObject | None:
        """An object with its sealed manifest."""
        query = f"SELECT {_STATE}, author, kind, sealed, flat FROM objects WHERE id = ?"
        row = self._db.one(query, id)
        if row is None:
            return None
        author, kind, sealed, flat = row[6:]
        return StoredObject(
            id=id, state=_state(row), author=author, kind=kind, sealed=sealed, flat=flat
        )

    def closed(self) -> list[ObjectId]:
        """Objects whose manifest did not open when it came."""
        query = "SELECT id FROM objects WHERE kind = 0 AND sealed IS NOT NULL"
        return [ObjectId(row[0]) for row in self._db.all(query)]

    def states_after(self, id: bytes, count: int) -> list[tuple[ObjectId, ObjectState]]:
        """Up to `count` objects with an id larger than `id`, in order: for rebuilding the map."""
        query = f"SELECT {_STATE}, id FROM objects WHERE id > ? ORDER BY id LIMIT ?"
        return [(row[6], _state(row)) for row in self._db.all(query, id, count)]

    def kinds_after(self, id: bytes, count: int) -> list[tuple[ObjectId, int]]:
        """Manifest kinds of up to `count` objects with an id larger than `id`, in order."""
        query = "SELECT id, kind FROM objects WHERE id > ? ORDER BY id LIMIT ?"
        return [(ObjectId(row[0]), row[1]) for row in self._db.all(query, id, count)]

    def link_count(self, id: ObjectId) -> int:
        """Number of names of an object."""
        row = self._db.one("SELECT count FROM links WHERE object = ?", id)
        return 0 if row is None else int(row[0])

    def operations(self, id: ObjectId) -> Iterator[tuple[int, int]]:
        """(version, leaf) of every logged operation of an object, newest first."""
        query = "SELECT version, leaf FROM operations WHERE object = ? ORDER BY version DESC"
        yield from ((row[0], row[1]) for row in self._db.all(query, id))

    def commits(self, start: int) -> list[tuple[LeafHeader, DeviceId, int]]:
        """Header, author and number of objects of every commit from a leaf on, in log order. Reads
        the whole table of operations."""
        query = (
            "SELECT l.header, l.author, count(*) FROM operations o JOIN leaves l "
            "ON l.number = o.leaf WHERE o.leaf >= ? GROUP BY o.leaf ORDER BY o.leaf"
        )
        rows = self._db.all(query, start)
        return [(decode(LeafHeader, row[0]), DeviceId(row[1]), row[2]) for row in rows]

    def written_since(self, leaf: int) -> frozenset[ObjectId]:
        """Objects that the leaves from this one on wrote. Reads the whole table of operations."""
        query = "SELECT DISTINCT object FROM operations WHERE leaf >= ?"
        return frozenset(ObjectId(row[0]) for row in self._db.all(query, leaf))

    def count(self) -> int:
        """How many objects exist."""
        row = self._db.one("SELECT count(*) FROM objects WHERE sealed IS NOT NULL")
        return int(row[0]) if row else 0

    # Single values

    def journal_position(self) -> int:
        """Journal records up to this one are in the store."""
        value = self.fact(JOURNAL)
        return 0 if value is None else decode_number(value)

    def fact(self, name: str) -> bytes | None:
        """A single named value."""
        row = self._db.one("SELECT value FROM facts WHERE name = ?", name)
        return None if row is None else bytes(row[0])

    def refusal(self, record: Hash) -> bytes | None:
        """The signed refusal of an own commit."""
        row = self._db.one("SELECT refusal FROM refusals WHERE record = ?", record)
        return None if row is None else bytes(row[0])

    async def settle(self, size: int) -> None:
        """An epoch that anchors `size` leaves is verified."""
        async with self.writing() as write:
            write.settle(size)

    def close(self) -> None:
        """Close the file."""
        self._db.close()


def _state(row: Row) -> ObjectState:
    version, write_index, write, operations, history, flags = row[:6]
    return ObjectState(
        version=version,
        write_index=write_index,
        write=write,
        operations=operations,
        history=history,
        flags=flags,
    )

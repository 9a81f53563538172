"""The statements of one transaction on realm.db.

Data flow: workspace/replica (verified leaves), sync (outbox) -> this -> realm.db.

Each method is some microseconds; the caller yields between them and the commit comes with the end
of the transaction. Rule 20: leaves, objects, head, outbox and journal watermark move together.
"""

import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Final

from parsec_fs.protocol.codec import U64, Size, encode_trusted
from parsec_fs.protocol.ids import DeviceId, Hash, ObjectId
from parsec_fs.protocol.log_state import DeviceChain, LogPosition
from parsec_fs.protocol.manifests import PAGE
from parsec_fs.protocol.records import LeafHeader
from parsec_fs.storage.before import Takeovers
from parsec_fs.storage.heads import HeadStore, VerifiedPair
from parsec_fs.storage.realm_base import BASE, StoredBase
from parsec_fs.storage.realm_tables import StoredObject

POSITION: Final = "position"
JOURNAL: Final = "journal"
BOX: Final = "box:"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredPosition:
    """A log position as it is stored."""

    size: U64
    nodes: Annotated[tuple[Hash, ...], Size(0, 64)]
    time_ms: U64
    org_size: U64


@dataclass(frozen=True, slots=True, kw_only=True)
class LeafRow:
    """A verified leaf with the roots after it; `certificate` is its body if it is one."""

    header: LeafHeader
    author: DeviceId | None
    record: Hash | None
    log_root: Hash
    map_root: Hash
    certificate: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxEntry:
    """A signed commit: exact bytes, and the journal position it completes, if it does."""

    sequence: int
    record: Hash
    body: bytes
    position: int | None


class RealmWriter:
    """An open transaction."""

    def __init__(
        self, connection: sqlite3.Connection, heads: HeadStore, takeovers: Takeovers
    ) -> None:
        self._sql = connection.execute
        self._takeovers = takeovers
        self._connection = connection
        self._heads = heads
        self.pages: set[ObjectId] = set()
        self.ended: set[ObjectId] = set()
        """Pages stored by this transaction; objects, pages among them, that it deleted."""

    def leaf(self, row: LeafRow) -> None:
        """Append a leaf."""
        number = row.header.index
        header = encode_trusted(row.header)
        values = (number, header, row.author, row.record, row.log_root, row.map_root)
        self._sql("INSERT INTO leaves VALUES (?, ?, ?, ?, ?, ?)", values)
        if row.certificate is not None:
            self._sql("INSERT INTO certificates VALUES (?, ?)", (number, row.certificate))

    def object(self, row: StoredObject) -> None:
        """The newest state of an object."""
        s = row.state
        state = (s.version, s.write_index, s.write, s.operations, s.history, s.flags)
        self._sql(
            "INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (row.id, *state, row.author, row.kind, row.sealed, row.flat),
        )
        if row.kind == PAGE:
            self.pages.add(row.id)
        elif row.kind == 0:
            self.ended.add(row.id)

    def replaced(self, size: int, row: StoredObject) -> None:
        """Keep what another device's new state replaces; call before `object`. `size`: of the log
        after the group. Of what did not exist only pages matter: they change what names say."""
        kept = self._sql("INSERT INTO before SELECT ?, * FROM objects WHERE id = ?", (size, row.id))
        if kept.rowcount == 0 and row.kind == PAGE:
            self._sql("INSERT INTO before (size, id) VALUES (?, ?)", (size, row.id))

    def replaced_here(self, id: ObjectId) -> None:
        """This device wrote the object, over all that others had: what was before does not count
        any more."""
        self._sql("DELETE FROM before WHERE id = ?", (id,))

    def forget_replaced(self, size: int) -> None:
        """Nothing pending is older than the changes up to this size."""
        self._sql("DELETE FROM before WHERE size <= ?", (size,))

    def operation(self, id: ObjectId, version: int, leaf: int) -> None:
        """A leaf made this version of an object."""
        self._sql("INSERT INTO operations VALUES (?, ?, ?)", (id, version, leaf))

    def links(self, id: ObjectId, change: int) -> None:
        """An object has so many names more (or less)."""
        self._sql(
            "INSERT INTO links VALUES (?, ?)"
            " ON CONFLICT (object) DO UPDATE SET count = count + excluded.count",
            (id, change),
        )

    def position(self, position: LogPosition) -> None:
        """The verified prefix that is stored now."""
        stored = StoredPosition(
            size=position.size,
            nodes=position.frontier.nodes,
            time_ms=position.time_ms,
            org_size=position.org_size,
        )
        self.fact(POSITION, encode_trusted(stored))

    def chains(self, chains: Mapping[DeviceId, DeviceChain], devices: Iterable[DeviceId]) -> None:
        """The chains of these devices have grown."""
        for device in devices:
            chain = chains[device]
            self._sql(
                "INSERT OR REPLACE INTO chains VALUES (?, ?, ?)",
                (device, chain.sequence, chain.last),
            )

    def head(self, head: VerifiedPair) -> None:
        """Keep a head whose roots were recomputed here."""
        self._heads.put(self._connection, *head)

    def settle(self, size: int) -> None:
        """Promises up to this size are kept."""
        self._heads.settle(self._connection, size)

    def fact(self, name: str, value: bytes) -> None:
        """A single named value."""
        self._sql("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, value))

    def base(self, base: StoredBase) -> None:
        """The store begins with a snapshot; its objects are in."""
        self.fact(BASE, encode_trusted(base))

    def whole(self, chains: Mapping[DeviceId, DeviceChain], newest_key: int) -> None:
        """What lies before the base was filled in. `chains`: all that devices have signed so far;
        of the key boxes only the newest is kept, the others are fetched again."""
        self.chains(chains, chains)
        self._sql("DELETE FROM facts WHERE name = ?", (BASE,))
        # Rotations before the newest were the server's word alone, and so were their boxes.
        boxes = f"SELECT name FROM facts WHERE name LIKE '{BOX}%'"
        self._sql(
            f"DELETE FROM facts WHERE name IN ({boxes}) AND name != ?", (f"{BOX}{newest_key}",)
        )

    def clear(self) -> None:
        """Forget what an unfinished snapshot has left."""
        for table in ("objects", "links"):
            self._sql(f"DELETE FROM {table}")

    def journal_position(self, position: int) -> None:
        """Journal records up to this one are in the store."""
        self.forget_replaced(self._takeovers.covered(position))
        self.fact(JOURNAL, position.to_bytes(8, "big"))

    # Outbox

    def post(self, entry: OutboxEntry) -> None:
        """A signed commit that is about to be sent."""
        self._sql(
            "INSERT INTO outbox VALUES (?, ?, ?, ?)",
            (entry.sequence, entry.record, entry.body, entry.position),
        )

    def post_payload(self, hash: Hash, sequence: int, sealed: bytes, flat: bytes | None) -> None:
        """A sealed manifest that the commit of that sequence names."""
        self._sql("INSERT INTO outbox_payloads VALUES (?, ?, ?)", (hash, sequence, sealed))
        if flat is not None:
            self._sql("INSERT INTO outbox_flat VALUES (?, ?)", (hash, flat))

    def posted(self, sequence: int) -> None:
        """The commit of that sequence is logged: nothing of it needs to be sent again."""
        self._forget("= ?", sequence)

    def withdraw(self, sequence: int) -> None:
        """The commit of that sequence was refused, and with it every later one (rule 15)."""
        self._forget(">= ?", sequence)

    def refused(self, record: Hash, refusal: bytes) -> None:
        """Keep the signed refusal of a commit."""
        self._sql("INSERT OR IGNORE INTO refusals VALUES (?, ?)", (record, refusal))

    def _forget(self, which: str, sequence: int) -> None:
        payloads = f"SELECT hash FROM outbox_payloads WHERE sequence {which}"
        self._sql(f"DELETE FROM outbox_flat WHERE hash IN ({payloads})", (sequence,))
        self._sql(f"DELETE FROM outbox_payloads WHERE sequence {which}", (sequence,))
        self._sql(f"DELETE FROM outbox WHERE sequence {which}", (sequence,))


def decode_number(value: bytes) -> int:
    """A number as `journal_position` stores it."""
    return int.from_bytes(value, "big")

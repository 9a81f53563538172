"""Signed heads that this device relied upon, and the floor below which nothing is accepted.

Data flow: replicas -> `put` (before anything is reported logged) -> auditor `due` -> `settle`.

Rules 14, 20, 23: a head is a promise; it is kept, with its exact bytes, until the epoch that it
promises is verified. The newest one is kept for ever: with it a rollback is proven, not just seen.
"""

import sqlite3
from typing import Final

from parsec_fs.protocol.codec import decode, encode_trusted
from parsec_fs.protocol.records import Head, Signed
from parsec_fs.storage.database import Database

HEAD_TABLES: Final = """
-- Every signed head relied upon. At one size the earliest promise is the strongest.
CREATE TABLE IF NOT EXISTS heads (
    log BLOB NOT NULL,
    size INTEGER NOT NULL,
    due_epoch INTEGER NOT NULL,
    settled INTEGER NOT NULL DEFAULT 0,   -- 1: its promise was verified
    head BLOB NOT NULL,                   -- exact signed bytes
    PRIMARY KEY (log, size)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS heads_due ON heads (log, settled, due_epoch);
"""

VerifiedPair = tuple[Head, Signed]


class HeadStore:
    """The heads of one log."""

    def __init__(self, db: Database, log: bytes) -> None:
        self._db = db
        self._log = log

    def put(self, write: sqlite3.Connection, head: Head, raw: Signed) -> None:
        """Keep a head whose roots were recomputed here."""
        write.execute(
            "INSERT INTO heads (log, size, due_epoch, head) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (log, size) DO UPDATE SET due_epoch = excluded.due_epoch,"
            " head = excluded.head, settled = 0 WHERE excluded.due_epoch < heads.due_epoch",
            (self._log, head.size, head.due_epoch, encode_trusted(raw)),
        )

    def has(self, head: Head) -> bool:
        """True iff a head of this size that promises no less is kept already."""
        query = "SELECT 1 FROM heads WHERE log = ? AND size = ? AND due_epoch <= ?"
        return self._db.one(query, self._log, head.size, head.due_epoch) is not None

    def newest(self) -> VerifiedPair | None:
        """The head with the largest size."""
        query = "SELECT head FROM heads WHERE log = ? ORDER BY size DESC LIMIT 1"
        row = self._db.one(query, self._log)
        return None if row is None else _pair(row[0])

    def at(self, size: int) -> VerifiedPair | None:
        """The head kept for exactly this size."""
        row = self._db.one("SELECT head FROM heads WHERE log = ? AND size = ?", self._log, size)
        return None if row is None else _pair(row[0])

    def due(self, epoch: int) -> list[VerifiedPair]:
        """Heads not settled whose promise was for this epoch or one before."""
        query = "SELECT head FROM heads WHERE log = ? AND settled = 0 AND due_epoch <= ?"
        rows = self._db.all(query + " ORDER BY size", self._log, epoch)
        return [_pair(row[0]) for row in rows]

    def settle(self, write: sqlite3.Connection, size: int) -> None:
        """An epoch anchored `size` leaves: promises up to that size are kept; forget all of them
        but the newest head."""
        write.execute("UPDATE heads SET settled = 1 WHERE log = ? AND size <= ?", (self._log, size))
        write.execute(
            "DELETE FROM heads WHERE log = ?1 AND settled = 1"
            " AND size < (SELECT max(size) FROM heads WHERE log = ?1)",
            (self._log,),
        )


def _pair(data: bytes) -> VerifiedPair:
    raw = decode(Signed, data)
    return decode(Head, raw.record), raw

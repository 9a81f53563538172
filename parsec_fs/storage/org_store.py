"""The device's copy of the organization's log, its heads, and what the audit trusts.

Data flow: workspace/org_replica, audit/auditor -> this -> org.db.

The org log is small: all leaves are kept whole and replayed when a program starts. The trust state
is an opaque record of `audit`; it is written before anything that relies on it is shown.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from parsec_fs.protocol.codec import decode, encode_trusted
from parsec_fs.protocol.ids import LogId, OrgId
from parsec_fs.protocol.records import Leaf
from parsec_fs.storage.database import Database
from parsec_fs.storage.heads import HEAD_TABLES, HeadStore, VerifiedPair

_TABLES: Final = (
    """
-- The org log as far as it is verified. Several programs of one device share this file.
CREATE TABLE IF NOT EXISTS leaves (
    number INTEGER PRIMARY KEY,
    leaf BLOB NOT NULL                    -- encoded Leaf: header and body
);
-- Which epoch is the first one to anchor which leaves, of every log that is audited here.
CREATE TABLE IF NOT EXISTS anchored (
    log BLOB NOT NULL,
    first INTEGER NOT NULL,               -- number of the first of these leaves
    size INTEGER NOT NULL,                -- of the log with the last of them
    epoch INTEGER NOT NULL,
    PRIMARY KEY (log, first)
) WITHOUT ROWID;
-- Single values: the audit's trust state.
CREATE TABLE IF NOT EXISTS facts (
    name TEXT PRIMARY KEY,
    value BLOB NOT NULL
) WITHOUT ROWID;
"""
    + HEAD_TABLES
)


class OrgStore:
    """org.db of one device."""

    def __init__(self, path: Path, org: OrgId) -> None:
        self._db = Database(path, _TABLES, version=1)
        self.log = LogId(org)
        self.heads = HeadStore(self._db, org)

    def leaves(self, start: int = 0) -> list[Leaf]:
        """The verified leaves from `start` on."""
        query = "SELECT leaf FROM leaves WHERE number >= ? ORDER BY number"
        return [decode(Leaf, row[0]) for row in self._db.all(query, start)]

    async def append(self, leaves: tuple[Leaf, ...], head: VerifiedPair | None) -> None:
        """Store verified leaves and the head that they lead to, in one step."""
        rows = [(leaf.header.index, encode_trusted(leaf)) for leaf in leaves]
        async with self._db.transaction() as write:
            # Another program of this device may have stored the same leaves a moment ago.
            write.executemany("INSERT OR IGNORE INTO leaves VALUES (?, ?)", rows)
            if head is not None:
                self.heads.put(write, *head)

    async def settle(self, size: int) -> None:
        """An epoch that anchors `size` leaves is verified."""
        async with self._db.transaction() as write:
            self.heads.settle(write, size)

    def fact(self, name: str) -> bytes | None:
        """A single named value."""
        row = self._db.one("SELECT value FROM facts WHERE name = ?", name)
        return None if row is None else bytes(row[0])

    def fact_names(self, beginning: str) -> list[str]:
        """Names of the values that begin so, in order."""
        query = "SELECT name FROM facts WHERE substr(name, 1, ?) = ? ORDER BY name"
        return [str(row[0]) for row in self._db.all(query, len(beginning), beginning)]

    async def save_fact(
        self, name: str, value: bytes, anchored: Iterable[tuple[LogId, int, int, int]] = ()
    ) -> None:
        """Durable when this returns; with it (log, first leaf, size, epoch) of leaves that the
        epoch is the first one to anchor."""
        async with self._db.transaction() as write:
            write.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, value))
            # Each workspace's audit finds the same of the organization's log.
            write.executemany("INSERT OR IGNORE INTO anchored VALUES (?, ?, ?, ?)", anchored)

    def anchored(self, log: LogId) -> list[tuple[int, int, int]]:
        """(first leaf, size, epoch) of what is known, in log order: the epoch is the first one that
        anchors these leaves."""
        query = "SELECT first, size, epoch FROM anchored WHERE log = ? ORDER BY first"
        return [(row[0], row[1], row[2]) for row in self._db.all(query, log)]

    def close(self) -> None:
        """Close the file."""
        self._db.close()

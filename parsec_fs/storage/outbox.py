"""Commits that were signed here and whose fate is not known yet (rule 20). Reading.

Data flow: sync -> realm_writer -> realm.db -> this -> sync (first sending, and again after a
crash: identical bytes), replica (payloads of own commits need not be fetched).
"""

from parsec_fs.protocol.ids import Hash
from parsec_fs.storage.database import Database
from parsec_fs.storage.realm_writer import OutboxEntry


class Outbox:
    """The outbox of one realm."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def entries(self) -> list[OutboxEntry]:
        """All commits, in the order in which they are chained."""
        rows = self._db.all("SELECT sequence, record, body, position FROM outbox ORDER BY sequence")
        return [OutboxEntry(sequence=s, record=r, body=b, position=p) for s, r, b, p in rows]

    def payloads(self, sequence: int) -> list[tuple[Hash, bytes]]:
        """(hash, sealed manifest) of what a commit names."""
        query = "SELECT hash, sealed FROM outbox_payloads WHERE sequence = ?"
        return [(row[0], row[1]) for row in self._db.all(query, sequence)]

    def payload(self, hash: Hash) -> bytes | None:
        """A sealed manifest by its hash."""
        row = self._db.one("SELECT sealed FROM outbox_payloads WHERE hash = ?", hash)
        return None if row is None else bytes(row[0])

    def flat(self, hash: Hash) -> bytes | None:
        """Flat references (sealed locally) of the file whose payload has this hash."""
        row = self._db.one("SELECT flat FROM outbox_flat WHERE hash = ?", hash)
        return None if row is None else bytes(row[0])

    def has(self, record: Hash) -> bool:
        """True iff this commit is waiting for its fate."""
        return self._db.one("SELECT 1 FROM outbox WHERE record = ?", record) is not None

    def empty(self) -> bool:
        """True iff nothing is waiting."""
        return self._db.one("SELECT 1 FROM outbox LIMIT 1") is None

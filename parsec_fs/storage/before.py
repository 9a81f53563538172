"""What the store said of objects before other devices' changes, while something was pending here.

Data flow: replica (a foreign group is stored) -> realm_writer -> realm.db -> this -> store_loader,
    takeovers (the journal is replayed over what it was written over).

Rows of a group go when every journal record from before it is in the store: `Takeovers` knows at
which record each group was taken over. Decision 0013.
"""

from bisect import bisect_right
from typing import Final

from parsec_fs.protocol.ids import ObjectId
from parsec_fs.protocol.manifests import PAGE
from parsec_fs.protocol.records import ObjectState
from parsec_fs.storage.database import Database, Row
from parsec_fs.storage.realm_tables import StoredObject

_COLUMNS: Final = (
    "version, write_index, write_hash, operations, history, flags, author, kind, sealed, flat"
)


class Takeovers:
    """Which journal record says that the changes up to a size of the log were taken over."""

    def __init__(self) -> None:
        self._positions: list[int] = []
        self._sizes: list[int] = []

    def add(self, position: int, size: int, *, logged: int) -> None:
        """The record at `position` says so of `size`; records up to `logged` are in the store."""
        done = bisect_right(self._positions, logged)
        del self._positions[:done], self._sizes[:done]
        self._positions.append(position)
        self._sizes.append(size)

    def covered(self, position: int) -> int:
        """The size whose changes came before what is behind `position`; 0: none."""
        count = bisect_right(self._positions, position)
        return self._sizes[count - 1] if count else 0


class Before:
    """The rows of one realm. Reading."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def sizes(self) -> list[int]:
        """The groups that are kept, each by the size of the log after it, in order."""
        rows = self._db.all("SELECT DISTINCT size FROM before ORDER BY size")
        return [row[0] for row in rows]

    def group(self, size: int) -> list[tuple[ObjectId, StoredObject | None]]:
        """Objects as they were before one group; None: there was none."""
        query = f"SELECT id, {_COLUMNS} FROM before WHERE size = ? ORDER BY id"
        return [(ObjectId(row[0]), _stored(row)) for row in self._db.all(query, size)]

    def pages(self) -> list[ObjectId]:
        """All pages of names among the objects."""
        query = "SELECT DISTINCT id FROM before WHERE kind = ? OR version IS NULL"
        return [ObjectId(row[0]) for row in self._db.all(query, PAGE)]

    def find(self, id: ObjectId, size: int) -> tuple[bool, StoredObject | None]:
        """Whether an object changed in a group after `size`, and what it was before the first."""
        query = f"SELECT id, {_COLUMNS} FROM before WHERE id = ? AND size > ? ORDER BY size LIMIT 1"
        row = self._db.one(query, id, size)
        return (False, None) if row is None else (True, _stored(row))


def _stored(row: Row) -> StoredObject | None:
    if row[1] is None:
        return None
    state = ObjectState(
        version=row[1],
        write_index=row[2],
        write=row[3],
        operations=row[4],
        history=row[5],
        flags=row[6],
    )
    return StoredObject(
        id=row[0], state=state, author=row[7], kind=row[8], sealed=row[9], flat=row[10]
    )

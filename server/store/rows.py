"""Small tools of this package: upserts for both databases, frontiers as bytes, lookups by keys.

Data flow: store modules -> statements that SQLite and PostgreSQL both understand.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Final, TypeVar

from sqlalchemy import Table
from sqlalchemy.dialects import postgresql, sqlite

from parsec_fs.protocol.errors import DataError
from parsec_fs.protocol.ids import Hash
from parsec_fs.protocol.merkle import Frontier
from server.store.database import Transaction

T = TypeVar("T")
Row = dict[str, Any]

CHUNK: Final = 500
"""Keys in one IN list: far below the limits of both databases, and one cached statement."""


def insert_new(transaction: Transaction, table: Table, rows: Sequence[Row]) -> None:
    """Insert rows; those whose key exists are left as they are."""
    if rows:
        insert = _insert(transaction, table)
        transaction.execute(insert.on_conflict_do_nothing(), list(rows))


def upsert(transaction: Transaction, table: Table, rows: Sequence[Row]) -> None:
    """Insert rows or replace the ones with the same primary key."""
    if not rows:
        return
    insert = _insert(transaction, table)
    keys = [column.name for column in table.primary_key]
    values = {name: insert.excluded[name] for name in rows[0] if name not in keys}
    transaction.execute(insert.on_conflict_do_update(index_elements=keys, set_=values), list(rows))


def _insert(transaction: Transaction, table: Table) -> Any:
    dialect = sqlite if transaction.dialect.name == "sqlite" else postgresql
    return dialect.insert(table)


def chunks(items: Iterable[T], size: int = CHUNK) -> Iterator[list[T]]:
    """The items in lists of at most `size`."""
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk


def pack_frontier(frontier: Frontier) -> bytes:
    """Nodes one after the other; the size is a column of its own."""
    return b"".join(frontier.nodes)


def unpack_frontier(size: int, packed: bytes) -> Frontier:
    """Raises DataError."""
    if len(packed) % 32:
        raise DataError("frontier: not a sequence of hashes")
    nodes = tuple(Hash(packed[at : at + 32]) for at in range(0, len(packed), 32))
    return Frontier(size=size, nodes=nodes)

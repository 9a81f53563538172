"""Small tools of this package: upserts for both databases, lookups by keys, frontiers and headers.

Data flow: store modules -> statements that SQLite and PostgreSQL both understand.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from itertools import islice
from typing import Any, Final, TypeVar

from sqlalchemy import ColumnElement, Table, bindparam
from sqlalchemy.dialects import postgresql, sqlite

from parsec_fs.protocol.errors import DataError
from parsec_fs.protocol.ids import Hash
from parsec_fs.protocol.merkle import Frontier
from parsec_fs.protocol.records import LeafHeader
from server.store.database import Transaction
from server.store.schema import leaves

T = TypeVar("T")
Row = dict[str, Any]

_DIALECTS: Final[dict[str, Any]] = {"sqlite": sqlite, "postgresql": postgresql}
HEADER_COLUMNS: Final = (
    leaves.c.idx,
    leaves.c.kind,
    leaves.c.time_ms,
    leaves.c.org_size,
    leaves.c.map_root,
    leaves.c.body_hash,
)
CHUNK: Final = 500
"""Keys in one IN list: far below the limits of both databases, and one cached statement."""


def insert_new(transaction: Transaction, table: Table, rows: Sequence[Row]) -> None:
    """Insert rows; those whose key exists are left as they are."""
    if rows:
        transaction.execute(_insert_new(transaction.dialect.name, table), list(rows))


def upsert(transaction: Transaction, table: Table, rows: Sequence[Row]) -> None:
    """Insert rows of all columns, or replace the ones with the same primary key."""
    if rows:
        transaction.execute(_upsert(transaction.dialect.name, table), list(rows))


@cache
def _insert_new(dialect: str, table: Table) -> Any:
    """Built once: putting a statement together costs more than running it."""
    return _DIALECTS[dialect].insert(table).on_conflict_do_nothing()


@cache
def _upsert(dialect: str, table: Table) -> Any:
    insert = _DIALECTS[dialect].insert(table)
    keys = [column.name for column in table.primary_key]
    values = {one.name: insert.excluded[one.name] for one in table.c if one.name not in keys}
    return insert.on_conflict_do_update(index_elements=keys, set_=values)


def header_of(
    index: int, kind: int, time_ms: int, org_size: int, map_root: bytes, body: bytes
) -> LeafHeader:
    """A leaf's header from its `HEADER_COLUMNS`."""
    return LeafHeader(
        index=index,
        kind=kind,
        time_ms=time_ms,
        org_size=org_size,
        map_root=Hash(map_root),
        body=Hash(body),
    )


def one_of(column: ColumnElement[Any]) -> ColumnElement[bool]:
    """Condition of a prepared query: the column is among the bound `keys`."""
    return column.in_(bindparam("keys", expanding=True))


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

"""Where a realm's store begins if it was taken from a snapshot, and how the past is filled in.

Data flow: workspace/bootstrap (verified snapshot, replayed past) -> this -> realm.db.

A store that has a base holds objects and certificates' contents at a size, and leaves from there
on. `fill_in` adds the leaves before it from a second store that has replayed the whole log. Each
step is a transaction of some milliseconds and can be repeated; only the last one, which takes the
base away, makes the past count.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Final

from parsec_fs.protocol.certificates import RealmCreated, Role, Rotation
from parsec_fs.protocol.codec import Size
from parsec_fs.protocol.records import LogState
from parsec_fs.storage.database import Database, Row

BASE: Final = "base"
_STEP: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredBase:
    """The realm at the size of its snapshot, but for the objects; see `protocol.snapshots`."""

    state: LogState
    created: RealmCreated
    roles: Annotated[tuple[Role, ...], Size(0, 10_000)]
    rotations: Annotated[tuple[Rotation, ...], Size(0, 10_000)]


async def fill_in(
    source: Database, target: Database, *, base: int, pause: Callable[[], Awaitable[None]]
) -> None:
    """Copy leaves, certificates and operations below `base`, and correct the authors of objects
    that were last written there: a snapshot does not say who wrote a tombstone."""
    for table in ("leaves", "certificates"):
        await _copy_numbered(source, target, table, base, pause)
    await _copy_operations(source, target, base, pause)
    await _correct_authors(target, base, pause)


async def _copy_numbered(
    source: Database, target: Database, table: str, base: int, pause: Callable[[], Awaitable[None]]
) -> None:
    query = f"SELECT * FROM {table} WHERE number > ? AND number < ? ORDER BY number LIMIT {_STEP}"
    last = -1
    while rows := source.all(query, last, base):
        await _insert(target, table, rows, pause)
        last = rows[-1][0]


async def _copy_operations(
    source: Database, target: Database, base: int, pause: Callable[[], Awaitable[None]]
) -> None:
    query = (
        "SELECT object, version, leaf FROM operations WHERE (object, version) > (?, ?)"
        f" ORDER BY object, version LIMIT {_STEP}"
    )
    last: tuple[bytes, int] = (b"", 0)
    while rows := source.all(query, *last):
        below = [row for row in rows if row[2] < base]
        await _insert(target, "operations", below, pause)
        last = (rows[-1][0], rows[-1][1])


async def _insert(
    target: Database, table: str, rows: list[Row], pause: Callable[[], Awaitable[None]]
) -> None:
    async with target.transaction() as write:
        for row in rows:
            places = ", ".join("?" * len(row))
            write.execute(f"INSERT OR IGNORE INTO {table} VALUES ({places})", row)
            await pause()


async def _correct_authors(
    target: Database, base: int, pause: Callable[[], Awaitable[None]]
) -> None:
    query = (
        "SELECT id, leaves.author FROM objects JOIN leaves ON number = write_index"
        f" WHERE id > ? AND write_index < ? ORDER BY id LIMIT {_STEP}"
    )
    last = b""
    while rows := target.all(query, last, base):
        async with target.transaction() as write:
            for id, author in rows:
                # Meanwhile the object may have been written again.
                write.execute(
                    "UPDATE objects SET author = ? WHERE id = ? AND write_index < ?",
                    (author, id, base),
                )
                await pause()
        last = rows[-1][0]

"""One SQLite file: a writer for transactions, a reader for the trio thread.

Data flow: org_store, realm_store -> this -> disk.

Rule 20: what a later step relies on is on disk before that step. A transaction's statements run on
the trio thread (microseconds each, so that the caller can yield between them) and its COMMIT, which
waits for the disk, in a worker thread. The reader has its own connection and never waits for a
writer (WAL); it sees what is committed, nothing else.
"""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import trio

from parsec_fs.protocol.errors import DataError

Row = tuple[Any, ...]


class Database:
    """An open file. `tables` creates what is missing; `version` refuses another format, but for
    those that `tables` completes (`older`): from then on the program that wrote it refuses it."""

    def __init__(
        self, path: Path, tables: str, *, version: int, older: tuple[int, ...] = ()
    ) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # SQLite gives its -wal and -shm files the mode of the file: whatever the umask, ours alone.
        path.touch(mode=0o600)
        self._writer = _connect(path)
        self._writer.execute("PRAGMA synchronous = FULL")
        found = _check_version(self._writer, (0, version, *older), version)
        self._writer.executescript(tables)
        if found != version:
            self._writer.execute(f"PRAGMA user_version = {version}")
        self._reader = _connect(path)
        self._lock = trio.Lock()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[sqlite3.Connection]:
        """One atomic, durable change. On any exception nothing of it happened."""
        async with self._lock:
            connection = self._writer
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                connection.execute("ROLLBACK")
                raise
            # Once begun the commit runs to its end: whoever is cancelled here must not believe
            # that nothing was written.
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(connection.execute, "COMMIT")

    def one(self, query: str, *values: Any) -> Row | None:
        """First row of a query, or None."""
        row: Row | None = self._reader.execute(query, values).fetchone()
        return row

    def all(self, query: str, *values: Any) -> list[Row]:
        """All rows of a query."""
        return self._reader.execute(query, values).fetchall()

    def close(self) -> None:
        """Close both connections."""
        self._reader.close()
        self._writer.close()


def damage_of(path: Path) -> list[str]:
    """What is wrong with a file, in SQLite's words; reads all of it. It is opened for reading only,
    because it may be too damaged for more: nothing in it is changed. Raises OSError."""
    path.open("rb").close()
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as reader:
            found = [str(row[0]) for row in reader.execute("PRAGMA integrity_check")]
    except sqlite3.DatabaseError as error:
        return [str(error)]
    return [] if found == ["ok"] else found


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(
        path, isolation_level=None, check_same_thread=False, cached_statements=256
    )
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA busy_timeout = 5000")
    return connection


def _check_version(connection: sqlite3.Connection, known: tuple[int, ...], version: int) -> int:
    """Before anything is created: another program's file stays as it is."""
    found = connection.execute("PRAGMA user_version").fetchone()[0]
    if found not in known:
        raise DataError(f"local store has format {found}, this program knows {version}")
    return int(found)

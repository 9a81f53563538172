"""The database: engine, durability settings, migrations, transactions in worker threads.

Data flow: shells -> `Database.write` / `read` -> one transaction in a worker thread -> disk.

Rule 14: a write returns after the commit is durable (SQLite WAL with synchronous=FULL, PostgreSQL
with synchronous_commit=on). Write transactions of SQLite begin IMMEDIATE and are serial; those of
PostgreSQL serialise through the rows that they lock. A read is one consistent snapshot.
"""

import fcntl
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final, Protocol, TypeVar

import anyio
import anyio.to_thread
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, create_engine, event, make_url, text
from sqlalchemy.engine import Engine
from sqlalchemy.exc import SQLAlchemyError

from parsec_fs.protocol.errors import InputError

T = TypeVar("T")
Transaction = Connection
"""What the functions of this package take: an open transaction."""

THREADS: Final = 8
"""Worker threads for the database: more than two cores can use, few enough for its pool."""

PUBLISHER_LOCK: Final = 0x70617273_65632D66
"""Number of the advisory lock in PostgreSQL."""

_LOCK: Final = text("SELECT pg_advisory_xact_lock(:key)")
_LOCK_SHARED: Final = text("SELECT pg_advisory_xact_lock_shared(:key)")
_MIGRATIONS = Path(__file__).parent / "migrations"


class Database:
    """One database. `write` and `read` may be called from any task; the function that they are
    given runs in a worker thread and must not touch shared state."""

    def __init__(self, url: str) -> None:
        """`url` is SQLAlchemy's; SQLite and PostgreSQL (psycopg 3) are known. Raises InputError."""
        self._engine = _engine(url)
        self._sqlite = self._engine.dialect.name == "sqlite"
        self._writing = threading.Lock()
        self._limiter: anyio.CapacityLimiter | None = None

    @property
    def is_shared(self) -> bool:
        """Other processes may write too."""
        return not self._sqlite

    def migrate(self) -> None:
        """Bring the schema up to date; done once, before anything else. Raises InputError."""
        config = Config()
        config.set_main_option("script_location", str(_MIGRATIONS))
        try:
            with self.writing() as transaction:
                config.attributes["connection"] = transaction
                command.upgrade(config, "head")
        except SQLAlchemyError as error:
            raise InputError(f"database cannot be opened: {error}") from error

    @contextmanager
    def writing(self) -> Iterator[Transaction]:
        """A write transaction in this thread: durable when the block ends without exception."""
        if not self._sqlite:
            with self._engine.begin() as transaction:
                yield transaction
            return
        # SQLite has one writer; waiting here is fairer and cheaper than in its busy handler.
        with self._writing, self._engine.connect() as connection:
            connection = connection.execution_options(parsec_begin="BEGIN IMMEDIATE")
            with connection.begin():
                yield connection

    @contextmanager
    def reading(self) -> Iterator[Transaction]:
        """A consistent snapshot in this thread."""
        with self._engine.connect() as connection:
            if not self._sqlite:
                connection = connection.execution_options(isolation_level="REPEATABLE READ")
            with connection.begin():
                yield connection

    @contextmanager
    def looking(self) -> Iterator[Transaction]:
        """A short look that waits for whoever has locked the rows (PostgreSQL)."""
        opened = self.reading() if self._sqlite else self.writing()
        with opened as transaction:
            yield transaction

    async def look(self, function: Callable[[Transaction], T]) -> T:
        """Run `function`, which reads under row locks."""

        def run() -> T:
            with self.looking() as transaction:
                return function(transaction)

        return await self._in_thread(run)

    async def write(self, function: Callable[[Transaction], T]) -> T:
        """Run `function` in a write transaction; its result is durable when this returns."""

        def run() -> T:
            with self.writing() as transaction:
                return function(transaction)

        return await self._in_thread(run)

    async def read(self, function: Callable[[Transaction], T]) -> T:
        """Run `function` over a snapshot."""

        def run() -> T:
            with self.reading() as transaction:
                return function(transaction)

        return await self._in_thread(run)

    async def _in_thread(self, run: Callable[[], T]) -> T:
        if self._limiter is None:
            self._limiter = anyio.CapacityLimiter(THREADS)
        return await anyio.to_thread.run_sync(run, limiter=self._limiter)

    def try_exclusive(self) -> "Exclusive | None":
        """The right to publish, held by one process at a time; None while another has it. Given
        back by `close`, or by the system when this process ends."""
        if self._sqlite:
            return _lock_file(self._engine.url.database)
        connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        query = text("SELECT pg_try_advisory_lock(:number)")
        if connection.execute(query, {"number": PUBLISHER_LOCK}).scalar_one():
            return _LockConnection(connection)
        connection.close()
        return None

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()


def lock(transaction: Transaction, name: bytes, *, shared: bool = False) -> None:
    """PostgreSQL: wait for a lock that lasts until the end of the transaction; its queue is fair,
    so one who wants it alone is not starved by many who share it, as with row locks. SQLite:
    nothing, as there is one writer at a time."""
    if transaction.dialect.name != "sqlite":
        query = _LOCK_SHARED if shared else _LOCK
        transaction.execute(query, {"key": int.from_bytes(name[:8], "big", signed=True)})


class Exclusive(Protocol):
    """A right that one process has."""

    def check(self) -> None:
        """Raises if the right may have been lost."""

    def close(self) -> None:
        """Give it back."""


class _LockConnection:
    """PostgreSQL: a session-level lock lasts as long as its connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def check(self) -> None:
        self._connection.execute(text("SELECT 1"))

    def close(self) -> None:
        self._connection.invalidate()
        self._connection.close()


class _LockFile:
    """SQLite: a lock on a file beside the database lasts as long as it is open."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def check(self) -> None:
        """The system keeps it."""

    def close(self) -> None:
        self._file.close()


def _lock_file(database: str | None) -> _LockFile | None:
    file = Path(f"{database}.publisher").open("ab")  # noqa: SIM115
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        return None
    return _LockFile(file)


def _engine(url: str) -> Engine:
    try:
        parsed = make_url(url)
        backend = parsed.get_backend_name()
        if backend == "sqlite":
            return _sqlite_engine(url)
        if backend != "postgresql":
            raise InputError("not a usable database URL: SQLite and PostgreSQL are known")
        engine = create_engine(
            parsed.set(drivername="postgresql+psycopg"),
            isolation_level="READ COMMITTED",
            pool_size=THREADS + 2,
        )
    except (SQLAlchemyError, ImportError, ValueError) as error:
        raise InputError(f"not a usable database URL ({type(error).__name__})") from error
    event.listen(engine, "connect", _set_up_postgresql)
    return engine


def _sqlite_engine(url: str) -> Engine:
    engine = create_engine(url, pool_size=THREADS + 2, connect_args={"timeout": 30})
    event.listen(engine, "connect", _set_up_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _set_up_sqlite(connection: sqlite3.Connection, _record: Any) -> None:
    connection.isolation_level = None  # BEGIN is ours, see _begin_sqlite
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA cache_size = -65536")


def _begin_sqlite(connection: Connection) -> None:
    begin = connection.get_execution_options().get("parsec_begin", "BEGIN")
    connection.exec_driver_sql(begin)


def _set_up_postgresql(connection: Any, _record: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET synchronous_commit = on")
    connection.commit()

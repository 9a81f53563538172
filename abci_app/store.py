"""Durable state of the application: SQLite, written by Commit alone.

Data flow: Application.commit -> one transaction -> disk; start -> `load` -> Application.

The database is never ahead of the chain and never partly written: state, hash and statements of a
height are one transaction, synced before Commit is answered. A few older states are kept, so that
`parsec-abci rollback` can follow `cometbft rollback`.
"""

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Final

from abci_app.rules import Accepted
from abci_app.state import ChainState, app_hash, decode_state, encode_state
from parsec_fs.protocol.errors import InputError
from parsec_fs.protocol.ids import ServerLogId

STATES_KEPT: Final = 10

_SCHEMA = """
CREATE TABLE IF NOT EXISTS states (
    height   INTEGER PRIMARY KEY,  -- chain block after which this state holds
    app_hash BLOB NOT NULL,        -- what the validators agreed on; checked at every start
    state    BLOB NOT NULL         -- encoded ChainState
) STRICT;
CREATE TABLE IF NOT EXISTS statements (
    server_log BLOB NOT NULL,      -- 32 bytes
    epoch      INTEGER NOT NULL,
    height     INTEGER NOT NULL,   -- block that accepted it; rollback removes by this
    tx         BLOB NOT NULL,      -- the exact signed bytes
    PRIMARY KEY (server_log, epoch)
) STRICT, WITHOUT ROWID;
"""


class SqliteStore:
    """One open database. Used from one thread only."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.executescript(_SCHEMA)

    def __enter__(self) -> "SqliteStore":
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self._connection.close()

    def load(self) -> ChainState | None:
        """Newest state. Raises InputError if it does not have the hash that was agreed on."""
        row = self._connection.execute(
            "SELECT app_hash, state FROM states ORDER BY height DESC LIMIT 1"
        ).fetchone()
        if row is None:
            return None
        state = decode_state(row[1])
        if app_hash(state) != row[0]:
            raise InputError("the chain state on disk is damaged: delete it and replay the chain")
        return state

    def commit(self, state: ChainState, accepted: Sequence[Accepted]) -> None:
        """One durable transaction."""
        execute = self._connection.execute
        with _Transaction(self._connection):
            execute(
                "INSERT INTO states VALUES (?, ?, ?)",
                (state.height, app_hash(state), encode_state(state)),
            )
            execute("DELETE FROM states WHERE height <= ?", (state.height - STATES_KEPT,))
            self._connection.executemany(
                "INSERT INTO statements VALUES (?, ?, ?, ?)",
                [(one.server_log, one.epoch, state.height, one.tx) for one in accepted],
            )

    def statement(self, server_log: ServerLogId, epoch: int) -> bytes | None:
        """Signed statement of a committed epoch."""
        row = self._connection.execute(
            "SELECT tx FROM statements WHERE server_log = ? AND epoch = ?", (server_log, epoch)
        ).fetchone()
        return None if row is None else bytes(row[0])

    def rollback(self) -> int:
        """Drop the newest state. Returns the height that is newest now, or raises InputError."""
        heights = [int(row[0]) for row in self._connection.execute("SELECT height FROM states")]
        if len(heights) < 2:
            raise InputError("no older chain state is kept: delete the database and replay")
        newest = max(heights)
        with _Transaction(self._connection):
            self._connection.execute("DELETE FROM states WHERE height = ?", (newest,))
            self._connection.execute("DELETE FROM statements WHERE height = ?", (newest,))
        return newest - 1


class _Transaction:
    """BEGIN IMMEDIATE ... COMMIT, or ROLLBACK on any exception."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def __enter__(self) -> None:
        self._connection.execute("BEGIN IMMEDIATE")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self._connection.execute("COMMIT" if kind is None else "ROLLBACK")

"""What the store keeps of rows that others replaced, and stores of the format before that."""

import sqlite3
from pathlib import Path

import pytest

from parsec_fs.protocol.errors import DataError
from parsec_fs.protocol.ids import RealmId
from parsec_fs.storage.before import Takeovers
from parsec_fs.storage.realm_store import RealmStore
from parsec_fs.storage.realm_tables import REALM_TABLES

REALM = RealmId(b"r" * 16)


def written_by(path: Path, version: int) -> None:
    """A store as a program with that format leaves it."""
    with sqlite3.connect(path) as old:
        old.executescript(REALM_TABLES)
        old.execute("INSERT INTO links VALUES (?, 3)", (b"o" * 16,))
        if version == 1:
            old.execute("DROP TABLE before")
        old.execute(f"PRAGMA user_version = {version}")
    old.close()


def format_of(path: Path) -> int:
    with sqlite3.connect(path) as now:
        found: int = now.execute("PRAGMA user_version").fetchone()[0]
    now.close()
    return found


async def test_a_store_of_the_first_format_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "realm.db"
    written_by(path, 1)
    store = RealmStore(path, REALM)
    assert store.before.sizes() == []
    assert store.link_count(b"o" * 16) == 3  # type: ignore[arg-type]
    store.close()
    assert format_of(path) == 2


async def test_a_store_of_a_newer_program_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "realm.db"
    written_by(path, 3)
    with pytest.raises(DataError, match="local store has format 3, this program knows 2"):
        RealmStore(path, REALM)
    assert format_of(path) == 3


def test_what_a_journal_position_covers() -> None:
    takeovers = Takeovers()
    assert takeovers.covered(100) == 0
    takeovers.add(5, 10, logged=0)
    takeovers.add(7, 12, logged=0)
    assert [takeovers.covered(position) for position in (4, 5, 6, 7, 8)] == [0, 10, 10, 12, 12]
    takeovers.add(9, 13, logged=7)
    assert [takeovers.covered(position) for position in (8, 9)] == [0, 13]

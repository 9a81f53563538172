"""What a workspace writes is its user's alone, whatever the umask.

Data flow: Contents, Journal, Database under umask 0 -> modes of files and folders.
"""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from parsec_fs.protocol.ids import RealmId
from parsec_fs.protocol.sealing import LocalSealer
from parsec_fs.storage.contents import Contents
from parsec_fs.storage.database import Database
from parsec_fs.storage.journal import Journal


@pytest.fixture(autouse=True)
def no_umask() -> Iterator[None]:
    """The most careless environment."""
    before = os.umask(0)
    yield
    os.umask(before)


def modes(folder: Path) -> dict[str, int]:
    """Modes of a folder and everything in it."""
    found = [folder, *folder.rglob("*")]
    return {str(path.relative_to(folder)): stat.S_IMODE(path.stat().st_mode) for path in found}


async def test_blocks_are_private(tmp_path: Path) -> None:
    contents = Contents(tmp_path / "blocks", RealmId(b"r" * 32))
    ref = contents.seal_job(b"content")
    block = f"pending/{ref.id.hex()}"
    wanted = {".": 0o700, "pending": 0o700, "cache": 0o700, block: 0o600}
    assert modes(tmp_path / "blocks") == wanted


def test_the_journal_is_private(tmp_path: Path) -> None:
    folder = tmp_path / "journal"

    def write() -> Path:
        journal = Journal(folder, LocalSealer(b"k" * 32))
        journal.open(0)
        for _ in range(2):
            journal.append((1, b"record"))
            journal.flush()
        journal.close()
        return next(folder.glob("*.journal"))

    segment = write()
    damaged = bytearray(segment.read_bytes())
    damaged[-1] ^= 1
    segment.write_bytes(damaged)
    write()
    found = modes(folder)
    assert found.pop(".") == found.pop("damaged") == 0o700
    assert len(found) == 3, found  # what was damaged, its good beginning, the new segment
    assert set(found.values()) == {0o600}


def test_the_database_is_private(tmp_path: Path) -> None:
    database = Database(tmp_path / "store" / "facts", "CREATE TABLE t (x);", version=1)
    found = modes(tmp_path / "store")
    database.close()
    assert found.pop(".") == 0o700
    assert set(found) >= {"facts", "facts-wal"}
    assert set(found.values()) == {0o600}

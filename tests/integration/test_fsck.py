"""fsck: what is consistent is called so, pending changes included; each kind of damage is named.

Data flow: changes on two devices -> `workspace/fsck` on one of them -> faults; then the local
files are damaged in one place -> the fault that says so.
"""

import os
import shutil
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from parsec_fs.protocol.limits import MIB
from parsec_fs.storage.database import damage_of
from parsec_fs.workspace.fsck import Fsck, database_faults
from tests.support.laptops import Laptop, two_laptops

LARGE = os.urandom(2 * MIB + 100)


def checked(one: Laptop) -> Fsck:
    parts = one.workspace
    context = parts.replica.state.context
    return Fsck(parts.store, context, parts.filesystem, parts.loader, parts.contents)


def faults(one: Laptop) -> dict[str, str]:
    """Place and words of each fault."""
    found = database_faults(database(one)) or checked(one).run()
    return {fault.place.decode(): fault.what for fault in found}


def database(one: Laptop) -> Path:
    """Where this device keeps the workspace's objects."""
    (path,) = one.folder.glob("*/realm.db")
    return path


async def spoil(one: Laptop, statement: str) -> None:
    """Change the local store as no program of ours does."""
    connection = sqlite3.connect(database(one))
    with connection:
        assert connection.execute(statement).rowcount > 0
    connection.close()


def block_of(one: Laptop, path: str) -> Path:
    """The file of the first block of a file."""
    ref, files = (one.file(path).blocks or [])[0], one.filesystem.contents.files
    assert ref is not None
    pending = files.pending_dir / ref.id.hex()
    return pending if pending.exists() else files.cached(ref)


@asynccontextmanager
async def busy(folder: Path) -> AsyncIterator[tuple[Laptop, Laptop]]:
    """Two devices that have done a bit of everything; the first one's newest is not logged."""
    async with two_laptops(folder) as (one, two):
        one.mkdir("folder")
        one.make("folder/small", b"small")
        one.make("folder/large", LARGE)
        one.link("folder/small", "other name")
        one.make("gone", b"gone")
        await one.push()
        await two.pull()
        two.make("folder/theirs", LARGE)
        two.unlink("gone")
        two.rename("folder", "renamed")
        await two.push()
        await one.pull()
        one.append("renamed/large", b"more")
        one.make("renamed/new", LARGE)
        one.link("renamed/new", "new too")
        one.unlink("other name")
        await one.filesystem.settle()
        one.filesystem.flush()
        yield one, two


async def test_what_is_consistent_is_called_so(tmp_path: Path) -> None:
    async with busy(tmp_path) as (one, two):
        for device in (one, two):
            await device.restart()
            assert faults(device) == {}
        found = checked(one)
        assert list(found.run()) == []
        assert found.tally.names == 6
        # Three of `large` (its last one twice if it was changed), three of `new`; `theirs` is read
        # from the server when somebody asks.
        assert found.tally.blocks == 6
        await one.push()
        await two.pull()
        for device in (one, two):
            await device.restart(killed=True)
            assert faults(device) == {}


@pytest.mark.parametrize(
    ("path", "what"),
    [
        ("renamed/new", "bytes 0 to 1048576: damaged on this device; nobody else has it"),
        (
            "renamed/large",
            "bytes 0 to 1048576: damaged on this device; it is fetched again when it is read",
        ),
    ],
)
async def test_a_damaged_block(tmp_path: Path, path: str, what: str) -> None:
    async with busy(tmp_path) as (one, _):
        block = block_of(one, path)
        sealed = bytearray(block.read_bytes())
        sealed[77] ^= 1
        block.write_bytes(sealed)
        assert what in faults(one).values()
        block.unlink()
        missing = "bytes 0 to 1048576: missing on this device, and nobody else has it"
        assert set(faults(one).values()) == (set() if "fetched" in what else {missing})


async def test_blocks_that_the_disk_does_not_read(tmp_path: Path) -> None:
    async with two_laptops(tmp_path) as (one, _):
        one.make("large", LARGE)
        await one.push()
        block = block_of(one, "large")
        block.unlink()
        block.symlink_to("/proc/self/mem")  # can be opened, and not read: EIO
        (what,) = faults(one).values()
        assert what.startswith("bytes 0 to 1048576: cannot be read on this device (")
        assert what.endswith("; it is fetched again when it is read")


@pytest.mark.allows_log("page [0-9a-f]* is damaged")
@pytest.mark.parametrize(
    ("statement", "what"),
    [
        ("UPDATE links SET count = count + 1", "its link count is 2, it has 1 names"),
        (
            "UPDATE objects SET version = version + 1 WHERE kind = 1",
            "the local store is damaged: its objects are not those of its log",
        ),
        (
            "UPDATE objects SET sealed = zeroblob(200) WHERE kind = 3",
            "this page of a folder's names does not open",
        ),
        ("DELETE FROM objects WHERE kind = 1", "what it stands for cannot be read"),
        ("DELETE FROM objects WHERE kind = 3", "this object has no name"),
    ],
)
async def test_a_store_that_was_changed(tmp_path: Path, statement: str, what: str) -> None:
    async with busy(tmp_path) as (one, _):
        await one.push()
        await spoil(one, statement)
        await one.restart()
        found = faults(one)
        assert any(what in one for one in found.values()), found


async def test_a_database_that_is_no_database(tmp_path: Path) -> None:
    async with busy(tmp_path) as (one, _):
        await one.push()
        await one.restart()
        size = database(one).stat().st_size
        with database(one).open("r+b") as file:
            file.seek(size // 2)
            file.write(os.urandom(size // 4))
        assert list(faults(one)) == ["realm.db"]


async def test_a_database_is_checked_without_opening_the_workspace(tmp_path: Path) -> None:
    """As it is left by a program that ended, or by one that was killed."""
    async with two_laptops(tmp_path) as (one, _):
        one.make("file", b"content")
        await one.push()
        assert damage_of(database(one)) == []
        killed = tmp_path / "killed"
        shutil.copytree(database(one).parent, killed)
        assert (killed / "realm.db-wal").stat().st_size > 0
        (killed / "realm.db-shm").unlink()
        path = killed / "realm.db"
        before = path.read_bytes()
        assert damage_of(path) == []
        assert path.read_bytes() == before
    (path,) = one.folder.glob("*/realm.db")
    assert not path.with_name("realm.db-wal").exists()
    assert damage_of(path) == []
    spoilt = bytearray(path.read_bytes())
    spoilt[100:] = os.urandom(len(spoilt) - 100)
    path.write_bytes(spoilt)
    assert damage_of(path)
    path.write_bytes(os.urandom(1000))
    assert damage_of(path) == ["file is not a database"]
    assert path.stat().st_size == 1000


async def test_a_name_taken_away_counts_also_when_its_file_left_memory(tmp_path: Path) -> None:
    """The store still counts the name until that is logged."""
    async with two_laptops(tmp_path) as (one, two):
        one.make("file", b"content")
        one.link("file", "same")
        await one.push()
        one.unlink("same")
        tree = one.filesystem.tree
        tree.trim(list(tree.nodes.values()))
        assert one.file("file").nlink == 1
        assert faults(one) == {}
        one.unlink("file")
        await one.push()
        await two.pull()
        for device in (one, two):
            assert await device.walk() == {}
            assert faults(device) == {}

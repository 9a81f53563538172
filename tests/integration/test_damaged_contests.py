"""An object does not open, for a bad payload or a key that is not here, while others' changes meet
pending ones: it costs itself, and nothing that anybody did besides (rule 12).

Data flow: two devices; damage in the store of one -> settle, restart -> what it shows and logs.
"""

import sqlite3
from pathlib import Path

import pytest

from parsec_fs.protocol.ids import ObjectId
from tests.support.laptops import Laptop, two_laptops


def damage(device: Laptop, id: ObjectId) -> None:
    """The store of the device has a version of the object that does not open."""
    (path,) = device.folder.glob("*/realm.db")
    with sqlite3.connect(path) as connection:
        query = "update objects set kind=0, sealed=x'0102' where id=?"
        assert connection.execute(query, (bytes(id),)).rowcount == 1
    connection.close()


def shown(device: Laptop, path: str = "") -> dict[bytes, ObjectId]:
    """Names in a folder, also of what does not open."""
    fs, node = device.filesystem, device.node(path)
    return {name: id for name, (id, _) in fs.call(lambda: fs.tree.children(node)).items()}  # type: ignore[arg-type]


async def deleted_around(one: Laptop, two: Laptop) -> ObjectId:
    """One puts a file into a folder that two has deleted; the file does not open any more."""
    one.mkdir("x")
    inner = one.make("a", b"child")
    one.make("other", b"first")
    await one.push()
    await two.pull()
    two.rmdir("x")
    await two.push()
    one.rename("a", "x/a")
    await one.pull()
    assert one.contested()
    damage(one, inner)
    return inner


async def test_what_is_synced_after_a_settlement_met_damage_survives(tmp_path: Path) -> None:
    async with two_laptops(tmp_path) as (one, two):
        await deleted_around(one, two)
        await one.workspace.sync.push_once()
        one.wire.cut = True
        one.make("later", b"an hour of work")
        one.append("other", b" second")
        await one.filesystem.fsync(one.file("later"))
        await one.restart(killed=True)
        assert await one.read("later") == b"an hour of work"
        assert await one.read("other") == b"first second"


@pytest.mark.expects_log("changes that need what is damaged are passed over: object .* is damaged")
async def test_a_workspace_opens_though_a_pending_name_is_of_what_is_damaged(
    tmp_path: Path,
) -> None:
    async with two_laptops(tmp_path) as (one, _):
        bad, covered = one.make("a", b"child"), one.make("c", b"covered")
        await one.push()
        one.rename("a", "b")
        one.make("important", b"hours of work")
        one.rename("c", "d")
        one.make("c", b"new")
        damage(one, bad)
        for _ in range(2):
            await one.restart()
            assert await one.read("important") == b"hours of work"
            assert await one.read("c") == b"new"
            names = shown(one)
            assert names[b"d"] == covered
            assert bad in names.values()


@pytest.mark.expects_log("changes that need what is damaged are passed over: object .* is damaged")
@pytest.mark.expects_log("2 files were put into b'recovered ")
async def test_a_workspace_opens_though_a_changed_file_is_damaged(tmp_path: Path) -> None:
    async with two_laptops(tmp_path) as (one, _):
        bad, folder = one.make("a", b"child"), one.mkdir("f")
        await one.push()
        one.append("a", b" more")
        one.chmod("f", 0o700)
        one.make("f/inner", b"in it")
        one.make("important", b"hours of work")
        damage(one, bad)
        damage(one, folder)
        for _ in range(2):
            await one.restart()
            assert await one.read("important") == b"hours of work"
            assert {bad, folder} <= set(shown(one).values())
            (salvaged,) = (name for name in shown(one) if name.startswith(b"recovered "))
            kept = (await one.walk(salvaged.decode())).values()
            assert sorted(content or b"" for content in kept) == [b"child more", b"in it"]


async def test_a_damaged_file_keeps_its_name_in_a_folder_deleted_elsewhere(tmp_path: Path) -> None:
    async with two_laptops(tmp_path) as (one, two):
        inner = await deleted_around(one, two)
        await one.push()
        await two.pull()
        assert shown(one, "x") == shown(two, "x") == {b"a": inner}
        assert await two.read("x/a") == b"child"


async def test_of_a_file_changed_by_both_theirs_stays_though_it_does_not_open(
    tmp_path: Path,
) -> None:
    async with two_laptops(tmp_path) as (one, two):
        both = one.make("n", b"first")
        await one.push()
        await two.pull()
        two.append("n", b" theirs")
        await two.push()
        one.append("n", b" ours")
        await one.pull()
        damage(one, both)
        await one.push()
        await two.pull()
        assert shown(one) == shown(two)
        assert sorted(content or b"" for content in (await two.walk()).values()) == [
            b"first ours",
            b"first theirs",
        ]
        assert await two.read("n") == b"first theirs"


async def test_a_deletion_gives_way_to_a_change_that_does_not_open(tmp_path: Path) -> None:
    async with two_laptops(tmp_path) as (one, two):
        both = one.make("n", b"first")
        await one.push()
        await two.pull()
        two.append("n", b" theirs")
        await two.push()
        one.unlink("n")
        await one.pull()
        damage(one, both)
        await one.push()
        await two.pull()
        assert shown(one) == shown(two) == {b"n": both}
        assert await two.read("n") == b"first theirs"

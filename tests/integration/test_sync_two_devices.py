"""Two devices change one workspace: everything arrives, nothing is lost, both show the same."""

from contextlib import suppress
from pathlib import Path

from parsec_fs.protocol.errors import OfflineError
from parsec_fs.protocol.limits import MIB
from tests.support.laptops import Laptop, in_step, two_laptops


async def test_names_move_and_go(tmp_path: Path) -> None:
    async with two_laptops(tmp_path) as (one, two):
        one.mkdir("a")
        one.mkdir("b")
        one.make("a/file", b"1")
        one.make("a/gone", b"2")
        await in_step(one, two)
        two.rename("a/file", "b/moved")
        two.unlink("a/gone")
        two.make("a/new", b"3")
        shown = await in_step(one, two)
        assert shown == {"a": None, "a/new": b"3", "b": None, "b/moved": b"1"}


async def test_content_and_attributes_change(tmp_path: Path) -> None:
    async with two_laptops(tmp_path) as (one, two):
        one.make("small", b"1")
        one.make("large", bytes(3 * MIB))
        await in_step(one, two)
        two.write("small", b"22")
        two.chmod("large", 0o600)
        two.write("large", b"x" * (2 * MIB + 5))
        shown = await in_step(one, two)
        assert shown == {"small": b"22", "large": b"x" * (2 * MIB + 5)}
        assert one.node("large").mode & 0o777 == 0o600


async def test_folders_are_removed(tmp_path: Path) -> None:
    async with two_laptops(tmp_path) as (one, two):
        one.mkdir("a")
        one.mkdir("a/b")
        one.make("a/b/c", b"1")
        await in_step(one, two)
        two.unlink("a/b/c")
        two.rmdir("a/b")
        two.rmdir("a")
        assert await in_step(one, two) == {}


async def test_hard_links_count(tmp_path: Path) -> None:
    async with two_laptops(tmp_path) as (one, two):
        one.make("first", b"1")
        one.link("first", "second")
        await in_step(one, two)
        assert two.node("second").nlink == 2
        two.unlink("first")
        assert await in_step(one, two) == {"second": b"1"}
        assert one.node("second").nlink == 1


async def test_both_fill_one_folder(tmp_path: Path) -> None:
    """Rule 11: rebase is by name, without conflict copies; few refusals."""
    async with two_laptops(tmp_path) as (one, two):
        one.mkdir("shared")
        await in_step(one, two)
        for number in range(500):
            one.make(f"shared/one {number}", b"1")
            two.make(f"shared/two {number}", b"2")
        shown = await in_step(one, two)
        assert len(shown) == 1001
        assert not any("conflict" in path for path in shown)
        assert one.wire.count("/v1/realm/commit") + two.wire.count("/v1/realm/commit") <= 10


async def test_a_folder_is_split(tmp_path: Path) -> None:
    async with two_laptops(tmp_path) as (one, two):
        for number in range(900):
            one.make(f"file {number}", b"")
        await in_step(one, two)
        for number in range(900, 1500):
            one.make(f"file {number}", b"")
        two.make("meanwhile", b"")
        two.unlink("file 7")
        shown = await in_step(one, two)
        assert len(shown) == 1500
        two.rename("file 8", "file 7")
        assert len(await in_step(one, two)) == 1500


async def test_a_file_changed_by_both_becomes_two(tmp_path: Path) -> None:
    async with two_laptops(tmp_path) as (one, two):
        one.make("report.txt", b"base")
        await in_step(one, two)
        one.write("report.txt", b"from one")
        two.write("report.txt", b"from two")
        shown = await in_step(one, two)
        assert sorted(shown.values()) == [b"from one", b"from two"]  # type: ignore[type-var]
        assert shown["report.txt"] == b"from one"


async def test_one_name_taken_by_both(tmp_path: Path) -> None:
    async with two_laptops(tmp_path) as (one, two):
        one.make("notes", b"from one")
        two.make("notes", b"from two")
        shown = await in_step(one, two)
        assert sorted(shown.values()) == [b"from one", b"from two"]  # type: ignore[type-var]
        assert shown["notes"] == b"from one"


async def test_content_here_attributes_there(tmp_path: Path) -> None:
    async with two_laptops(tmp_path) as (one, two):
        one.make("file", b"base")
        await in_step(one, two)
        one.write("file", b"new")
        two.chmod("file", 0o600)
        assert await in_step(one, two) == {"file": b"new"}
        assert one.node("file").mode & 0o777 == two.node("file").mode & 0o777 == 0o600


async def test_changed_here_deleted_there(tmp_path: Path) -> None:
    async with two_laptops(tmp_path) as (one, two):
        one.make("file", b"base")
        await in_step(one, two)
        one.unlink("file")
        two.write("file", b"kept")
        shown = await in_step(one, two)
        assert list(shown.values()) == [b"kept"]


async def test_deleted_here_changed_there(tmp_path: Path) -> None:
    async with two_laptops(tmp_path) as (one, two):
        one.make("file", b"base")
        await in_step(one, two)
        one.write("file", b"kept")
        two.unlink("file")
        assert await in_step(one, two) == {"file": b"kept"}


async def test_offline_then_online(tmp_path: Path) -> None:
    async with two_laptops(tmp_path) as (one, two):
        one.mkdir("folder")
        await in_step(one, two)
        two.wire.cut = True
        for number in range(50):
            one.make(f"folder/one {number}", b"1")
            two.make(f"folder/two {number}", b"2")
        await one.push()
        two.wire.cut = False
        assert len(await in_step(one, two)) == 101


async def test_large_files_nest_their_references(tmp_path: Path) -> None:
    """More than 1,024 blocks: holes but for a few, so that the test is quick."""
    async with two_laptops(tmp_path) as (one, two):
        node_size = 1500 * MIB
        one.make("sparse", b"start" + bytes(20 * 1024))
        _write_at(one, "sparse", node_size - 3, b"end")
        await one.push()
        await two.pull()
        node = two.file("sparse")
        assert node.size == node_size
        assert bytes(await two.filesystem.read(node, node_size - 3, 3)) == b"end"
        assert bytes(await two.filesystem.read(node, 0, 5)) == b"start"
        assert bytes(await two.filesystem.read(node, 700 * MIB, 5)) == bytes(5)


def _write_at(one: Laptop, path: str, offset: int, data: bytes) -> None:
    node = one.file(path)
    one.filesystem.write(node, offset, data)
    one.filesystem.released(node)
    one.filesystem.flush()


async def test_a_new_file_in_a_folder_that_is_deleted_there(tmp_path: Path) -> None:
    async with two_laptops(tmp_path) as (one, two):
        one.mkdir("a")
        one.mkdir("a/b")
        one.make("a/b/old", b"old")
        await in_step(one, two)
        one.unlink("a/b/old")
        one.rmdir("a/b")
        one.rmdir("a")
        two.make("a/b/new", b"new")
        shown = await in_step(one, two)
        assert shown == {"a": None, "a/b": None, "a/b/new": b"new"}


async def test_a_file_changed_in_a_folder_that_is_deleted_there(tmp_path: Path) -> None:
    async with two_laptops(tmp_path) as (one, two):
        one.mkdir("a")
        one.make("a/file", b"old")
        await in_step(one, two)
        one.unlink("a/file")
        one.rmdir("a")
        two.write("a/file", b"new")
        shown = await in_step(one, two)
        assert b"new" in shown.values()


async def test_two_moves_that_make_a_circle(tmp_path: Path) -> None:
    """Attack A36 without an attacker: each move is legal by itself."""
    async with two_laptops(tmp_path) as (one, two):
        for path in ("p", "q", "p/a", "q/b"):
            one.mkdir(path)
        one.make("p/a/file a", b"a")
        one.make("q/b/file b", b"b")
        await in_step(one, two)
        await two.walk()
        one.rename("p/a", "q/b/a")
        two.rename("q/b", "p/a/b")
        shown = await in_step(one, two)
        assert {content for content in shown.values() if content} == {b"a", b"b"}
        assert len(shown) == 6


async def test_a_folder_moves_while_its_content_changes(tmp_path: Path) -> None:
    async with two_laptops(tmp_path) as (one, two):
        one.mkdir("a")
        one.mkdir("b")
        one.make("a/file", b"1")
        await in_step(one, two)
        one.rename("a", "b/a")
        two.write("a/file", b"2")
        two.make("a/new", b"3")
        shown = await in_step(one, two)
        assert shown == {"b": None, "b/a": None, "b/a/file": b"2", "b/a/new": b"3"}


async def test_a_folder_deleted_here_gets_something_there(tmp_path: Path) -> None:
    async with two_laptops(tmp_path) as (one, two):
        one.mkdir("a")
        one.mkdir("a/b")
        one.make("a/b/old", b"old")
        await in_step(one, two)
        one.make("a/b/new", b"new")
        two.unlink("a/b/old")
        two.rmdir("a/b")
        two.rmdir("a")
        shown = await in_step(one, two)
        assert shown == {"a": None, "a/b": None, "a/b/new": b"new", "a/b/old": b"old"}


async def test_a_change_that_arrives_while_ours_is_uploaded(tmp_path: Path) -> None:
    """Between capture and commit another version is pulled: ours must not undo it."""
    async with two_laptops(tmp_path) as (one, two):
        one.make("file", b"base")
        await in_step(one, two)
        one.write("file", b"from one")
        await one.push()
        two.write("file", b"from two")
        two.workspace.replica.verified_at = 0.0
        shown = await in_step(two, one)
        assert sorted(shown.values()) == [b"from one", b"from two"]  # type: ignore[type-var]


async def test_deleted_here_after_it_was_renamed_there(tmp_path: Path) -> None:
    """Their name for it is covered by what we put there: it comes to light with the deletion."""
    async with two_laptops(tmp_path) as (one, two):
        one.make("file", b"kept")
        await in_step(one, two)
        one.rename("file", "name")
        await one.push()
        two.mkdir("name")
        two.rename("file", "name/file")
        await two.pull()
        two.unlink("name/file")
        shown = await in_step(one, two)
        assert shown == {"name": b"kept", "name (conflict, two 2026-01-01 10.00)": None}


async def test_a_folder_replaced_here_is_moved_there(tmp_path: Path) -> None:
    """Our move is given up, and what it had replaced stays deleted."""
    async with two_laptops(tmp_path) as (one, two):
        for path in ("over", "over/empty", "moved", "elsewhere"):
            one.mkdir(path)
        await in_step(one, two)
        one.rename("moved", "elsewhere/moved")
        await one.push()
        two.rmdir("over/empty")
        two.rename("moved", "over/empty")
        shown = await in_step(one, two)
        assert shown == {"elsewhere": None, "elsewhere/moved": None, "over": None}


async def test_what_was_moved_out_of_a_deleted_folder_stays_there(tmp_path: Path) -> None:
    """The folder is back, because something was put into it elsewhere; it has one place less."""
    async with two_laptops(tmp_path) as (one, two):
        one.mkdir("folder")
        one.mkdir("folder/inner")
        await in_step(one, two)
        one.make("folder/new", b"new")
        await one.push()
        two.rename("folder/inner", "inner")
        two.rmdir("folder")
        shown = await in_step(one, two)
        assert shown == {"folder": None, "folder/new": b"new", "inner": None}


async def test_changed_here_replaced_there(tmp_path: Path) -> None:
    """As editors save: a new file over the old name. Ours lies beside it."""
    async with two_laptops(tmp_path) as (one, two):
        one.make("file", b"base")
        await in_step(one, two)
        one.make("file~", b"from one")
        one.rename("file~", "file")
        two.write("file", b"from two")
        shown = await in_step(one, two)
        copy = "file (conflict, two 2026-01-01 10.00)"
        assert shown == {"file": b"from one", copy: b"from two"}


async def test_what_lies_under_a_name_of_ours_is_not_deleted(tmp_path: Path) -> None:
    """They gave a file that we changed a name that we took: it keeps our change."""
    async with two_laptops(tmp_path) as (one, two):
        one.make("file", b"base")
        await in_step(one, two)
        one.rename("file", "name")
        two.append("file", b" and more")
        two.mkdir("name")
        shown = await in_step(one, two)
        copy = "name (conflict, two 2026-01-01 10.00)"
        assert shown == {"name": b"base and more", copy: None}


async def test_a_rename_of_what_we_logged_without_knowing_moves_the_name(
    tmp_path: Path,
) -> None:
    """Our commit and the other device's arrive with one pull: the old name goes all the same."""
    async with two_laptops(tmp_path) as (one, two):
        one.make("d", b"one")
        one.wire.cut_answers = True
        with suppress(OfflineError):
            await one.push()
        one.wire.cut_answers = False
        await two.pull()
        two.rename("d", "a")
        await two.push()
        assert await in_step(one, two) == {"a": b"one"}


async def test_what_is_back_with_its_folder_has_no_second_name(tmp_path: Path) -> None:
    """The file was deleted with its folder: given up, each of them brings the other one back."""
    async with two_laptops(tmp_path) as (one, two):
        one.mkdir("x")
        one.mkdir("x/y")
        one.make("x/y/a", b"first")
        await one.push()
        await two.pull()
        await two.walk()
        one.append("x/y/a", b" second")
        await one.push()
        two.unlink("x/y/a")
        two.rmdir("x/y")
        two.rmdir("x")
        shown = await in_step(one, two)
        assert shown == {"x": None, "x/y": None, "x/y/a": b"first second"}

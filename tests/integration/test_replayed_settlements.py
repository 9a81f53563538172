"""A device ends after it settled a conflict, while something else keeps its journal from going.

Data flow: two devices change one name or folder; one settles it, ends, starts again -> both hold
the same, and nothing of either is lost.
"""

from pathlib import Path

import pytest

from parsec_fs.protocol.errors import LocalError, OfflineError
from parsec_fs.workspace import names
from parsec_fs.workspace.nodes import ROOT_INODE
from tests.support.laptops import Laptop, in_step, two_laptops


def keep_open(device: Laptop) -> None:
    """A file that is being written: nothing behind it leaves the journal."""
    fs = device.filesystem
    node = fs.call(lambda: names.make_file(fs.tree, ROOT_INODE, b"open", 0o644, (0, 0), fs.clock()))
    fs.write(node, 0, b"w" * 2000)


async def settle_and_end(one: Laptop, two: Laptop, *, killed: bool) -> None:
    """One hears of what two did, settles it, logs it, and starts again."""
    await two.push()
    await one.pull()
    one.filesystem.flush()
    await one.workspace.sync.push_once()
    await one.restart(killed=killed)


async def exchange(one: Laptop, two: Laptop) -> None:
    """All that can be sent; the open file stays behind."""
    for _ in range(4):
        await one.workspace.sync.push_once()
        await one.pull()
    await two.pull()


@pytest.mark.parametrize("killed", [False, True])
async def test_a_folder_that_both_moved_is_where_it_was_put(tmp_path: Path, killed: bool) -> None:
    async with two_laptops(tmp_path) as (one, two):
        one.mkdir("P")
        one.mkdir("P/A")
        one.make("P/A/a", b"a")
        await in_step(one, two)
        keep_open(one)
        one.rename("P/A", "P/X")
        two.rename("P/A", "P/Y")
        await settle_and_end(one, two, killed=killed)
        with pytest.raises(LocalError, match="ENOTEMPTY"):
            one.rmdir("P")
        await exchange(one, two)
        assert (await two.walk())["P/Y/a"] == b"a"


@pytest.mark.parametrize("killed", [False, True])
async def test_of_two_files_with_one_name_both_stay(tmp_path: Path, killed: bool) -> None:
    async with two_laptops(tmp_path) as (one, two):
        await in_step(one, two)
        keep_open(one)
        one.make("n", b"one")
        two.make("n", b"two")
        await settle_and_end(one, two, killed=killed)
        await exchange(one, two)
        shown = await two.walk()
        copies = [content for name, content in shown.items() if name.startswith("n (conflict")]
        assert (shown["n"], copies) == (b"two", [b"one"])


async def test_a_new_folder_that_both_moved_has_one_place(tmp_path: Path) -> None:
    """One made it, and has not heard that it is logged when the other moves it."""
    async with two_laptops(tmp_path) as (one, two):
        one.mkdir("d")
        one.mkdir("d/b")
        one.wire.cut_answers = True
        with pytest.raises(OfflineError):
            await one.push()
        one.wire.cut_answers = False
        await two.pull()
        two.mkdir("d/c")
        two.rename("d/b", "b")
        await two.push()
        one.rename("d", "c")
        one.rename("c/b", "d")
        assert set(await in_step(one, two)) == {"b", "c", "c/c"}

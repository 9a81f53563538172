"""A folder that is being listed while other devices change it: every name that stays, exactly once.

Data flow: two devices -> one lists a large folder in pieces, as the kernel does, through the
    handlers of the mount; between the pieces it takes over what the other one has logged.
"""

import os
from pathlib import Path
from types import SimpleNamespace

import pyfuse3
import pytest

from parsec_fs.mount.attributes import Attributes
from parsec_fs.mount.control import LocalFacts
from parsec_fs.mount.operations import Operations
from parsec_fs.workspace.gate import Gate
from tests.support.laptops import Laptop, two_laptops

CALLER = SimpleNamespace(uid=0, gid=0, pid=1, umask=0o22)
PIECE = 100
COUNT = 1010


class Lister:
    """One open folder, read as the kernel does: from where the last answer ended."""

    def __init__(self, one: Laptop, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(pyfuse3, "readdir_reply", self._reply)
        self._operations = Operations(
            one.filesystem, Gate(), LocalFacts(one.filesystem.tree), Attributes(None)
        )
        self._next = self._left = self._fh = 0
        self.found: list[str] = []

    async def open(self, inode: int) -> None:
        """opendir."""
        self._fh = await self._operations.opendir(inode, CALLER)

    async def piece(self) -> bool:
        """One readdir; True iff there may be more."""
        self._left, before = PIECE, len(self.found)
        await self._operations.readdir(self._fh, self._next, None)
        return len(self.found) > before

    async def rest(self) -> list[str]:
        """Until the end; all names."""
        while await self.piece():
            pass
        await self._operations.releasedir(self._fh)
        return self.found

    def _reply(self, token: None, name: bytes, attributes: object, next_id: int) -> bool:
        if not self._left:
            return False
        self._left -= 1
        self._next = next_id
        self.found.append(os.fsdecode(name))
        return True


async def test_every_name_that_stays_is_listed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with two_laptops(tmp_path) as (one, two):
        one.mkdir("folder")
        for number in range(COUNT):
            one.make(f"folder/{number}", b"1")
        await one.push()
        await two.pull()
        lister = Lister(two, monkeypatch)
        await lister.open(two.node("folder").inode)
        gone, moved, replaced = range(0, COUNT, 25), range(1, COUNT, 25), range(2, COUNT, 25)
        for step in range(4):
            assert await lister.piece()
            for number in gone[step::4]:
                one.unlink(f"folder/{number}")
            for number in moved[step::4]:
                one.rename(f"folder/{number}", f"folder/moved {number}")
            for number in replaced[step::4]:
                # As editors save: the name is there all the time.
                one.make("folder/saved", b"2")
                one.rename("folder/saved", f"folder/{number}")
            one.write(f"folder/{25 * step + 3}", b"changed")
            await one.push()
            await two.pull()
        names = await lister.rest()
        assert len(set(names)) == len(names)
        stay = {str(number) for number in range(COUNT)}
        stay -= {str(number) for number in (*gone, *moved)}
        assert stay | {".", ".."} <= set(names)
        assert all(name.isdigit() for name in set(names) - {".", ".."}), "a listing is a snapshot"
        again = Lister(two, monkeypatch)
        await again.open(two.node("folder").inode)
        now = await again.rest()
        assert sorted(now) == sorted({".", "..", *stay, *(f"moved {number}" for number in moved)})


async def test_a_folder_that_is_deleted_while_it_is_listed_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with two_laptops(tmp_path) as (one, two):
        one.mkdir("folder")
        for number in range(2 * PIECE):
            one.make(f"folder/{number}", b"1")
        await one.push()
        await two.pull()
        lister = Lister(two, monkeypatch)
        await lister.open(two.node("folder").inode)
        assert await lister.piece()
        for number in range(2 * PIECE):
            one.unlink(f"folder/{number}")
        one.rmdir("folder")
        await one.push()
        await two.pull()
        assert len(await lister.rest()) == PIECE

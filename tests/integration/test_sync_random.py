"""Two devices do random things and synchronise at random moments: both end up the same.

The local stores must hold together too: nothing is named that does not exist, links are counted
right, and a third device that starts from nothing shows the same.
"""

import errno
import random
from pathlib import Path

import pytest

from parsec_fs.protocol.errors import LocalError
from tests.support.laptops import Laptop, found, in_step, laptop, second_device
from tests.support.server import in_process

STEPS = 60
REFUSED = {errno.EEXIST, errno.ENOTEMPTY, errno.EINVAL, errno.EISDIR, errno.ENOTDIR, errno.ENOENT}


class Person:
    """Does one random thing after the other. Few names, so that people meet."""

    def __init__(self, device: Laptop, dice: random.Random) -> None:
        self.device = device
        self.dice = dice
        self.written = 0

    async def act(self) -> None:
        """One thing; what the rules of POSIX refuse is no failure."""
        paths = await self.device.walk()
        folders = ["", *(path for path, content in paths.items() if content is None)]
        files = [path for path, content in paths.items() if content is not None]
        new = "/".join(filter(None, (self.dice.choice(folders), self.dice.choice("abcd"))))
        what = self.dice.choice(("make", "make", "mkdir", "write", "unlink", "rename", "rmdir"))
        try:
            self._do(what, new, files, folders[1:])
        except LocalError as error:
            if error.errno not in REFUSED:
                raise

    def _do(self, what: str, new: str, files: list[str], folders: list[str]) -> None:
        self.written += 1
        content = f"{self.device.name} {self.written}".encode()
        if what == "make":
            self.device.make(new, content)
        elif what == "mkdir":
            self.device.mkdir(new)
        elif what == "rename" and files + folders:
            self.device.rename(self.dice.choice(files + folders), new)
        elif what == "write" and files:
            self.device.write(self.dice.choice(files), content)
        elif what == "unlink" and files:
            self.device.unlink(self.dice.choice(files))
        elif what == "rmdir" and folders:
            self.device.rmdir(self.dice.choice(folders))


HARD = (383, 387, 461)
"""Histories in which moved, replaced and deleted folders met."""


@pytest.mark.parametrize("seed", [*range(12), *HARD])
async def test_everybody_ends_up_the_same(tmp_path: Path, seed: int) -> None:
    dice = random.Random(seed)
    async with in_process(tmp_path / "server") as server:
        alice = await found(server)
        async with laptop(server, alice, tmp_path / "one", "one") as one:
            realm = await one.create_realm()
            await one.open(realm)
            await one.push()
            other, third = await second_device(one), await second_device(one)
            async with laptop(server, other, tmp_path / "two", "two") as two:
                await two.open(realm)
                people = [Person(one, dice), Person(two, dice)]
                for _ in range(STEPS):
                    person = dice.choice(people)
                    await person.act()
                    if dice.random() < 0.15:
                        await person.device.push()
                    if dice.random() < 0.1:
                        await person.device.pull()
                shown = await in_step(one, two)
                async with laptop(server, third, tmp_path / "three", "three") as three:
                    await three.open(realm)
                    assert await three.walk() == shown

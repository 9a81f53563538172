"""Days without each other: three devices, random partitions, and a model of what must survive.

Data flow: seed -> `history` (steps as plain numbers) -> `Story.play` (real devices and server) ->
    `Story.check` (what everybody shows, against what everybody did).

The model knows no rules of merging. It watches what each person sees before and after each thing
they do: a content that was shown to somebody and is gone by what they did is theirs to lose;
everything else that was ever written must be there in the end, once.
"""

import errno
import random
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from parsec_fs.protocol.errors import LocalError, OfflineError
from tests.support.deeds import Deed
from tests.support.laptops import Laptop, in_step

REFUSED: Final = {
    errno.EEXIST,
    errno.ENOTEMPTY,
    errno.EINVAL,
    errno.EISDIR,
    errno.ENOTDIR,
    errno.ENOENT,
}
"""What POSIX refuses is no failure."""

POINTS: Final = ("after_outbox", "after_send", "after_store")
MEETING: Final = ("pull", "push", "lost")
ENDING: Final = ("restart", "kill", "die")


@dataclass(frozen=True, slots=True)
class Kind:
    """How a history goes: weights of what people do, and how often devices meet (`sync`), are cut
    off or back (`cut`), and start again (`restart`), each per step."""

    doing: dict[str, int]
    sync: float
    cut: float
    restart: float


ORDINARY: Final = Kind(
    {
        "make": 6,
        "append": 4,
        "write": 4,
        "mkdir": 3,
        "rename": 4,
        "move": 2,
        "unlink": 3,
        "rmdir": 2,
    }
    | {"link": 1, "swap": 1, "chmod": 1, "replace": 2},
    sync=0.25,
    cut=0.05,
    restart=0.0,
)
FOLDERS: Final = Kind(
    {
        "make": 3,
        "write": 1,
        "mkdir": 6,
        "rename": 4,
        "move": 10,
        "unlink": 2,
        "rmdir": 5,
        "swap": 1,
    },
    sync=0.15,
    cut=0.02,
    restart=0.0,
)
DAYS: Final = Kind(ORDINARY.doing, sync=0.04, cut=0.03, restart=0.0)
"""Nearly everything happens while the devices do not meet."""


@dataclass(frozen=True, slots=True)
class Step:
    """Something one of the devices does; the numbers choose among what is there then."""

    who: int
    what: str
    first: int = 0
    second: int = 0
    third: int = 0


def history(seed: int, kind: Kind, *, devices: int = 3, steps: int = 60) -> list[Step]:
    """The steps of a random history."""
    dice = random.Random(seed)
    doing, weights = list(kind.doing), list(kind.doing.values())
    found = []
    for _ in range(steps):
        who, numbers = dice.randrange(devices), [dice.randrange(1 << 16) for _ in range(3)]
        found.append(Step(who, dice.choices(doing, weights)[0], *numbers))
        if dice.random() < kind.sync:
            found.append(Step(dice.randrange(devices), dice.choice(("push", "pull", "lost"))))
        if dice.random() < kind.cut:
            found.append(Step(dice.randrange(devices), dice.choice(("cut", "join"))))
        if dice.random() < kind.restart:
            what = dice.choice(("restart", "die"))
            found.append(Step(dice.randrange(devices), what, dice.randrange(1 << 16)))
    return found


def with_restarts(steps: Sequence[Step], seed: int, share: float) -> list[Step]:
    """The same steps, and in between devices that end (by themselves, killed, or killed while they
    send) and start again: mostly those that have just met the server."""
    dice = random.Random(seed)
    found = []
    for step in steps:
        found.append(step)
        if dice.random() < (share if step.what not in MEETING else 3 * share):
            what = dice.choice(("restart", "kill", "kill", "die"))
            found.append(Step(step.who, what, dice.randrange(1 << 16)))
    return found


class Died(Exception):
    """The moment of a crash."""


@dataclass
class Story:
    """Devices, and what the people at them did. `written`: every content ever; `given_up`: those
    that somebody saw and then replaced or deleted."""

    devices: Sequence[Laptop]
    written: set[bytes] = field(default_factory=set)
    given_up: set[bytes] = field(default_factory=set)
    lines: int = 0

    async def play(self, steps: Sequence[Step]) -> None:
        """One step after the other."""
        for step in steps:
            device = self.devices[step.who]
            if step.what in (*MEETING, *ENDING, "cut", "join"):
                await self._meet(device, step)
            else:
                await self._act(device, step)

    async def tell(self, story: str) -> None:
        """One deed a line, in paths: `DEVICE WHAT PATH [NEW_PATH or WORD]`, or `DEVICE MEETING`.
        What a device writes is the word."""
        called = [device.name for device in self.devices]
        for told in filter(None, map(str.strip, story.splitlines())):
            who, what, *words = told.split()
            if what in (*MEETING, *ENDING, "cut", "join"):
                first = POINTS.index(words[0]) if words else 0
                await self.play([Step(called.index(who), what, first)])
            else:
                device = self.devices[called.index(who)]
                await self._watch(device, Deed.told(what, *words), await device.walk())

    async def check(self) -> dict[str, bytes | None]:
        """Everybody is back and shows the same, nothing is lost, nothing is there twice."""
        for device in self.devices:
            device.wire.cut = False
        shown = await in_step(*self.devices)
        contents = {content for content in shown.values() if content is not None}
        lost = self.written - self.given_up - contents
        assert not lost, f"lost: {sorted(lost)}"
        self._check_once(shown)
        return shown

    def _check_once(self, shown: dict[str, bytes | None]) -> None:
        """Nothing was done twice: no line is twice in a file, no content is in two files."""
        places: dict[bytes, set[bytes]] = {}
        for path, content in shown.items():
            if content is not None:
                lines = content.splitlines()
                assert len(set(lines)) == len(lines), f"{path}: {content!r}"
                places.setdefault(content, set()).add(self.devices[0].node(path).id)
        twice = {content for content, ids in places.items() if len(ids) > 1}
        assert not twice, f"twice: {sorted(twice)}"

    # What people do

    async def _act(self, device: Laptop, step: Step) -> None:
        try:
            before = await device.walk()
            await self._watch(device, self._chosen(device, step, before), before)
        except LocalError as error:
            if error.errno not in REFUSED:
                raise

    async def _watch(
        self, device: Laptop, deed: Deed | None, before: dict[str, bytes | None]
    ) -> None:
        written = deed.done(device, before) if deed is not None else None
        after = await device.walk()
        if written is not None:
            self.written.add(written)
        self.given_up |= _contents(before) - _contents(after)

    def _chosen(self, device: Laptop, step: Step, paths: dict[str, bytes | None]) -> Deed | None:
        """None: there is nothing to do it with."""
        folders = [path for path, content in paths.items() if content is None]
        files = [path for path, content in paths.items() if content is not None]
        above = _pick(["", *folders], step.first)
        new = f"{above}/{'abcd'[step.second % 4]}".lstrip("/")
        old = _pick(files, step.third)
        folder = _pick(folders, step.third)
        self.lines += 1
        line = f"{device.name} {self.lines}\n".encode()
        match step.what:
            case "make":
                return Deed("make", new, line=line)
            case "mkdir":
                return Deed("mkdir", new)
            case "move" if folder:
                return Deed("rename", folder, new)
            case "rmdir" if folder:
                return Deed("rmdir", folder)
            case "replace" if old and new not in folders:
                return Deed("replace", old, line=line)
            case "swap" if old and new in paths:
                return Deed("swap", old, new)
            case "write" | "append" | "unlink" if old:
                return Deed(step.what, old, line=line)
            case "rename" | "link" if old:
                return Deed(step.what, old, new)
            case "chmod" if old:
                return Deed("chmod", old, mode=0o600 + step.second % 0o100)
        return None

    # When devices meet

    async def _meet(self, device: Laptop, step: Step) -> None:
        match step.what:
            case "cut" | "join":
                device.wire.cut = step.what == "cut"
            case "restart":
                await device.restart()
            case "kill":
                await device.restart(killed=True)
            case "die":
                await self._die(device, POINTS[step.first % len(POINTS)])
            case "pull":
                with suppress(OfflineError):
                    await device.pull()
            case "push":
                with suppress(OfflineError):
                    await device.push()
            case "lost":
                device.wire.cut_answers = True
                with suppress(OfflineError):
                    await device.push()
                device.wire.cut_answers = False

    async def _die(self, device: Laptop, point: str) -> None:
        def die(reached: str) -> None:
            if reached == point:
                raise Died

        device.hook = die
        with suppress(OfflineError, Died):
            await device.push()
        device.hook = lambda point: None
        await device.restart(killed=True)


def _pick(paths: Sequence[str], number: int) -> str:
    return paths[number % len(paths)] if paths else ""


def _contents(shown: dict[str, bytes | None]) -> set[bytes]:
    return {content for content in shown.values() if content is not None}

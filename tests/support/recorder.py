"""A writer on a mount that records outside of it what it was promised: every change it fsynced.

usage: python -m tests.support.recorder FOLDER FACTS SEED COUNT ARMED

Data flow: random changes of FOLDER -> fsync -> a line in FACTS -> (the daemon is killed, the folder
mounted again) -> `Facts.check` -> what is not as it was promised.

A change is written to FACTS before it begins and once more when its last fsync has returned, so at
most one is in doubt. After the fourth change the file ARMED is made. Exit code 3 when the mount has
gone away.
"""

import json
import os
import random
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

FOLDERS: Final = ("one", "two")
NEW: Final = ".new"
SIZES: Final = (0, 100, 5_000, 30_000, 200_000, 1_300_000)
LOOSE_SIZE: Final = 700
GONE: Final = 3
ARM_AFTER: Final = 4

Pieces = list[list[int]]
"""Content: (number of a change, how many of its bytes), one after the other."""
Change = dict[str, Any]


@lru_cache(64)
def _piece(number: int) -> bytes:
    return random.Random(number).randbytes(max(SIZES))


def content(pieces: Pieces) -> bytes:
    """The bytes of a file."""
    return b"".join(_piece(number)[:size] for number, size in pieces)


def loose_content(number: int) -> bytes:
    """The bytes of a file that is never fsynced."""
    return _piece(-1 - number)[:LOOSE_SIZE]


@dataclass(slots=True)
class Facts:
    """What must be in the folder. `loose` counts files that were made without fsync, one after the
    other; `loose_kept` of them were made before something else was fsynced."""

    files: dict[str, Pieces] = field(default_factory=dict)
    begun: Change | None = None
    number: int = 0
    loose: int = 0
    loose_kept: int = 0
    fsynced: int = 0

    def line(self, line: Change) -> None:
        """One line of the record."""
        if line["what"] == "loose":
            self.loose += 1
        elif line["what"] == "done":
            assert self.begun is not None
            self.files = after(self.files, self.begun)
            self.begun, self.loose_kept = None, self.loose
            self.fsynced += 1
        else:
            self.begun = line
            self.number = max(self.number, line.get("number", 0))

    def check(self, folder: Path) -> list[str]:
        """What is lost, torn, or there without having been written; then goes on with what is
        there."""
        found = {
            f"{part}/{path.name}": path.read_bytes()
            for part in FOLDERS
            for path in (folder / part).iterdir()
        }
        possible = [self.files, *_in_doubt(self.files, self.begun, found)]
        faults = min((list(_differences(one, found)) for one in possible), key=len)
        fitting = [one for one in possible if not list(_differences(one, found))]
        self.files, self.begun = (fitting or [self.files])[0], None
        return faults + list(self._check_loose(folder))

    def _check_loose(self, folder: Path) -> Iterator[str]:
        """They are there in the order in which they were made; only the last one may be partial."""
        found = {int(path.stem): path.read_bytes() for path in folder.glob("*.loose")}
        whole = [number for number, data in found.items() if data == loose_content(number)]
        if sorted(found)[: len(whole)] != list(range(len(whole))) or len(found) - len(whole) > 1:
            yield f"not in the order in which they were made: {sorted(found)}, whole: {whole}"
        if len(whole) < self.loose_kept:
            yield f"made before an fsync: {self.loose_kept}, there: {len(whole)}"
        for number in set(found) - set(whole):
            if not loose_content(number).startswith(found[number]):
                yield f"{number}.loose is torn"
        self.loose = self.loose_kept = len(whole)


def after(files: dict[str, Pieces], change: Change) -> dict[str, Pieces]:
    """The files once a change has happened."""
    files = dict(files)
    path, what = change["path"], change["what"]
    if what == "save":
        files[path] = [[change["number"], change["size"]]]
    elif what == "append":
        files[path] = [*files.get(path, []), [change["number"], change["size"]]]
    elif what == "move":
        files[change["to"]] = files.pop(path)
    else:
        del files[path]
    return files


def _in_doubt(
    files: dict[str, Pieces], change: Change | None, found: dict[str, bytes]
) -> Iterator[dict[str, Pieces]]:
    """What may be there if the change that had begun happened, or half of it: of a file that is
    written anew or appended to, the first bytes."""
    if change is None:
        return
    yield after(files, change)
    if change["what"] == "save":
        size = len(found.get(change["path"] + NEW, b""))
        yield files | {change["path"] + NEW: [[change["number"], min(size, change["size"])]]}
    if change["what"] == "append":
        old = files.get(change["path"], [])
        size = len(found.get(change["path"], b"")) - sum(size for _, size in old)
        if 0 <= size <= change["size"]:
            yield files | {change["path"]: [*old, [change["number"], size]]}


def _differences(files: dict[str, Pieces], found: dict[str, bytes]) -> Iterator[str]:
    for path in sorted(files.keys() | found.keys()):
        if path not in found:
            yield f"{path} is lost"
        elif path not in files:
            yield f"{path} should not be there"
        elif found[path] != content(files[path]):
            yield f"{path} is torn: {len(found[path])} bytes instead of {files[path]}"


def read_facts(path: Path) -> Facts:
    """The record so far. Numbers of changes are never used twice."""
    facts = Facts()
    if path.exists():
        first, *lines = path.read_text().splitlines()
        facts = Facts(**json.loads(first))
        for line in lines:
            facts.line(json.loads(line))
    return facts


def write_facts(path: Path, facts: Facts) -> None:
    """Begin a record with what is known."""
    state = {name: getattr(facts, name) for name in ("files", "number", "loose", "loose_kept")}
    path.write_text(json.dumps(state) + "\n")


class Recorder:
    """Makes changes."""

    def __init__(self, folder: Path, record: Path, chance: random.Random) -> None:
        self.folder = folder
        self.chance = chance
        self.facts = read_facts(record)
        self.output = os.open(record, os.O_WRONLY | os.O_APPEND)

    def say(self, line: Change) -> None:
        """Into the record, before it is true of the folder."""
        os.write(self.output, json.dumps(line).encode() + b"\n")
        self.facts.line(line)

    def one(self) -> None:
        """A random change, made durable; before it sometimes one that is not."""
        if self.chance.random() < 0.3:
            self.make_loose()
        left = [path for path in self.facts.files if path.endswith(NEW)]
        change = {"what": "unlink", "path": left[0]} if left else self.choose()
        self.say(change)
        getattr(self, change["what"])(change)
        self.say({"what": "done"})

    def choose(self) -> Change:
        """Which change is next."""
        number, size = self.facts.number + 1, self.chance.choice(SIZES)
        what = self.chance.choices(("save", "append", "move", "unlink"), (8, 5, 2, 1))[0]
        existing = sorted(self.facts.files)
        if what in ("move", "unlink") and existing:
            path = self.chance.choice(existing)
            to = FOLDERS[path.startswith(FOLDERS[0])] + path[path.index("/") :]
            if what == "unlink":
                return {"what": what, "path": path}
            if to not in self.facts.files:
                return {"what": what, "path": path, "to": to}
        kind = "log" if what == "append" else "saved"
        path = f"{self.chance.choice(FOLDERS)}/{kind}-{self.chance.randrange(4)}"
        what = "append" if kind == "log" else "save"
        return {"what": what, "path": path, "number": number, "size": size}

    def make_loose(self) -> None:
        """A file that nobody fsyncs."""
        number = self.facts.loose
        self.say({"what": "loose"})
        (self.folder / f"{number}.loose").write_bytes(loose_content(number))

    def save(self, change: Change) -> None:
        """As an editor saves."""
        target = self.folder / change["path"]
        self.write(f"{target}{NEW}", os.O_TRUNC, change)
        os.rename(f"{target}{NEW}", target)
        self.sync(target.parent)

    def append(self, change: Change) -> None:
        """As a log is written."""
        target = self.folder / change["path"]
        self.write(str(target), os.O_APPEND, change)
        self.sync(target.parent)

    def write(self, path: str, how: int, change: Change) -> None:
        """Write, fsync."""
        data = memoryview(content([[change["number"], change["size"]]]))
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | how, 0o644)
        try:
            while data:
                data = data[os.write(fd, data) :]
            os.fsync(fd)
        finally:
            os.close(fd)

    def move(self, change: Change) -> None:
        """To the other folder."""
        source, target = self.folder / change["path"], self.folder / change["to"]
        os.rename(source, target)
        self.sync(source.parent)
        self.sync(target.parent)

    def unlink(self, change: Change) -> None:
        """Gone for good."""
        os.unlink(self.folder / change["path"])
        self.sync((self.folder / change["path"]).parent)

    def sync(self, folder: Path) -> None:
        """fsync of a folder."""
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def main() -> None:
    """Command line."""
    folder, record, seed, count, armed = sys.argv[1:]
    recorder = Recorder(Path(folder), Path(record), random.Random(seed))
    for number in range(int(count)):
        if number == ARM_AFTER:
            Path(armed).touch()
        try:
            recorder.one()
        except OSError as error:
            print(error, file=sys.stderr)
            sys.exit(GONE)


if __name__ == "__main__":
    main()

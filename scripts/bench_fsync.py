"""Work that waits for the disk, as `scripts/bench_mount` measures it: saving, SQLite, git.

Data flow: a folder, how often -> files that each transaction has made durable -> transactions per
second.

Every function does the whole transaction `count` times and waits for the disk in each, as the
programs do by themselves: nothing is batched, one after the other, by one process.
"""

import os
import sqlite3
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

PAGE: Final = 4096
_GIT: Final = ("git", "-c", "user.name=alice", "-c", "user.email=alice@example.org")
_GIT_FSYNC: Final = (
    "-c",
    "core.fsync=committed",
    "-c",
    "gc.auto=0",
    "-c",
    "maintenance.auto=false",
)
"""Git's own default leaves out the loose objects, of which a commit consists."""


def rate(count: int, one: Callable[[int], object]) -> float:
    """How many a second."""
    start = time.perf_counter()
    for number in range(count):
        one(number)
    return count / (time.perf_counter() - start)


def saves(folder: Path, count: int) -> float:
    """As an editor saves: new file, fsync, rename over the old one, fsync of the folder."""
    data = os.urandom(PAGE)
    inside = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)

    def save(number: int) -> None:
        fd = os.open(folder / "new", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        os.write(fd, data)
        os.fsync(fd)
        os.close(fd)
        os.rename(folder / "new", folder / f"saved-{number % 100}")
        os.fsync(inside)

    try:
        return rate(count, save)
    finally:
        os.close(inside)


def transactions(database: Path, count: int, *, journal: str) -> float:
    """SQLite with synchronous=FULL, one row per transaction; `journal` is WAL or DELETE."""
    connection = sqlite3.connect(database, isolation_level=None)
    try:
        (mode,) = connection.execute(f"PRAGMA journal_mode = {journal}").fetchone()
        if mode != journal.lower():
            raise AssertionError(f"SQLite works with {mode} instead of {journal}")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("CREATE TABLE kept (number INTEGER PRIMARY KEY, data BLOB)")
        row = os.urandom(100)
        insert = "INSERT INTO kept (data) VALUES (?)"
        return rate(count, lambda _: connection.execute(insert, (row,)))
    finally:
        connection.close()


def commits(repository: Path, count: int) -> float:
    """`git add` and `git commit` of a changed file; loose objects are fsynced as well."""
    subprocess.run([*_GIT, "init", "-q", str(repository)], check=True)
    command = [*_GIT, *_GIT_FSYNC, "-C", str(repository)]

    def commit(number: int) -> None:
        (repository / f"file-{number % 10}").write_bytes(os.urandom(PAGE))
        subprocess.run([*command, "add", "."], check=True)
        subprocess.run([*command, "commit", "-q", "-m", f"change {number}"], check=True)

    return rate(count, commit)

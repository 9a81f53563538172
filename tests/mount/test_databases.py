"""SQLite with several processes on the mount, in both of its journal modes, and killed daemons.

Data flow: writer and reader processes -> one database on the mount -> integrity and sums.

Money moves between accounts in transactions: whoever looks, whenever, must find the same sum.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.mounts import Daemon
from tests.support.programs import run
from tests.support.requirements import require_program

ACCOUNTS, EACH = 20, 100
WRITERS, TRANSFERS = 3, 40
MODES = {"wal": "full", "truncate": "full", "delete": "extra"}
"""Journal mode, and the level from which a commit is durable when it returns: who commits by
deleting its journal must synchronise the folder, which SQLite does at level extra."""

WRITER = f"""
import random, sqlite3, sys
path, number, mode, level = sys.argv[1], int(sys.argv[2]), *sys.argv[3:]
chance = random.Random(number)
database = sqlite3.connect(path, timeout=60, isolation_level=None)
assert database.execute(f"pragma journal_mode={{mode}}").fetchone() == (mode,)
database.execute(f"pragma synchronous={{level}}")
for turn in range({TRANSFERS}):
    source, target = chance.sample(range({ACCOUNTS}), 2)
    database.execute("begin immediate")
    database.execute("update account set money = money - 1 where id = ?", (source,))
    database.execute("update account set money = money + 1 where id = ?", (target,))
    database.execute("insert into transfer values (?, ?, randomblob(3000))", (number, turn))
    database.execute("commit")
    print(turn, flush=True)
"""

READER = f"""
import sqlite3, sys
database = sqlite3.connect(sys.argv[1], timeout=60)
print("reading", flush=True)
looked = 0
while database.execute("select count(*) from transfer").fetchone()[0] < {WRITERS * TRANSFERS}:
    assert database.execute("select sum(money) from account").fetchone()[0] == {ACCOUNTS * EACH}
    database.commit()
    looked += 1
print(looked, flush=True)
"""


def sqlite(database: Path, script: str) -> list[str]:
    """What the command-line program prints."""
    require_program("sqlite3", "install sqlite3")
    return run("sqlite3", database, script).splitlines()


def create(database: Path, mode: str) -> None:
    """Accounts with the same money each."""
    script = f"pragma journal_mode={mode}; create table account(id integer primary key, money);"
    script += "create table transfer(writer, turn, note, primary key(writer, turn));"
    script += "".join(f"insert into account values({id}, {EACH});" for id in range(ACCOUNTS))
    assert sqlite(database, script) == [mode]


def started(program: str, *arguments: str | Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", program, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def check(database: Path) -> None:
    """Nothing is damaged, no money was made or lost."""
    assert sqlite(database, "pragma integrity_check") == ["ok"]
    assert sqlite(database, "select sum(money) from account") == [str(ACCOUNTS * EACH)]


@pytest.mark.parametrize("mode", MODES)
def test_several_processes_share_a_database(folder: Path, mode: str) -> None:
    database = folder / "bank.db"
    create(database, mode)
    programs = [
        started(WRITER, database, str(number), mode, MODES[mode]) for number in range(WRITERS)
    ]
    programs.append(started(READER, database))
    for program in programs:
        output, complaint = program.communicate(timeout=120)
        assert (program.returncode, complaint) == (0, ""), output
    check(database)
    counted = sqlite(database, "select count(*) from transfer")
    assert counted == [str(WRITERS * TRANSFERS)]


@pytest.mark.parametrize("mode", MODES)
def test_what_was_committed_survives_a_killed_daemon(fresh: Daemon, mode: str) -> None:
    """A commit that returned is there; one that was under way is there or rolled back."""
    database = fresh.path / "bank.db"
    create(database, mode)
    for number in range(4):
        writer = started(WRITER, database, str(number), mode, MODES[mode])
        assert writer.stdout is not None
        said = [writer.stdout.readline() for _ in range(5 + number * 3)]
        assert writer.poll() is None
        fresh.kill()
        said += writer.communicate(timeout=60)[0].splitlines()
        fresh.start()
        check(database)
        found = sqlite(database, f"select count(*) from transfer where writer = {number}")
        assert int(found[0]) >= len(said)

"""A row of the benchmark counts only if all that it changed is audited in the end.

Data flow: counts of the daemon after each row and in the end -> rows that are invalid.
"""

import runpy
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"
if str(SCRIPTS) not in sys.path:
    sys.path.append(str(SCRIPTS))

import bench_fsync  # noqa: E402
from bench_product import Changes, Measured, unaudited  # noqa: E402


def row(name: str, local: int, logged: int) -> Measured:
    return Measured(row=name, value=1.0, after=Changes(local=local, logged=logged, audited=0))


ROWS = [row("create", 0, 10), row("write", 5, 12), row("unlink", 0, 20)]


@pytest.mark.parametrize(
    ("end", "invalid"),
    [
        (Changes(local=0, logged=20, audited=20), set()),
        (Changes(local=0, logged=20, audited=19), {"write", "unlink"}),
        (Changes(local=1, logged=20, audited=20), {"write"}),
        (Changes(local=0, logged=20, audited=9), {"create", "write", "unlink"}),
    ],
)
def test_rows_that_are_not_audited_are_invalid(end: Changes, invalid: set[str]) -> None:
    assert unaudited(ROWS, end) == invalid


def test_rows_without_counts_are_not_judged() -> None:
    end = Changes(local=1, logged=1, audited=0)
    assert unaudited([Measured(row="create", value=1.0, after=None)], end) == set()


def test_no_ratio_where_the_floor_is_noisy_or_a_row_invalid() -> None:
    no_ratio = runpy.run_path(str(SCRIPTS / "bench_mount"))["no_ratio"]
    quiet = {"parsec-fs": {"create": [9.0]}, "floor": {"create": [100.0, 110.0, 120.0]}}
    noisy = {"parsec-fs": {"create": [9.0]}, "floor": {"create": [100.0, 110.0, 140.0]}}
    assert no_ratio(quiet, "create", set()) == ""
    assert no_ratio(noisy, "create", set()) == "(noisy)"
    assert no_ratio(quiet, "create", {"create"}) == "(invalid)"


def test_fsync_rows_do_what_they_count(tmp_path: Path) -> None:
    saved = tmp_path / "saved"
    saved.mkdir()
    assert bench_fsync.saves(saved, 3) > 0
    assert {len(path.read_bytes()) for path in saved.iterdir()} == {bench_fsync.PAGE}
    assert sorted(path.name for path in saved.iterdir()) == ["saved-0", "saved-1", "saved-2"]
    for journal in ("WAL", "DELETE"):
        database = tmp_path / journal
        assert bench_fsync.transactions(database, 3, journal=journal) > 0
        assert sqlite3.connect(database).execute("SELECT count(*) FROM kept").fetchone() == (3,)
    assert bench_fsync.commits(tmp_path / "repository", 2) > 0
    count = ["git", "-C", str(tmp_path / "repository"), "rev-list", "--count", "HEAD"]
    assert subprocess.run(count, check=True, capture_output=True).stdout == b"2\n"

"""A row of the benchmark counts only if all that it changed is audited in the end.

Data flow: counts of the daemon after each row and in the end -> rows that are invalid.
"""

import runpy
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"
if str(SCRIPTS) not in sys.path:
    sys.path.append(str(SCRIPTS))

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

"""How the output of pjdfstest is read: nothing that it says is lost.

Data flow: output of a suite, either of the two -> `parse` -> verdict, or AssertionError.
"""

from pathlib import Path

import pytest

from tests.support import classic_suite
from tests.support.posix_suites import Profile, accounts, configuration, parse

OUTPUT = """\
chmod::change_perm::fifo                                     ok
open::open_trunc                                             FAILED
\tTimestamps did not change as expected
link::link_count_max                                         skipped
\tfilesystem limit is unknown

Summary: 1 failed, 1 skipped, 1 passed, 0 expected failures, 3 total
"""


def test_every_result_is_kept_with_its_reason() -> None:
    verdict = parse(OUTPUT)
    assert verdict.passed == ("chmod::change_perm::fifo",)
    assert verdict.failed == {"open::open_trunc": "Timestamps did not change as expected"}
    assert verdict.skipped == {"link::link_count_max": "filesystem limit is unknown"}
    assert str(verdict).splitlines() == [
        "1 passed, 1 failed, 1 skipped",
        "  FAILED open::open_trunc: Timestamps did not change as expected",
        "  skipped, filesystem limit is unknown: link::link_count_max",
    ]


@pytest.mark.parametrize(
    "output",
    [
        "",
        OUTPUT.splitlines()[0],
        OUTPUT.replace("1 passed", "2 passed"),
        OUTPUT.replace("FAILED", "ok"),
    ],
)
def test_output_that_does_not_add_up_is_no_verdict(output: str) -> None:
    with pytest.raises(AssertionError):
        parse(output)


def test_configurations() -> None:
    assert len({group for _, group in accounts()}) == 2
    assert "root" not in {name for entry in accounts() for name in entry}
    assert all(user in configuration() for user, _ in accounts())
    written = Profile(name="x", length=7, longest=3).configuration()
    assert written.startswith("flen = 7\n[opsize]\nmin = 1\nmax = 3\n")


TAP = """\
1..6
ok 1
not ok 2 - tried 'mkdir x 0755', expected 0, got EPERM
ok 3 # TODO elsewhere
not ok 4 # TODO known to its authors
noise
ok 6
"""


def test_every_planned_check_is_counted_once() -> None:
    assert classic_suite.parse("mkdir/00.t", TAP) == (
        4,
        (
            "mkdir/00.t: not ok 2 - tried 'mkdir x 0755', expected 0, got EPERM",
            "mkdir/00.t: check 5 never came",
        ),
    )
    assert classic_suite.parse("a.t", "1..0 # SKIP not here\n") == (0, ())


@pytest.mark.parametrize("output", ["", "ok 1\n", "sh: cannot open misc.sh\n"])
def test_a_script_without_a_plan_has_failed(output: str) -> None:
    assert classic_suite.parse("a.t", output) == (0, ("a.t: printed no plan",))


def test_a_tree_that_is_not_built_is_refused_with_the_next_command(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="make pjdfstest"):
        classic_suite.check_built(tmp_path)


def test_the_table_sums_up_and_names_what_failed() -> None:
    groups = [
        classic_suite.Group(name="link", passed=3, failures=()),
        classic_suite.Group(name="mkdir", passed=4, failures=("mkdir/00.t: not ok 2",)),
    ]
    assert [line.split() for line in classic_suite.table(groups).splitlines()] == [
        ["link", "3", "passed", "0", "failed"],
        ["mkdir", "4", "passed", "1", "failed"],
        ["all", "7", "passed", "1", "failed"],
        ["FAILED", "mkdir/00.t:", "not", "ok", "2"],
    ]

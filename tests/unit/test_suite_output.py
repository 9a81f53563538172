"""How the output of pjdfstest is read: nothing that it says is lost.

Data flow: output of a suite -> `parse` -> verdict, or AssertionError.
"""

import pytest

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

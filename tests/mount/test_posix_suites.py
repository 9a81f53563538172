"""pjdfstest and fsx, written by others, on real mounts.

Data flow: suites -> kernel -> mount -> verdicts; what may be skipped, and why, is in
    docs/filesystem-semantics.md.
"""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.fsx_rounds import fsx_rounds
from tests.support.installation import installation
from tests.support.mounts import Daemon, mounted
from tests.support.posix_suites import Verdict, start_pjdfstest, verdict_of
from tests.support.requirements import require_fuse

TESTS = 398
LINK_MAX = "link::link_count_max"
OPERATIONS_PER_RUN = 4_200


@pytest.fixture
def reachable() -> Iterator[Path]:
    """A folder that every account can reach (those of pytest are closed to all but their owner)."""
    if os.geteuid() != 0:
        pytest.skip("only root can act as several users: run the tests as root")
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o711)
        yield Path(name)


def run(folder: Path, work: Path) -> Verdict:
    """The whole suite in a folder that every account can reach."""
    return verdict_of(start_pjdfstest(folder, work))


def check(verdict: Verdict) -> None:
    """Nothing failed; skipped is only what no FUSE file system can be asked."""
    assert verdict.failed == {}, str(verdict)
    allowed = {name for name in verdict.skipped if "erofs" in name} | {LINK_MAX}
    assert set(verdict.skipped) == allowed, str(verdict)
    assert all("allow_remount" in verdict.skipped[name] for name in allowed - {LINK_MAX})
    assert len(verdict.skipped) == 14
    assert len(verdict.passed) + len(verdict.skipped) == TESTS


def test_pjdfstest_one_and_four_at_once(reachable: Path, tmp_path: Path) -> None:
    require_fuse()
    with mounted(reachable, "--stored-owners") as daemon:
        check(run(daemon.path, tmp_path))
        works = [tmp_path / str(number) for number in range(4)]
        for work in works:
            work.mkdir()
        suites = [start_pjdfstest(daemon.path, work) for work in works]
        for verdict in [verdict_of(suite) for suite in suites]:
            check(verdict)
        daemon.unmount()
        assert "unexpected error" not in daemon.log.read_text()


def test_pjdfstest_on_the_whole_product(reachable: Path, tmp_path: Path) -> None:
    require_fuse()
    with installation(reachable) as installed:
        folder = reachable / "mnt"
        installed.alice.run("mount", "research", str(folder), "--stored-owners")
        check(run(folder, tmp_path))
        installed.alice.run("umount", "research")
        assert "unexpected error" not in installed.alice.daemon_log()


def test_fsx_with_invalidations_and_remounts(fresh: Daemon, tmp_path: Path) -> None:
    """Four kinds of files at once, six seeds: 100,800 operations in sum."""
    fsx_rounds(fresh, tmp_path, range(1, 7), OPERATIONS_PER_RUN)

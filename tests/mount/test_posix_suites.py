"""pjdfstest and fsx, written by others, on real mounts.

Data flow: suites -> kernel -> mount -> verdicts; what may be skipped, and why, is in
    docs/filesystem-semantics.md.
"""

import contextlib
import hashlib
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.installation import installation
from tests.support.mounts import Daemon, mounted
from tests.support.posix_suites import (
    PROFILES,
    Verdict,
    check_fsx,
    start_fsx,
    start_pjdfstest,
    verdict_of,
)
from tests.support.requirements import require_fuse

TESTS = 398
LINK_MAX = "link::link_count_max"
OPERATIONS_PER_RUN = 4_200
INVALIDATE_EVERY_S = 0.25


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


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def sync(folder: Path) -> None:
    """fsync of every file in a folder."""
    for path in folder.iterdir():
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)


def test_fsx_with_invalidations_and_remounts(fresh: Daemon, tmp_path: Path) -> None:
    """Four kinds of files at once, six seeds: 100,800 operations. What fsx left is still there
    after each remount, the last two of them after the daemon was killed."""
    for seed in range(1, 7):
        runs = [
            start_fsx(
                *(fresh.path / f"{profile.name}-{seed}", profile),
                seed=seed,
                operations=OPERATIONS_PER_RUN,
                work=tmp_path,
            )
            for profile in PROFILES
        ]
        while busy := [run for run in runs if run.poll() is None]:
            fresh.invalidate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                busy[0].wait(INVALIDATE_EVERY_S)
        for run, profile in zip(runs, PROFILES, strict=True):
            check_fsx(run, f"profile {profile.name}, seed {seed}")
        left = {path.name: digest(path) for path in fresh.path.iterdir()}
        assert len(left) == seed * len(PROFILES)
        if seed > 4:
            sync(fresh.path)
            fresh.kill()
        else:
            fresh.unmount()
        fresh.start()
        assert {path.name: digest(path) for path in fresh.path.iterdir()} == left

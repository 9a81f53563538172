"""Rounds of fsx on a mount that is told to forget, unmounted and killed meanwhile.

Data flow: seed -> fsx on one file of each kind -> kernel told to forget all -> unmounted, or
    killed after fsync -> mounted again -> the same content.

Used by tests/mount/test_posix_suites.py and scripts/posix-suites.
"""

import contextlib
import hashlib
import os
import subprocess
from collections.abc import Iterable
from pathlib import Path

from tests.support.mounts import Daemon
from tests.support.posix_suites import PROFILES, check_fsx, start_fsx

INVALIDATE_EVERY_S = 0.25


def fsx_rounds(daemon: Daemon, work: Path, seeds: Iterable[int], operations: int) -> None:
    """`operations` on each kind of file for each seed; every third round ends by SIGKILL. What fsx
    left, in this round and all before, is there after each remount. AssertionError if not."""
    for number, seed in enumerate(seeds):
        _one_of_each(daemon, work, seed, operations)
        left = digests(daemon.path)
        assert len(left) == (number + 1) * len(PROFILES)
        if number % 3 == 2:
            _sync(daemon.path)
            daemon.kill()
        else:
            daemon.unmount()
        daemon.start()
        assert digests(daemon.path) == left, f"seed {seed}: other content after a remount"


def digests(folder: Path) -> dict[str, str]:
    """Of the content of each file in a folder."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def _one_of_each(daemon: Daemon, work: Path, seed: int, operations: int) -> None:
    runs = [
        start_fsx(
            *(daemon.path / f"{profile.name}-{seed}", profile),
            seed=seed,
            operations=operations,
            work=work,
        )
        for profile in PROFILES
    ]
    while busy := [run for run in runs if run.poll() is None]:
        daemon.invalidate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            busy[0].wait(INVALIDATE_EVERY_S)
    for run, profile in zip(runs, PROFILES, strict=True):
        check_fsx(run, f"profile {profile.name}, seed {seed}")


def _sync(folder: Path) -> None:
    for path in folder.iterdir():
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)

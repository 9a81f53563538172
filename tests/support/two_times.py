"""Times of a mount beside those of a plain directory: set ones to the nanosecond, others by order.

Data flow: both trees after each step (tests/support/two_trees) -> `Times.compare`.

Two calls are never made at the same moment, so what a step touched has its time between the
beginning and the end of that step in either tree. After the comparison the plain directory takes
over the mount's modification times: from then on both are equal to the nanosecond until they are
touched again, also after a remount.
"""

import os
import time
from collections.abc import Iterator
from pathlib import Path


def names_below(root: Path) -> Iterator[Path]:
    """The folder itself and all that lies below it."""
    yield root
    yield from sorted(root.rglob("*"))


CLOCK_REALTIME_COARSE = 5
"""Linux; `time` has no name for it."""


class Times:
    """Of a mounted folder and a plain one that show the same names."""

    def __init__(self, mounted: Path, plain: Path) -> None:
        self._mounted, self._plain = mounted, plain
        self._known: dict[int, tuple[int, int, int]] = {}
        """Inode of the plain file -> its mtime and ctime, and the ctime on the mount."""
        self._begin()

    def _begin(self) -> None:
        self._began = time.time_ns()
        # A file system may stamp with the clock's last tick.
        self._ticked = time.clock_gettime_ns(CLOCK_REALTIME_COARSE)

    def compare(self) -> None:
        """After a step. AssertionError if a time of the mount is not what it must be."""
        now = time.time_ns()
        known = {}
        for plain in names_below(self._plain):
            here = self._mounted / plain.relative_to(self._plain)
            self._compare_mtime(here, plain, now)
            self._compare_ctime(here, plain, now)
            left = plain.lstat()
            known[left.st_ino] = (left.st_mtime_ns, left.st_ctime_ns, here.lstat().st_ctime_ns)
        self._known = known
        self._begin()

    def _compare_mtime(self, here: Path, plain: Path, now: int) -> None:
        ours, theirs = here.lstat().st_mtime_ns, plain.lstat()
        if ours == theirs.st_mtime_ns:
            return
        before = self._known.get(theirs.st_ino, (0, 0, 0))[0]
        what = f"mtime of {here}: {ours}, plain {theirs.st_mtime_ns}, before {before}"
        assert theirs.st_mtime_ns != before, f"{what}: nothing touched it"
        assert self._ticked <= theirs.st_mtime_ns <= now, f"{what}: it was set to that"
        assert self._began <= ours <= now, f"{what}: the step ran from {self._began} to {now}"
        os.utime(plain, ns=(theirs.st_atime_ns, ours), follow_symlinks=False)

    def _compare_ctime(self, here: Path, plain: Path, now: int) -> None:
        ours, theirs = here.lstat().st_ctime_ns, plain.lstat()
        _, plain_before, before = self._known.get(theirs.st_ino, (0, 0, 0))
        what = f"ctime of {here}: {ours}, before {before}, now {now}"
        assert before <= ours <= now, f"{what}: it went back, or ahead"
        if theirs.st_ctime_ns != plain_before:
            assert ours >= self._began, f"{what}: a step changed the file, from {self._began} on"

"""Any calls in any order, on a mount and on a plain directory, compared after each.

Data flow: hypothesis -> calls on mount and plain directory -> results, errnos and trees agree.

Names are few, so that calls meet: links of links, folders renamed into each other, files unlinked
while open, truncated and written across the borders of inline content and of blocks.
"""

import itertools
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import hypothesis
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from tests.support.two_trees import Pair, rename_with

NAMES = ("a", "b", "c", "d", "a/b", "a/c", "b/a", "a/b/c", "a/b/d", "b/a/c", "c/a", "c/a/b/d")
BORDERS = (0, 1, 100, 16_383, 16_384, 16_385, 70_000, 2**20 - 1, 2**20, 2**20 + 1)
CREATING = (0, os.O_CREAT, os.O_CREAT | os.O_EXCL, os.O_TRUNC, os.O_CREAT | os.O_TRUNC)

names = st.sampled_from(NAMES)
sizes = st.sampled_from(BORDERS) | st.integers(0, 3 * 2**20)
few = st.integers(0, 20)
modes = st.sampled_from((0o600, 0o644, 0o755, 0o000, 0o4755, 0o2755, 0o1777))
open_flags = st.builds(
    lambda *flags: flags[0] | flags[1] | flags[2],
    st.sampled_from((os.O_RDONLY, os.O_WRONLY, os.O_RDWR)),
    st.sampled_from(CREATING),
    st.sampled_from((0, os.O_APPEND, os.O_NOFOLLOW)),
)


def data_of(byte: int, length: int) -> bytes:
    """Content in which every place can be told from its neighbours."""
    return (bytes((byte + i * 7) % 256 for i in range(251)) * (length // 251 + 1))[:length]


def write_file(path: Path, offset: int, data: bytes, flags: int) -> int:
    """open, pwrite, close."""
    fd = os.open(path, os.O_WRONLY | flags, 0o644)
    try:
        return os.pwrite(fd, data, offset)
    finally:
        os.close(fd)


class Mounted(Protocol):
    """A mount that can end and begin again."""

    path: Path

    def start(self) -> object:
        """Mount."""

    def unmount(self) -> None:
        """As a user does."""

    def kill(self) -> None:
        """SIGKILL of the daemon."""

    def invalidate(self) -> None:
        """Have the kernel told to forget what it knows."""


class TwoTrees(RuleBasedStateMachine):
    """One example: an empty folder in each tree, and what is done to them."""

    numbers = itertools.count()

    def __init__(self, daemon: Mounted, plain: Path, *, times: bool = True) -> None:
        super().__init__()
        number = f"example-{next(self.numbers)}"
        self.daemon = daemon
        self.pair = Pair(daemon.path / number, plain / number, times=times)

    # Names

    @rule(name=names, mode=modes)
    def mkdir(self, name: str, mode: int) -> None:
        self.pair.both(lambda root: os.mkdir(root / name, mode))

    @rule(name=names)
    def rmdir(self, name: str) -> None:
        self.pair.both(lambda root: os.rmdir(root / name))

    @rule(name=names)
    def unlink(self, name: str) -> None:
        self.pair.both(lambda root: os.unlink(root / name))

    @rule(source=names, new=names, flags=st.sampled_from((0, 0, 1, 2)))
    def rename(self, source: str, new: str, flags: int) -> None:
        self.pair.both(lambda root: rename_with(root / source, root / new, flags))

    @rule(source=names, new=names)
    def link(self, source: str, new: str) -> None:
        self.pair.both(lambda root: os.link(root / source, root / new, follow_symlinks=False))

    @rule(name=names, leads_to=st.sampled_from(("a", "b", "a/b", "nowhere", "x" * 300)))
    def symlink(self, name: str, leads_to: str) -> None:
        self.pair.both(lambda root: os.symlink(leads_to, root / name))

    @rule(name=names, kind=st.sampled_from((stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFREG)))
    def mknod(self, name: str, kind: int) -> None:
        self.pair.both(lambda root: os.mknod(root / name, kind | 0o640))

    @rule(name=names)
    def listdir(self, name: str) -> None:
        self.pair.both(lambda root: sorted(os.listdir(root / name)))

    # Attributes

    @rule(name=names, mode=modes)
    def chmod(self, name: str, mode: int) -> None:
        self.pair.both(lambda root: os.chmod(root / name, mode))

    @rule(name=names, uid=st.sampled_from((-1, 0, 1, 2)), gid=st.sampled_from((-1, 0, 1)))
    def chown(self, name: str, uid: int, gid: int) -> None:
        self.pair.both(lambda root: os.lchown(root / name, uid, gid))

    @rule(name=names, ns=st.integers(0, 2**62))
    def utime(self, name: str, ns: int) -> None:
        self.pair.both(lambda root: os.utime(root / name, ns=(ns // 3, ns)))
        self.pair.both(lambda root: os.stat(root / name).st_mtime_ns)

    @rule(
        name=names,
        attribute=st.sampled_from(("user.a", "user.b")),
        value=st.binary(max_size=100),
        flags=st.sampled_from((0, os.XATTR_CREATE, os.XATTR_REPLACE)),
    )
    def setxattr(self, name: str, attribute: str, value: bytes, flags: int) -> None:
        self.pair.both(lambda root: os.setxattr(root / name, attribute, value, flags))

    @rule(name=names, attribute=st.sampled_from(("user.a", "user.b")))
    def removexattr(self, name: str, attribute: str) -> None:
        self.pair.both(lambda root: os.removexattr(root / name, attribute))

    # Content

    @rule(name=names, offset=sizes, byte=few, length=sizes, flags=st.sampled_from(CREATING))
    def write(self, name: str, offset: int, byte: int, length: int, flags: int) -> None:
        data = data_of(byte, length)
        self.pair.both(lambda root: write_file(root / name, offset, data, flags | os.O_NONBLOCK))

    @rule(name=names, size=sizes)
    def truncate(self, name: str, size: int) -> None:
        self.pair.both(lambda root: os.truncate(root / name, size))

    # Open files

    @rule(name=names, flags=open_flags)
    def open(self, name: str, flags: int) -> None:
        self.pair.open_both(name, flags | os.O_NONBLOCK)

    @rule(chosen=few)
    def close(self, chosen: int) -> None:
        self.pair.close(chosen)

    @rule(chosen=few, offset=sizes, byte=few, length=sizes)
    def pwrite(self, chosen: int, offset: int, byte: int, length: int) -> None:
        self.pair.both_open(chosen, lambda fd: os.pwrite(fd, data_of(byte, length), offset))

    @rule(chosen=few, offset=sizes, length=sizes)
    def pread(self, chosen: int, offset: int, length: int) -> None:
        self.pair.both_open(chosen, lambda fd: os.pread(fd, length, offset))

    @rule(chosen=few, size=sizes)
    def ftruncate(self, chosen: int, size: int) -> None:
        self.pair.both_open(chosen, lambda fd: os.ftruncate(fd, size))

    @rule(chosen=few)
    def fsync(self, chosen: int) -> None:
        self.pair.both_open(chosen, os.fsync)

    @rule(chosen=few)
    def fstat(self, chosen: int) -> None:
        def seen(fd: int) -> tuple[int, int, int]:
            found = os.fstat(fd)
            size = 0 if stat.S_ISDIR(found.st_mode) else found.st_size
            return found.st_mode, found.st_nlink, size

        self.pair.both_open(chosen, seen)

    # The mount itself

    @rule()
    def forget(self) -> None:
        self.daemon.invalidate()

    @rule(killed=st.booleans(), certainly=st.integers(0, 3))
    def remount(self, killed: bool, certainly: int) -> None:
        if certainly:
            return
        self.pair.close_all()
        if killed:
            self.pair.sync_all()
            self.daemon.kill()
        else:
            self.daemon.unmount()
        self.daemon.start()

    @invariant()
    def same_trees(self) -> None:
        self.pair.compare()

    def teardown(self) -> None:
        self.pair.remove()


def scaled(count: int) -> int:
    """So many; with HYPOTHESIS_PROFILE=nightly (`scripts/test --thorough`) 50 times as many."""
    default = hypothesis.settings.default
    assert default is not None
    return max(count, count * default.max_examples // 60)


def seeds(count: int) -> range:
    """So many fixed seeds, scaled."""
    return range(1, 1 + scaled(count))


def play(
    machine: Callable[[], TwoTrees], *, examples: int, steps: int, seed: int | None = None
) -> None:
    """So many examples, of this seed or of the profile's choice."""
    run_state_machine_as_test(  # takes what makes one, whatever its type says
        machine if seed is None else hypothesis.seed(seed)(machine),  # type: ignore[arg-type]
        settings=hypothesis.settings(
            max_examples=examples,
            stateful_step_count=steps,
            suppress_health_check=list(hypothesis.HealthCheck),
        ),
    )

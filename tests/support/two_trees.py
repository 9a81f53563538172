"""The mount and a plain directory side by side: one call on both, one answer from both.

Data flow: test_two_trees (what to do) -> `Pair.both` -> mount and plain directory -> the same
    result or the same errno, and `snapshot` of both trees.
"""

import ctypes
import hashlib
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.two_times import Times

Outcome = tuple[str, Any]
_libc = ctypes.CDLL(None, use_errno=True)
_AT_FDCWD = -100


def rename_with(source: Path, target: Path, flags: int) -> None:
    """renameat2(2)."""
    names = (os.fsencode(source), os.fsencode(target))
    if _libc.renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], flags) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def outcome(call: Callable[..., Any], *arguments: Any) -> Outcome:
    """What a call comes to: its result, or its errno."""
    try:
        return "result", call(*arguments)
    except OSError as error:
        return "errno", os.strerror(error.errno or 0)


def shown(path: Path) -> tuple[Any, ...]:
    """Everything about one name that both trees must agree on, but for times (see two_times)."""
    found = path.lstat()
    common = (stat.S_IFMT(found.st_mode), stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid)
    xattrs = {
        name: os.getxattr(path, name, follow_symlinks=False)
        for name in os.listxattr(path, follow_symlinks=False)
    }
    content: Any = found.st_rdev
    if stat.S_ISLNK(found.st_mode):
        content = os.readlink(path)
    elif stat.S_ISREG(found.st_mode):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
    size = 0 if stat.S_ISDIR(found.st_mode) else found.st_size
    return (*common, found.st_nlink, size, content, xattrs)


def snapshot(root: Path) -> dict[str, Any]:
    """All names below a folder, what they show, and which of them are one file."""
    tree: dict[str, Any] = {}
    first: dict[int, str] = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        twin = first.setdefault(path.lstat().st_ino, name)
        tree[name] = (twin, *shown(path))
    return tree


class Pair:
    """Two folders that must stay the same, and files that are open in both."""

    def __init__(self, mounted: Path, plain: Path, *, times: bool) -> None:
        self.roots = (mounted, plain)
        self.open: list[tuple[int, int]] = []
        self.times = Times(mounted, plain) if times else None
        for root in self.roots:
            root.mkdir()

    def both(self, call: Callable[[Path], Any]) -> Outcome:
        """Call with each root; AssertionError if the outcomes differ."""
        here, there = (outcome(call, root) for root in self.roots)
        assert here == there, f"mount: {here}, plain directory: {there}"
        return here

    def both_open(self, chosen: int, call: Callable[[int], Any]) -> Outcome | None:
        """Call with the two descriptors of one open file, if any is open."""
        if not self.open:
            return None
        here, there = (outcome(call, fd) for fd in self.open[chosen % len(self.open)])
        assert here == there, f"mount: {here}, plain directory: {there}"
        return here

    def open_both(self, name: str, flags: int) -> None:
        """Open a file in both trees and keep it open."""
        here, there = (outcome(os.open, root / name, flags, 0o640) for root in self.roots)
        if here[0] == there[0] == "result":
            self.open.append((here[1], there[1]))
            return
        assert here == there, f"mount: {here}, plain directory: {there}"

    def close(self, chosen: int) -> None:
        """Close one of the open files."""
        if self.open:
            for fd in self.open.pop(chosen % len(self.open)):
                os.close(fd)

    def close_all(self) -> None:
        """Close every open file."""
        while self.open:
            self.close(0)

    def compare(self) -> None:
        """AssertionError unless both trees show the same, at times that fit."""
        here, there = map(snapshot, self.roots)
        assert here == there
        if self.times is not None:
            self.times.compare()

    def sync_all(self) -> None:
        """fsync of every regular file and folder on the mount."""
        for path in (self.roots[0], *self.roots[0].rglob("*")):
            if stat.S_IFMT(path.lstat().st_mode) in (stat.S_IFREG, stat.S_IFDIR):
                fd = os.open(path, os.O_RDONLY)
                os.fsync(fd)
                os.close(fd)

    def remove(self) -> None:
        """Close everything and take both folders away."""
        self.close_all()
        for root in self.roots:
            shutil.rmtree(root)

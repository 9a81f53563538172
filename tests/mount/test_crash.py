"""What survives the daemon: kill -9 at any time, then a new mount of the same state.

Data flow: changes -> kill -> remount -> what is there.
"""

import contextlib
import os
import time
from pathlib import Path

import pytest

from tests.support.mounts import Daemon

JOURNAL_WITHIN_S = 0.2
"""Names, attributes and closed files are in the journal after 20 ms; the rest is for machines that
are busy with other tests."""

OPEN_FILES_WITHIN_S = 1.2
"""Data of files that stay open is in the journal after this time."""


def pass_time(seconds: float) -> None:
    """The promise is about time, so the test has to let it pass."""
    time.sleep(seconds)


def restarted(daemon: Daemon) -> Path:
    """Kill, start again."""
    daemon.kill()
    daemon.start()
    return daemon.path


def open_with(path: Path, content: bytes) -> int:
    """A descriptor of a new file with content, still open."""
    fd = os.open(path, os.O_CREAT | os.O_RDWR, 0o644)
    while content:
        content = content[os.write(fd, content) :]
    return fd


def close_dead(fd: int) -> None:
    """The descriptor is closed even if the dead mount is not told."""
    with contextlib.suppress(OSError):
        os.close(fd)


def test_synced_data_survives_a_kill(fresh: Daemon) -> None:
    content = os.urandom(3_500_000)
    fd = open_with(fresh.path / "file", content)
    os.fsync(fd)
    fresh.kill()
    with pytest.raises(OSError):
        os.write(fd, b"x")
    close_dead(fd)
    fresh.start()
    assert (fresh.path / "file").read_bytes() == content


def test_closed_files_and_names_survive_after_the_group(fresh: Daemon) -> None:
    root = fresh.path
    contents = {f"f{n}": os.urandom(n * 9_999) for n in range(40)}
    for name, content in contents.items():
        (root / name).write_bytes(content)
    (root / "dir").mkdir(0o751)
    (root / "f3").rename(root / "dir" / "moved")
    os.link(root / "f4", root / "dir" / "link")
    os.symlink("dir/moved", root / "symlink")
    os.setxattr(root / "f5", "user.x", b"value")
    os.utime(root / "f6", ns=(5, 6))
    (root / "f7").unlink()
    os.truncate(root / "f30", 100_000)
    pass_time(JOURNAL_WITHIN_S)
    root = restarted(fresh)
    contents["f30"] = contents["f30"][:100_000]
    assert (root / "symlink").read_bytes() == contents.pop("f3")
    contents.pop("f7")
    found = {path.name: path.read_bytes() for path in root.iterdir() if path.is_file()}
    found.pop("symlink")
    assert found == contents
    assert (root / "f4").stat().st_nlink == 2
    assert (root / "dir" / "link").stat().st_ino == (root / "f4").stat().st_ino
    assert os.getxattr(root / "f5", "user.x") == b"value"
    assert (root / "f6").stat().st_mtime_ns == 6
    assert (root / "dir").stat().st_mode & 0o777 == 0o751


def test_open_files_survive_after_a_second(fresh: Daemon) -> None:
    content = os.urandom(2_500_000)
    small = open_with(fresh.path / "small", b"small")
    large = open_with(fresh.path / "large", content)
    pass_time(OPEN_FILES_WITHIN_S)
    fresh.kill()
    close_dead(small)
    close_dead(large)
    fresh.start()
    assert (fresh.path / "small").read_bytes() == b"small"
    assert (fresh.path / "large").read_bytes() == content


def test_replacing_by_rename_never_leaves_an_empty_file(fresh: Daemon) -> None:
    root = fresh.path
    (root / "file").write_bytes(b"old")
    pass_time(JOURNAL_WITHIN_S)
    fd = open_with(root / "new", b"new" * 10_000)
    (root / "new").rename(root / "file")
    pass_time(JOURNAL_WITHIN_S)
    fresh.kill()
    close_dead(fd)
    fresh.start()
    assert (root / "file").read_bytes() == b"new" * 10_000


def test_inode_numbers_are_stable_over_mounts(fresh: Daemon) -> None:
    root = fresh.path
    (root / "dir").mkdir()
    (root / "dir" / "file").touch()
    before = [(root / "dir").stat().st_ino, (root / "dir" / "file").stat().st_ino]
    fresh.unmount()
    fresh.start()
    assert [(root / "dir").stat().st_ino, (root / "dir" / "file").stat().st_ino] == before


def test_terminating_the_daemon_unmounts_and_keeps_everything(fresh: Daemon) -> None:
    fd = open_with(fresh.path / "open", b"still open")
    fresh.terminate()
    with pytest.raises(OSError):
        os.write(fd, b"x")
    close_dead(fd)
    assert not fresh.path.is_mount()
    fresh.start()
    assert (fresh.path / "open").read_bytes() == b"still open"


def test_many_kills(fresh: Daemon) -> None:
    """Every round adds to what the rounds before left."""
    root = fresh.path
    expected: dict[str, bytes] = {}
    for number in range(4):
        for part in range(20):
            content = os.urandom(part * 7_000)
            (root / f"{number}-{part}").write_bytes(content)
            expected[f"{number}-{part}"] = content
        for part in range(0, 20, 3):
            victim = root / f"{number}-{part}"
            with open(victim, "r+b") as file:
                file.write(b"overwritten")
            expected[victim.name] = b"overwritten" + expected[victim.name][11:]
        pass_time(JOURNAL_WITHIN_S)
        root = restarted(fresh)
        assert {path.name: path.read_bytes() for path in root.iterdir()} == expected

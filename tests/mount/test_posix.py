"""POSIX behaviour through the kernel: names, links, attributes, open files, flags.

Data flow: system calls -> kernel -> mount -> what they return.
"""

import ctypes
import errno
import mmap
import os
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.mounts import Daemon

RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_WHITEOUT = 1, 2, 4
_libc = ctypes.CDLL(None, use_errno=True)


def rename_with(source: Path, target: Path, flags: int) -> None:
    """renameat2(2)."""
    if _libc.renameat2(-100, os.fsencode(source), -100, os.fsencode(target), flags) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def code_of(action: object, *args: object) -> int:
    """The errno with which a call fails."""
    with pytest.raises(OSError) as caught:
        action(*args)  # type: ignore[operator]
    assert caught.value.errno is not None
    return caught.value.errno


def test_created_file_has_its_mode_size_and_times(folder: Path) -> None:
    before = time.time_ns()
    os.close(os.open(folder / "file", os.O_CREAT | os.O_EXCL, 0o640))
    found = (folder / "file").stat()
    assert stat.S_ISREG(found.st_mode)
    assert (stat.S_IMODE(found.st_mode), found.st_size, found.st_nlink) == (0o640, 0, 1)
    assert before <= found.st_mtime_ns == found.st_ctime_ns <= time.time_ns()
    assert code_of(os.open, folder / "file", os.O_CREAT | os.O_EXCL) == errno.EEXIST


def test_folder_times_and_links_follow_its_names(folder: Path) -> None:
    os.utime(folder, ns=(1, 1))
    (folder / "sub").mkdir()
    assert folder.stat().st_nlink == 3
    assert folder.stat().st_mtime_ns > 1
    assert code_of(os.rmdir, folder) == errno.ENOTEMPTY
    assert code_of(os.unlink, folder / "sub") == errno.EISDIR
    (folder / "sub").rmdir()
    assert folder.stat().st_nlink == 2
    assert code_of(os.rmdir, folder / "sub") == errno.ENOENT


def test_dot_and_dotdot_are_listed(folder: Path) -> None:
    listing = subprocess.run(["ls", "-ai", folder], capture_output=True, text=True, check=True)
    own, parent = folder.stat().st_ino, folder.parent.stat().st_ino
    assert listing.stdout.split() == [str(own), ".", str(parent), ".."]


def test_long_and_strange_names(folder: Path) -> None:
    long = b"n" * 255
    strange = b"\xff\xfe caf\xc3\xa9 \n'\""
    for name in (long, strange):
        path = os.path.join(os.fsencode(folder), name)
        with open(path, "wb") as file:
            file.write(name)
        with open(path, "rb") as file:
            assert file.read() == name
    assert set(os.listdir(os.fsencode(folder))) == {long, strange}
    assert code_of(os.open, folder / ("n" * 256), os.O_CREAT) == errno.ENAMETOOLONG
    assert code_of(os.stat, folder / ("n" * 256)) == errno.ENAMETOOLONG
    assert code_of(os.rename, folder / ("n" * 255), folder / ("m" * 256)) == errno.ENAMETOOLONG


def test_file_lives_on_while_it_is_open(folder: Path) -> None:
    with open(folder / "file", "w+b") as file:
        file.write(b"before")
        file.flush()
        os.unlink(folder / "file")
        assert os.fstat(file.fileno()).st_nlink == 0
        file.write(b" after")
        file.seek(0)
        assert file.read() == b"before after"
        os.fchmod(file.fileno(), 0o600)
        os.ftruncate(file.fileno(), 3)
        assert os.fstat(file.fileno()).st_size == 3
    assert list(folder.iterdir()) == []


def test_opening_with_truncate_empties_the_file(folder: Path) -> None:
    path = folder / "file"
    for content in (b"inline", b"in blocks " * 300_000):
        path.write_bytes(content)
        os.utime(path, ns=(1, 1))
        path.write_bytes(b"x")
        assert path.read_bytes() == b"x"
        assert path.stat().st_mtime_ns > 1
        path.write_bytes(content)
        before = path.stat()
        os.close(os.open(path, os.O_WRONLY | os.O_TRUNC))
        after = path.stat()
        assert (after.st_size, after.st_blocks, path.read_bytes()) == (0, 0, b"")
        assert after.st_mtime_ns == after.st_ctime_ns > before.st_ctime_ns


def test_readers_see_the_file_truncated(folder: Path) -> None:
    (folder / "file").write_bytes(b"before" * 1000)
    with open(folder / "file", "rb", buffering=0) as reader:
        assert reader.read(6) == b"before"
        (folder / "file").write_bytes(b"now")
        assert os.fstat(reader.fileno()).st_size == 3
        reader.seek(0)
        assert reader.read() == b"now"


def test_large_unlinked_file_lives_on(folder: Path) -> None:
    with open(folder / "file", "w+b") as file:
        file.write(b"a" * (3 << 20))
        file.flush()
        os.unlink(folder / "file")
        file.seek(0)
        assert file.read() == b"a" * (3 << 20)


def test_removed_folder_takes_no_new_names(folder: Path) -> None:
    (folder / "gone").mkdir()
    fd = os.open(folder / "gone", os.O_RDONLY)
    try:
        (folder / "gone").rmdir()
        assert code_of(lambda: os.open("file", os.O_CREAT, dir_fd=fd)) == errno.ENOENT
        assert os.fstat(fd).st_nlink == 0
    finally:
        os.close(fd)


def test_rename_replaces_files(folder: Path) -> None:
    (folder / "a").write_text("a")
    (folder / "b").write_text("b")
    with open(folder / "b") as replaced:
        (folder / "a").rename(folder / "b")
        assert replaced.read() == "b"
    assert (folder / "b").read_text() == "a"
    assert [path.name for path in folder.iterdir()] == ["b"]


def test_rename_of_folders(folder: Path) -> None:
    for name in ("full/x", "empty", "deep/er"):
        (folder / name).mkdir(parents=True)
    (folder / "file").touch()
    assert code_of(os.rename, folder / "empty", folder / "full") == errno.ENOTEMPTY
    assert code_of(os.rename, folder / "file", folder / "empty") == errno.EISDIR
    assert code_of(os.rename, folder / "empty", folder / "file") == errno.ENOTDIR
    assert code_of(os.rename, folder / "deep", folder / "deep/er/x") == errno.EINVAL
    (folder / "full").rename(folder / "empty")
    assert (folder / "empty/x").is_dir()
    (folder / "empty").rename(folder / "deep/er/moved")
    assert (folder / "deep/er").stat().st_nlink == 3
    assert (folder / "deep/er/moved").stat().st_nlink == 3
    assert os.stat(folder / "deep/er/moved/..").st_ino == (folder / "deep/er").stat().st_ino
    assert folder.stat().st_nlink == 3


def test_rename_flags(folder: Path) -> None:
    (folder / "a").write_text("a")
    (folder / "d").mkdir()
    (folder / "d" / "inside").touch()
    assert code_of(rename_with, folder / "a", folder / "d", RENAME_NOREPLACE) == errno.EEXIST
    rename_with(folder / "a", folder / "b", RENAME_NOREPLACE)
    rename_with(folder / "b", folder / "d", RENAME_EXCHANGE)
    assert (folder / "d").read_text() == "a"
    assert (folder / "b" / "inside").exists()
    assert folder.stat().st_nlink == 3
    assert code_of(rename_with, folder / "d", folder / "x", RENAME_EXCHANGE) == errno.ENOENT
    assert code_of(rename_with, folder / "d", folder / "x", RENAME_WHITEOUT) == errno.EINVAL


def test_hard_links(folder: Path) -> None:
    (folder / "a").write_text("one")
    os.link(folder / "a", folder / "b")
    assert (folder / "a").stat().st_ino == (folder / "b").stat().st_ino
    assert (folder / "b").stat().st_nlink == 2
    (folder / "b").write_text("two")
    assert (folder / "a").read_text() == "two"
    (folder / "a").rename(folder / "b")
    assert sorted(path.name for path in folder.iterdir()) == ["a", "b"]
    (folder / "a").unlink()
    assert (folder / "b").stat().st_nlink == 1
    (folder / "dir").mkdir()
    assert code_of(os.link, folder / "dir", folder / "c") == errno.EPERM
    assert code_of(os.link, folder / "b", folder / "dir") == errno.EEXIST


def test_symlinks_and_special_files(folder: Path) -> None:
    os.symlink("no/where", folder / "link")
    assert os.readlink(folder / "link") == "no/where"
    assert os.lstat(folder / "link").st_size == 8
    os.mkfifo(folder / "fifo", 0o600)
    assert stat.S_ISFIFO((folder / "fifo").stat().st_mode)
    os.mknod(folder / "socket", stat.S_IFSOCK | 0o600)
    assert stat.S_ISSOCK((folder / "socket").stat().st_mode)
    os.mknod(folder / "device", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    assert (folder / "device").stat().st_rdev == os.makedev(1, 3)
    assert code_of(os.open, folder / "device", os.O_RDONLY) == errno.EACCES


def test_attributes_keep_nanoseconds(folder: Path) -> None:
    path = folder / "file"
    path.touch()
    os.utime(path, ns=(1_234_567_890_123_456_789, -987_654_321))
    found = path.stat()
    assert (found.st_atime_ns, found.st_mtime_ns) == (1_234_567_890_123_456_789, -987_654_321)
    path.chmod(0o4751)
    os.chown(path, 1000, 1001)
    found = path.stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (1000, 1001, 0o751)


def test_a_read_moves_atime_as_relatime_has_it(fresh: Daemon) -> None:
    """Not newer than the last change: moved; newer: kept for a day, over a remount as well."""
    path, day = fresh.path / "file", 86_400 * 10**9
    path.write_bytes(b"content")
    now = time.time_ns()
    for atime, mtime, moves in [
        (now - 5, now - 3, True),
        (now - 3, now - 5, False),
        (now - 2 * day, now - 3 * day, True),
    ]:
        os.utime(path, ns=(atime, mtime))
        fresh.invalidate()
        assert path.stat().st_atime_ns == atime
        assert path.read_bytes() == b"content"
        fresh.invalidate()
        shown = path.stat().st_atime_ns
        assert (shown > now) if moves else (shown == atime), (atime, mtime)
    os.chmod(path, 0o600)  # what atime was then is stored with it
    kept = path.stat().st_atime_ns
    fresh.unmount()
    fresh.start()
    assert path.stat().st_atime_ns == kept


def test_setgid_folder_gives_its_group(folder: Path) -> None:
    os.chown(folder, 0, 1234)
    folder.chmod(0o2775)
    (folder / "sub").mkdir()
    (folder / "file").touch()
    assert (folder / "file").stat().st_gid == 1234
    assert (folder / "sub").stat().st_gid == 1234
    assert (folder / "sub").stat().st_mode & stat.S_ISGID


def test_append_truncate_and_sparse(folder: Path) -> None:
    path = folder / "file"
    with open(path, "ab") as one, open(path, "ab") as two:
        for number in range(10):
            os.write((one, two)[number % 2].fileno(), b"%d" % number)
    assert path.read_bytes() == b"0123456789"
    os.truncate(path, 4)
    os.truncate(path, 8)
    assert path.read_bytes() == b"0123\0\0\0\0"
    with open(path, "r+b") as file:
        file.seek(5 << 20)
        file.write(b"end")
    assert path.stat().st_size == (5 << 20) + 3
    assert path.stat().st_blocks * 512 <= 3 << 20
    content = path.read_bytes()
    assert content[:4] == b"0123"
    assert content[4 : 5 << 20] == bytes((5 << 20) - 4)
    assert content[5 << 20 :] == b"end"
    os.truncate(path, 3)
    os.truncate(path, 2 << 20)
    assert path.read_bytes() == b"012" + bytes((2 << 20) - 3)


def test_shared_mapping(folder: Path) -> None:
    path = folder / "file"
    path.write_bytes(bytes(100_000))
    with open(path, "r+b") as file, mmap.mmap(file.fileno(), 0) as mapping:
        mapping[50_000:50_005] = b"hello"
        mapping.flush()
    assert path.read_bytes()[49_999:50_006] == b"\0hello\0"


def test_xattrs(folder: Path) -> None:
    path = folder / "file"
    path.touch()
    assert code_of(os.getxattr, path, "user.none") == errno.ENODATA
    os.setxattr(path, "user.one", b"1", os.XATTR_CREATE)
    assert code_of(os.setxattr, path, "user.one", b"2", os.XATTR_CREATE) == errno.EEXIST
    assert code_of(os.setxattr, path, "user.two", b"2", os.XATTR_REPLACE) == errno.ENODATA
    os.setxattr(path, "user.two", b"\0" * 60_000)
    assert sorted(os.listxattr(path)) == ["user.one", "user.two"]
    assert os.getxattr(path, "user.two") == b"\0" * 60_000
    os.removexattr(path, "user.two")
    assert code_of(os.removexattr, path, "user.two") == errno.ENODATA
    assert os.listxattr(path) == ["user.one"]
    assert code_of(os.setxattr, path, "trusted.x", b"") == errno.EOPNOTSUPP
    assert code_of(os.getxattr, path, "system.posix_acl_access") == errno.EOPNOTSUPP
    assert code_of(os.getxattr, path, "security.capability") == errno.ENODATA


def test_virtual_names_and_xattrs(folder: Path) -> None:
    path = folder / "file"
    path.touch()
    assert os.getxattr(path, "user.parsec.state") == b"local"
    assert code_of(os.setxattr, path, "user.parsec.state", b"audited") == errno.EPERM
    assert os.listxattr(path) == []
    root = folder.parent
    assert (root / ".status").read_bytes().startswith(b"state: local")
    assert ".status" not in os.listdir(root)
    assert code_of(os.open, root / ".status", os.O_WRONLY) == errno.EACCES
    assert code_of(os.chmod, root / ".status", 0o777) == errno.EPERM


def test_a_real_entry_named_status_wins(fresh: Daemon) -> None:
    root = fresh.path
    assert (root / ".status").read_bytes().startswith(b"state")
    (root / "other").write_text("mine")
    (root / "other").rename(root / ".status")
    assert (root / ".status").read_text() == "mine"
    assert os.listdir(root) == [".status"]


def test_listing_survives_removals(folder: Path) -> None:
    for number in range(3000):
        (folder / f"{number}").touch()
    seen = 0
    with os.scandir(folder) as entries:
        for entry in entries:
            os.unlink(entry.path)
            seen += 1
    assert seen == 3000
    assert os.listdir(folder) == []


def test_statfs(folder: Path) -> None:
    found = os.statvfs(folder)
    assert found.f_namemax == 255
    assert 0 < found.f_bavail <= found.f_bfree <= found.f_blocks


def code_as_stranger(folder: Path, action: Callable[[], object]) -> int:
    """What an action in a folder comes to for uid and gid 1000: 0 or an errno.

    Names are relative: folders above the mount may be closed to strangers.
    """
    child = os.fork()
    if child == 0:
        code = 255
        try:
            os.chdir(folder)
            os.setgroups([])
            os.setgid(1000)
            os.setuid(1000)
            action()
            code = 0
        except OSError as error:
            code = error.errno or 255
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_sticky_folder(folder: Path) -> None:
    folder.chmod(0o1777)
    (folder / "mine").touch()
    assert code_as_stranger(folder, lambda: os.unlink("mine")) == errno.EPERM


@pytest.mark.parametrize(
    ("mode", "left"), [(0o6777, 0o777), (0o6767, 0o767), (0o4777, 0o777), (0o777, 0o777)]
)
def test_a_program_emptied_by_a_stranger_loses_its_privileges(
    folder: Path, mode: int, left: int
) -> None:
    folder.chmod(0o755)
    path = folder / "program"
    path.write_text("program")
    path.chmod(mode)
    os.close(os.open(path, os.O_WRONLY | os.O_TRUNC))
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert code_as_stranger(folder, lambda: open("program", "w").close()) == 0
    assert stat.S_IMODE(path.stat().st_mode) == left


def test_a_program_that_changes_hands_loses_its_privileges(folder: Path) -> None:
    for mode, left in ((0o6755, 0o755), (0o2745, 0o2745)):
        (folder / "program").touch()
        (folder / "program").chmod(mode)
        os.chown(folder / "program", 1000, 1000)
        assert stat.S_IMODE((folder / "program").stat().st_mode) == left


def test_chown_of_nothing_changes_ctime_alone(folder: Path) -> None:
    before = folder.stat()
    os.chown(folder, -1, -1)
    after = folder.stat()
    assert after.st_ctime_ns > before.st_ctime_ns
    assert (after.st_uid, after.st_gid, after.st_mtime_ns) == (
        before.st_uid,
        before.st_gid,
        before.st_mtime_ns,
    )


def test_far_offsets_are_answered_cleanly(folder: Path) -> None:
    path = folder / "file"
    path.write_bytes(b"abc")
    fd = os.open(path, os.O_RDWR)
    try:
        for offset in (2**63 - 2, 2**63 - 4096, 2**62, 2**50, 2**40):
            assert code_of(os.pwrite, fd, b"x", offset) == errno.EFBIG
            assert code_of(os.ftruncate, fd, offset + 1) == errno.EFBIG
        assert os.pread(fd, 10, 2**62) == b""
        assert os.fstat(fd).st_size == 3
        assert os.pwrite(fd, b"x", 2**40 - 1) == 1
        assert os.fstat(fd).st_size == 2**40
        assert os.fstat(fd).st_blocks * 512 <= 2 << 20
        assert os.pread(fd, 10, 2**40 - 3) == b"\0\0x"
        os.ftruncate(fd, 3)
    finally:
        os.close(fd)
    assert path.read_bytes() == b"abc"


def test_two_processes_append_whole_lines(folder: Path) -> None:
    path = folder / "log"
    path.touch()
    program = (
        "import os, sys\n"
        "fd = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND)\n"
        "for number in range(500):\n"
        "    os.write(fd, f'{sys.argv[2]} {number} '.encode().ljust(99, b'.') + b'\\n')\n"
    )
    writers = [subprocess.Popen([sys.executable, "-c", program, path, who]) for who in "ab"]
    assert [writer.wait(60) for writer in writers] == [0, 0]
    lines = path.read_text().splitlines()
    assert {len(line) for line in lines} == {99}
    for who in "ab":
        numbers = [int(line.split()[1]) for line in lines if line.startswith(who)]
        assert numbers == list(range(500))

"""A full disk: refused in time, nothing accepted is lost, and it goes on when there is room.

Data flow: system calls -> mount -> journal and contents, or the server's blocks, on a small tmpfs
    -> errno or status, remounts.
"""

import contextlib
import errno
import itertools
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from parsec_fs.workspace.room import SPARE_ROOM
from tests.support.installation import until
from tests.support.mounts import Daemon
from tests.support.product import poll, product
from tests.support.requirements import require_fuse

MIB = 1 << 20
SIZE_MIB = 96


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Daemon]:
    """A daemon whose journal and contents lie on a file system of 96 MiB."""
    require_fuse()
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small tmpfs: run the tests as root")
    daemon = Daemon(tmp_path)
    with small_disk(daemon.state, SIZE_MIB):
        try:
            yield daemon.start()
        finally:
            daemon.clean_up()


@contextlib.contextmanager
def small_disk(folder: Path, size_mib: int) -> Iterator[None]:
    """A file system of that size in a new folder."""
    folder.mkdir(exist_ok=True)
    options = ["-o", f"size={size_mib}m"]
    subprocess.run(["mount", "-t", "tmpfs", *options, "none", folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def fill(daemon: Daemon, *, leave: int = 0) -> Path:
    """Somebody else takes the room: a file beside the journal."""
    found = os.statvfs(daemon.state)
    ballast = daemon.state / "ballast"
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, found.f_bavail * found.f_frsize - leave)
    return ballast


def code_of(call: Callable[[], object]) -> int:
    """The errno of a call that must fail."""
    with pytest.raises(OSError) as caught:
        call()
    assert caught.value.errno is not None
    return caught.value.errno


def is_refused(call: Callable[[], object]) -> bool:
    """True iff a call fails for want of room; free room is measured twice a second."""
    try:
        call()
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        return True
    return False


def fsync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def test_data_is_refused_before_the_disk_is_full(small: Daemon) -> None:
    written: dict[str, bytes] = {}
    refused = 0
    while not refused:
        name, content = f"file-{len(written)}", os.urandom(MIB)
        try:
            (small.path / name).write_bytes(content)
            written[name] = content
        except OSError as error:
            refused = error.errno or 0
        assert len(written) < SIZE_MIB
    assert refused == errno.ENOSPC
    assert len(written) > 8
    found = os.statvfs(small.state)
    assert found.f_bavail * found.f_frsize > SPARE_ROOM // 2
    (small.path / name).unlink()
    (small.path / "a name still fits").touch()
    fsync(small.path)
    small.kill()
    small.start()
    assert {p.name: p.read_bytes() for p in small.path.glob("file-*")} == written
    assert (small.path / "a name still fits").exists()


def test_a_disk_that_is_really_full_loses_nothing(small: Daemon) -> None:
    (small.path / "old").write_bytes(b"old")
    (small.path / "name 0").write_bytes(b"kept")
    fsync(small.path / "name 0")
    ballast = fill(small)
    # Names that only change need no room here, but the journal does: fsync must not pretend.
    for number in range(300):
        (small.path / f"name {number}").rename(small.path / f"name {number + 1}")
    (small.path / "old").unlink()
    assert code_of(lambda: fsync(small.path)) == errno.ENOSPC
    for grow in (
        lambda: (small.path / "new").touch(),
        lambda: (small.path / "new").mkdir(),
        lambda: (small.path / "new").symlink_to("name 300"),
        lambda: os.link(small.path / "name 300", small.path / "new"),
        lambda: os.setxattr(small.path / "name 300", "user.x", b"x"),
        lambda: (small.path / "name 300").write_bytes(b"longer than before"),
    ):
        assert code_of(grow) == errno.ENOSPC
    ballast.unlink()
    until(lambda: not is_refused(lambda: fsync(small.path)))
    (small.path / "new").touch()
    fsync(small.path)
    small.kill()
    small.start()
    assert sorted(os.listdir(small.path)) == ["name 300", "new"]
    small.unmount()
    assert "unexpected error" not in small.log.read_text()


def test_little_room_is_left_to_names_that_go(small: Daemon) -> None:
    """Between the two limits names are made but no data is taken; below both, only taken away."""
    (small.path / "file").touch()
    ballast = fill(small, leave=32 * MIB)
    until(lambda: is_refused(lambda: (small.path / "file").write_bytes(b"data")))
    (small.path / "folder").mkdir()
    ballast.unlink()
    fill(small, leave=4 * MIB)
    numbers = itertools.count()
    until(lambda: is_refused(lambda: (small.path / f"other {next(numbers)}").mkdir()))
    (small.path / "folder").rmdir()
    (small.path / "file").unlink()
    fsync(small.path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small tmpfs")
def test_a_full_server_keeps_nothing_from_working_here() -> None:
    """The blocks do not fit: they stay on this device, which says why and goes on; small files are
    not held up for ever, and when there is room everything is sent without anybody's help."""
    require_fuse()
    content = {f"large {number}": os.urandom(2 * MIB) for number in range(3)}
    with product() as server, small_disk(server.server_home / "blocks", 4):
        server.programs.kill("server")
        server.start_server()  # it makes its folders there
        alice = server.first_device("alice").mount()
        ballast = server.server_home / "blocks" / "ballast"
        ballast.write_bytes(bytes(3 * MIB))
        for name, data in content.items():
            (alice.path / name).write_bytes(data)
            fsync(alice.path / name)
        poll(lambda: "no room for more" in alice.status()["trouble"], 60, alice.status)
        sealed = [path.stat().st_size for path in alice.home.root.rglob("blocks/pending/*")]
        assert alice.status()["changes"]["pending_bytes"] == sum(sealed) >= 6 * MIB
        (alice.path / "small").write_bytes(b"made while the server was full")
        fsync(alice.path / "small")
        assert os.getxattr(alice.path / "large 0", "user.parsec.state") == b"local"
        assert "block storage is full" in server.programs.log("server").read_text()
        assert "Traceback" not in server.programs.log("server").read_text()
        alice.kill()
        alice.mount()
        assert {name: (alice.path / name).read_bytes() for name in content} == content
        subprocess.run(
            ["mount", "-o", "remount,size=64m", server.server_home / "blocks"], check=True
        )
        alice.wait("audited", timeout_s=90)
        assert alice.status()["changes"]["pending_bytes"] == 0
        alice.in_peace()
        bob = server.next_device(alice, "bob").mount()
        for name, data in content.items():
            bob.wait_file(name, data)
        bob.wait_file("small", b"made while the server was full")


def accepted_of(path: Path, content: bytes) -> int:
    """Write a new file in pieces until one is refused for the budget; bytes that were accepted."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    try:
        for offset in range(0, len(content), MIB // 8):
            os.pwrite(fd, content[offset : offset + MIB // 8], offset)
    except OSError as error:
        if error.errno != errno.EDQUOT:
            raise
        os.fsync(fd)
        return offset
    finally:
        os.close(fd)
    return len(content)


def test_changes_that_fill_the_cache_budget_while_the_server_is_away() -> None:
    """What does not fit is refused before it is accepted; all else goes on, and is sent in the
    end."""
    require_fuse()
    old, large = os.urandom(4 * MIB), os.urandom(72 * MIB)
    with product() as server:
        alice = server.first_device("alice").mount("--cache", "64")
        assert accepted_of(alice.path / "old", old) == len(old)
        alice.wait("logged")
        server.programs.kill("server")
        accepted = accepted_of(alice.path / "large", large)
        assert 60 * MIB <= accepted <= 64 * MIB
        assert alice.errno_of(lambda: accepted_of(alice.path / "small", b"inline")) == 0
        assert accepted_of(alice.path / "other", large) == 0
        assert alice.read("large") == large[:accepted], "nothing of what was refused is there"
        assert any("EDQUOT" in note for note in alice.status()["state"]["notes"])
        alice.kill()
        alice.mount("--cache", "64")
        assert alice.read("large") == large[:accepted]
        assert alice.read("small") == b"inline"
        server.start_server()
        alice.wait("audited", timeout_s=90)
        numbers = itertools.count()
        poll(lambda: accepted_of(alice.path / f"{next(numbers)}", old) == len(old), 60)
        assert alice.read("old") == old
        server.next_device(alice, "bob").mount().wait_file("large", large[:accepted], 60)

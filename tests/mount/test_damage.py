"""Damage on this device's disk, seen through the mount: found, told, and no more lost than it hit.

Data flow: changes -> daemon killed -> a byte of journal or contents changed -> started again.
"""

import errno
import os
from pathlib import Path

import pytest

from tests.support.mounts import Daemon
from tests.support.product import product
from tests.support.requirements import require_fuse

MIB = 1 << 20


def fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def flip(path: Path, offset: int) -> None:
    """One bit of a file on this device's disk."""
    with open(path, "r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 1]))


def state_of(path: Path) -> str:
    """Where a file's newest change is."""
    return os.getxattr(path, "user.parsec.state").decode()


def group_written(daemon: Daemon, name: str, content: bytes) -> range:
    """A file in journal groups of its own: where they lie in the segment."""
    (segment,) = (daemon.state / "journal").glob("*.journal")
    start = segment.stat().st_size
    (daemon.path / name).write_bytes(content)
    fsync(daemon.path / name)
    return range(start, segment.stat().st_size)


def test_a_damaged_journal_group_costs_itself(fresh: Daemon) -> None:
    """What came before is applied; what came after is in a folder of its own, with its names; the
    damaged segment is kept, and the log says so."""
    (fresh.path / "first").write_bytes(b"first")
    fsync(fresh.path / "first")
    lost = group_written(fresh, "lost", b"l" * 5000)
    group_written(fresh, "behind", b"b" * 9000)
    group_written(fresh, "large behind", b"c" * (2 * MIB + 5))
    fresh.kill()
    (segment,) = (fresh.state / "journal").glob("*.journal")
    flip(segment, lost.start + len(lost) // 2)
    fresh.start()
    (recovered,) = fresh.path.glob("recovered *")
    assert sorted(os.listdir(fresh.path)) == ["first", recovered.name]
    assert (fresh.path / "first").read_bytes() == b"first"
    assert sorted(os.listdir(recovered)) == ["behind", "large behind"]
    assert (recovered / "behind").read_bytes() == b"b" * 9000
    assert (recovered / "large behind").read_bytes() == b"c" * (2 * MIB + 5)
    assert f"2 files were put into b'{recovered.name}'" in fresh.log.read_text()
    assert len(list((fresh.state / "journal/damaged").iterdir())) == 1
    (fresh.path / "after").write_bytes(b"goes on")
    fsync(fresh.path / "after")
    fresh.kill()
    fresh.start()
    assert (fresh.path / "after").read_bytes() == b"goes on"
    assert (recovered / "behind").read_bytes() == b"b" * 9000


def test_a_damaged_block_costs_itself(fresh: Daemon) -> None:
    """Its bytes are an error and never data; the other blocks of the file, and other files, are
    there; the log names the inode and the place, and no name."""
    content = os.urandom(3 * MIB)
    path, other = fresh.path / "secret name", fresh.path / "other"
    path.write_bytes(content[: 2 * MIB])
    fsync(path)
    with open(path, "ab") as file:
        known = set(os.listdir(fresh.state / "contents/pending"))
        file.write(content[2 * MIB :])
        file.flush()
        os.fsync(file.fileno())
    (third,) = set(os.listdir(fresh.state / "contents/pending")) - known
    other.write_bytes(content)
    fsync(other)
    fresh.kill()
    flip(fresh.state / "contents/pending" / third, 500_000)
    fresh.start()
    descriptor = os.open(path, os.O_RDONLY)
    try:
        assert os.pread(descriptor, MIB, 0) == content[:MIB]
        with pytest.raises(OSError) as caught:
            os.pread(descriptor, 4096, 2 * MIB + 8192)
        assert caught.value.errno == errno.EIO
    finally:
        os.close(descriptor)
    assert other.read_bytes() == content
    said = fresh.log.read_text()
    place = f"inode {path.stat().st_ino}: bytes {2 * MIB} to {3 * MIB} are damaged"
    assert place in said
    assert "secret name" not in said
    path.write_bytes(b"written anew")
    fsync(path)
    fresh.kill()
    fresh.start()
    assert path.read_bytes() == b"written anew"


def test_a_damaged_block_that_is_stored_is_fetched_again() -> None:
    """With a server behind it, damage in the cache is not noticed by whoever reads; what is damaged
    before it was sent is told with its name, and keeps nothing else from being sent."""
    require_fuse()
    content = os.urandom(2 * MIB)
    with product() as server:
        alice = server.first_device("alice").mount()
        (alice.path / "file").write_bytes(content)
        alice.wait("audited", timeout_s=60)
        alice.unmount()
        cached = [path for path in alice.home.root.rglob("blocks/cache/*") if path.is_file()]
        assert len(cached) == 2
        assert alice.cli("fsck")["blocks"] == 2
        for path in cached:
            flip(path, 1000)
        code, found = alice.run("fsck")
        assert (code, [one["place"] for one in found["faults"]]) == (40, ["/file", "/file"])
        assert all("fetched again" in one["what"] for one in found["faults"])
        alice.mount()
        code, found = alice.run("fsck")
        assert (code, "parsec-fs umount" in found["error"]) == (11, True)
        assert (alice.path / "file").read_bytes() == content
        server.programs.kill("server")
        (alice.path / "lost").write_bytes(content)
        fsync(alice.path / "lost")
        flip(next(alice.home.root.rglob("blocks/pending/*")), 1000)
        server.start_server()
        (alice.path / "good").write_bytes(content)
        code, document = alice.run("wait", "--timeout", "60", timeout_s=80)
        assert (code, "1 file is held back" in document["error"]) == (21, True), document
        assert state_of(alice.path / "good") in ("logged", "anchored", "audited")
        assert state_of(alice.path / "lost") == "local"
        status = alice.status()
        assert [one["path"] for one in status["held"]] == ["lost"]
        assert f"rm {alice.path}/lost" in (alice.path / ".status").read_text()
        (alice.path / "lost").write_bytes(b"written anew")
        alice.wait("logged", timeout_s=60)
        assert alice.status()["held"] == []
        alice.in_peace()
        (alice.path / "last").write_bytes(b"never sent")
        fsync(alice.path / "last")
        alice.kill()
        segment = max(alice.home.root.rglob("journal/*.journal"))
        flip(segment, len(segment.read_bytes().rstrip(b"\0")) - 10)
        code, found = alice.run("fsck")
        assert (code, [one["place"] for one in found["faults"]]) == (
            40,
            [f"journal/{segment.name}"],
        )
        (database,) = alice.home.root.rglob("realm.db")
        with database.open("r+b") as file:
            file.seek(100)
            file.write(os.urandom(database.stat().st_size - 100))
        spoilt = database.read_bytes()
        code, found = alice.run("fsck")
        assert (code, {one["place"] for one in found["faults"]}) == (
            40,
            {"realm.db", f"journal/{segment.name}"},
        )
        assert database.read_bytes() == spoilt

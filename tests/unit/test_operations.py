"""Handlers without a kernel: what they refuse, and that nothing but FUSEError ever leaves them.

Data flow: calls as pyfuse3 makes them -> Operations over a workspace in a folder -> answers.
"""

import errno
import os
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace

import pyfuse3
import pytest
import trio

from parsec_fs.mount.attributes import Attributes
from parsec_fs.mount.control import LocalFacts
from parsec_fs.mount.operations import Operations
from parsec_fs.protocol.ids import ObjectId
from parsec_fs.protocol.limits import INLINE_MAX_SIZE
from parsec_fs.workspace.filesystem import Filesystem
from parsec_fs.workspace.gate import Gate
from parsec_fs.workspace.nodes import FileNode
from tests.support.local_daemon import open_filesystem
from tests.support.waiting import until

CALLER = SimpleNamespace(uid=0, gid=0, pid=1, umask=0o22)
ROOT = pyfuse3.ROOT_INODE


@pytest.fixture
async def filesystem(tmp_path: Path) -> AsyncIterator[Filesystem]:
    """An open workspace with its tasks."""
    filesystem = open_filesystem(tmp_path)
    async with trio.open_nursery() as nursery:
        await nursery.start(filesystem.run)
        yield filesystem
        nursery.cancel_scope.cancel()


@pytest.fixture
def operations(filesystem: Filesystem) -> Operations:
    """Handlers over it."""
    return Operations(filesystem, Gate(), LocalFacts(filesystem.tree), Attributes(None))


async def made(operations: Operations, name: bytes, content: bytes = b"") -> int:
    """A file; its inode number."""
    info, attrs = await operations.create(ROOT, name, 0o644, os.O_RDWR, CALLER)
    fh = info.fh
    if content:
        await operations.write(fh, 0, content)
    await operations.release(fh)
    return attrs.st_ino


async def refusal(awaitable: object) -> int:
    """The errno with which a handler refuses."""
    with pytest.raises(pyfuse3.FUSEError) as caught:
        await awaitable  # type: ignore[misc]
    return caught.value.errno


async def test_missing_names_are_cached_answers(operations: Operations) -> None:
    answer = await operations.lookup(ROOT, b"none", CALLER)
    assert answer.st_ino == 0
    assert answer.entry_timeout > 3600


async def test_probes_are_answered_before_anything_is_looked_up(operations: Operations) -> None:
    unknown = 12_345_678
    assert await refusal(operations.getxattr(unknown, b"security.capability", CALLER)) == 61
    acl = b"system.posix_acl_access"
    assert await refusal(operations.getxattr(unknown, acl, CALLER)) == errno.EOPNOTSUPP
    assert await refusal(operations.setxattr(ROOT, acl, b"", CALLER)) == errno.EOPNOTSUPP
    assert await refusal(operations.flush(1)) == errno.ENOSYS
    assert await refusal(operations.getattr(unknown, CALLER)) == errno.ESTALE


@pytest.mark.expects_log("getattr: unexpected error, answered EIO")
@pytest.mark.expects_log("read: unexpected error, answered EIO")
@pytest.mark.expects_log("write: unexpected error, answered EIO")
async def test_unexpected_errors_become_eio(operations: Operations) -> None:
    inode = await made(operations, b"file")
    operations.tree.nodes[operations.tree.inodes[inode].id].fresh = False
    operations.attributes.of = None  # type: ignore[assignment, method-assign]
    assert await refusal(operations.getattr(inode, CALLER)) == errno.EIO
    assert await refusal(operations.read(999, 0, 10)) == errno.EIO
    assert await refusal(operations.write(999, 0, b"")) == errno.EIO
    assert operations.unexpected == 3


async def test_a_frozen_mount_changes_nothing_and_shows_what_was_verified(
    operations: Operations,
) -> None:
    seen, unseen = await made(operations, b"seen", b"1"), await made(operations, b"unseen", b"2")
    link = await operations.symlink(ROOT, b"link", b"unseen target", CALLER)
    seen_id = operations.tree.inodes[seen].id
    operations.gate.freeze()
    operations.gate.is_readable = lambda id: id == seen_id
    assert await refusal(operations.readlink(link.st_ino, CALLER)) == errno.EIO
    info, _ = (await operations.open(seen, os.O_RDONLY, CALLER)), None
    assert bytes(await operations.read(info.fh, 0, 10)) == b"1"
    assert await refusal(operations.open(unseen, os.O_RDONLY, CALLER)) == errno.EIO
    assert await refusal(operations.open(seen, os.O_RDWR, CALLER)) == errno.EROFS
    for refused in (
        operations.create(ROOT, b"new", 0o644, 0, CALLER),
        operations.mkdir(ROOT, b"new", 0o755, CALLER),
        operations.unlink(ROOT, b"seen", CALLER),
        operations.rename(ROOT, b"seen", ROOT, b"new", 0, CALLER),
        operations.setxattr(seen, b"user.x", b"", CALLER),
        operations.write(info.fh, 0, b"x"),
    ):
        assert await refusal(refused) == errno.EROFS


async def test_a_reader_is_refused_at_open(operations: Operations) -> None:
    inode = await made(operations, b"file", b"x")
    operations.gate.read_only(True)
    assert await refusal(operations.open(inode, os.O_WRONLY, CALLER)) == errno.EACCES
    assert await operations.open(inode, os.O_RDONLY, CALLER)


async def test_an_orphan_leaves_memory_with_its_last_reference(operations: Operations) -> None:
    inode = await made(operations, b"file", b"x")
    info = await operations.open(inode, os.O_RDONLY, CALLER)
    fh = info.fh
    await operations.unlink(ROOT, b"file", CALLER)
    await operations.forget([(inode, 1)])
    assert bytes(await operations.read(fh, 0, 1)) == b"x"
    await operations.release(fh)
    assert inode not in operations.tree.inodes
    assert operations.tree.dirty_nodes.keys() == {operations.tree.inodes[ROOT].id}


async def test_no_room_is_refused_before_data_is_taken(
    operations: Operations, filesystem: Filesystem
) -> None:
    info, _ = await operations.create(ROOT, b"file", 0o644, os.O_RDWR, CALLER)
    fh = info.fh
    plenty, filesystem.room.free = filesystem.room.free, lambda: 0
    filesystem.room.measure()
    assert await refusal(operations.write(fh, 0, b"data")) == errno.ENOSPC
    filesystem.room.free = plenty
    assert await operations.write(fh, 0, b"data") == 4


async def test_fsync_waits_for_what_the_mount_promises(operations: Operations) -> None:
    waited: list[int] = []

    async def wait(position: int, about: ObjectId | None) -> None:
        waited.append(position)

    operations.gate.fsync_wait = wait
    info, _ = await operations.create(ROOT, b"file", 0o644, os.O_RDWR, CALLER)
    fh = info.fh
    await operations.write(fh, 0, b"data")
    await operations.fsync(fh, False)
    assert waited == [operations.tree.position]
    assert operations.filesystem.journal.synced >= waited[0]


@pytest.mark.expects_log("journal: cannot write")
async def test_a_full_disk_is_tried_again(operations: Operations, filesystem: Filesystem) -> None:
    healthy, journal = filesystem.journal._write, filesystem.journal

    def full(position: int, count: int, frame: bytes) -> None:
        raise OSError(errno.ENOSPC, "no room")

    journal._write = full  # type: ignore[method-assign]
    await made(operations, b"file", b"x")
    with pytest.raises(OSError):
        journal.flush()
    filesystem.flush()
    assert filesystem.room.disk == 0
    journal._write = healthy  # type: ignore[method-assign]
    await until(lambda: journal.written == operations.tree.position)


@pytest.mark.parametrize(
    ("size", "flags", "ahead"),
    [
        (100_000, os.O_RDONLY, True),
        (100_000, os.O_RDWR, False),
        (300_000, os.O_RDONLY, False),
        (10_000, os.O_RDONLY, False),
    ],
)
async def test_a_small_block_is_opened_with_its_file(
    operations: Operations, filesystem: Filesystem, size: int, flags: int, ahead: bool
) -> None:
    content = os.urandom(size)
    inode = await made(operations, b"file", content)
    await filesystem.settle()
    node = filesystem.tree.node(inode)
    assert type(node) is FileNode
    handle = (await operations.open(inode, flags, CALLER)).fh
    refs = [ref for ref in node.blocks or () if ref is not None]
    assert len(refs) == (size > INLINE_MAX_SIZE)
    assert any(not filesystem.contents.wanted(ref) for ref in refs) is ahead
    assert await operations.read(handle, 0, size) == content
    await operations.release(handle)

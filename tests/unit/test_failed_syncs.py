"""A block that the disk did not take is never acknowledged: it is written anew, or fsync fails.

Data flow: file system over a disk that fails as Linux tells of it, once -> fsync -> what is where.
"""

import errno
import os
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import pytest
import trio

from parsec_fs.protocol.errors import LocalError
from parsec_fs.protocol.limits import MIB
from parsec_fs.storage.block_files import BlockFiles
from parsec_fs.workspace import names
from parsec_fs.workspace.filesystem import Filesystem
from parsec_fs.workspace.held import Reason
from parsec_fs.workspace.nodes import ROOT_INODE, FileNode
from tests.support.local_daemon import open_filesystem


class Disk:
    """The calls of these numbers fail. Linux tells of it once: then the page counts as written."""

    def __init__(self, failing: set[int]) -> None:
        self.failing = failing
        self.calls = 0
        self.lost: set[int] = set()
        self.open = ExitStack()

    def fsync(self, fd: int) -> None:
        self.calls += 1
        if self.calls in self.failing:
            self.lost.add(os.fstat(fd).st_ino)
            self.open.callback(os.close, os.dup(fd))  # Or another file gets its number.
            raise OSError(errno.EIO, "not written")


@asynccontextmanager
async def workspace(folder: Path, disk: Disk) -> AsyncIterator[Filesystem]:
    """Open; nothing is synchronised that the test does not ask for."""
    filesystem = open_filesystem(folder)
    files = filesystem.contents.files
    filesystem.contents.files = BlockFiles(
        files.pending_dir.parent, limit=files.limit, fsync=disk.fsync
    )
    with disk.open, trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(filesystem.seals.run)
            yield filesystem
            nursery.cancel_scope.cancel()
    filesystem.close()


async def of_one_block(filesystem: Filesystem, name: bytes, content: bytes) -> FileNode:
    tree, now = filesystem.tree, filesystem.clock()
    node = filesystem.call(names.make_file, tree, ROOT_INODE, name, 0o644, (0, 0), now)
    assert isinstance(node, FileNode)
    filesystem.write(node, 0, content)
    await filesystem.seals.drained(node)
    return node


def pending(filesystem: Filesystem, node: FileNode) -> Path:
    assert node.blocks is not None
    (ref,) = node.blocks
    assert ref is not None
    return filesystem.contents.files.pending_dir / ref.id.hex()


@pytest.mark.parametrize("failing", [{1}, {2}, {1, 2}, {1, 3}])
async def test_what_the_disk_did_not_take_is_written_anew(
    tmp_path: Path, failing: set[int]
) -> None:
    """The calls: the block (1), the folder (2), the block in a new file (3)."""
    content, disk = os.urandom(MIB), Disk(failing)
    async with workspace(tmp_path, disk) as filesystem:
        node = await of_one_block(filesystem, b"file", content)
        before = pending(filesystem, node).stat().st_ino
        size = filesystem.contents.files.pending_size
        for _ in failing - {2} or failing:
            with pytest.raises(LocalError):
                await filesystem.syncs.sync(filesystem.tree.position)
            assert not filesystem.contents.files.is_durable()
        await filesystem.fsync(node)
        assert pending(filesystem, node).stat().st_ino not in {before, *disk.lost}
        assert filesystem.contents.files.is_durable()
        assert filesystem.contents.files.pending_size == size
        filesystem.contents.opened.clear()
        assert await filesystem.read(node, 0, MIB) == content


async def test_what_the_disk_has_lost_fails_each_fsync_of_its_file_alone(tmp_path: Path) -> None:
    async with workspace(tmp_path, Disk({1})) as filesystem:
        node = await of_one_block(filesystem, b"lost", os.urandom(MIB))
        with pytest.raises(LocalError):
            await filesystem.fsync(node)
        pending(filesystem, node).write_bytes(bytes(MIB))
        for _ in range(2):
            with pytest.raises(LocalError) as refused:
                await filesystem.fsync(node)
            assert refused.value.errno == errno.EIO
        held = [(file, obstacle.reason) for file, obstacle in filesystem.held.items()]
        assert held == [(node, Reason.DAMAGED)]
        other = await of_one_block(filesystem, b"other", os.urandom(MIB))
        await filesystem.fsync(other)
        await filesystem.secure()
        filesystem.write(node, 0, os.urandom(MIB))
        await filesystem.fsync(node)
        assert not list(filesystem.held.items())


async def test_blocks_that_fail_before_they_are_sent_are_tried_again(tmp_path: Path) -> None:
    """The upload knows errors of this project only: another would end the mount."""
    async with workspace(tmp_path, Disk({1})) as filesystem:
        await of_one_block(filesystem, b"file", os.urandom(MIB))
        with pytest.raises(LocalError):
            await filesystem.secure()
        await filesystem.secure()
        assert filesystem.contents.files.is_durable()

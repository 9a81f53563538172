"""Room for blocks: what waits for its upload cannot be evicted, so writing is refused in time.

Data flow: writes -> a file system with a small limit for blocks -> accepted, or EDQUOT and nothing.
"""

import errno
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from parsec_fs.protocol.errors import LocalError
from parsec_fs.protocol.limits import BLOCK_SIZE, MIB
from parsec_fs.workspace import names
from parsec_fs.workspace.filesystem import Filesystem
from parsec_fs.workspace.nodes import ROOT_INODE, FileNode
from tests.support.local_daemon import open_filesystem

LIMIT = 6 * MIB
PIECE = 128 * 1024

pytestmark = pytest.mark.expects_log("new data is refused")


@pytest.fixture
async def small(tmp_path: Path) -> AsyncIterator[Filesystem]:
    """A workspace with room for not quite six blocks."""
    filesystem = open_filesystem(tmp_path, cache_limit=LIMIT)
    async with trio.open_nursery() as nursery:
        await nursery.start(filesystem.run)
        yield filesystem
        nursery.cancel_scope.cancel()


def make(filesystem: Filesystem, name: bytes) -> FileNode:
    now = filesystem.clock()
    return filesystem.call(
        lambda: names.make_file(filesystem.tree, ROOT_INODE, name, 0o644, (0, 0), now)
    )


async def fill(filesystem: Filesystem, node: FileNode, content: bytes) -> int:
    """Write as the kernel does, until it is refused; the bytes that were accepted."""
    for offset in range(0, len(content), PIECE):
        try:
            if filesystem.write(node, offset, content[offset : offset + PIECE]):
                await filesystem.relieve()
        except LocalError as error:
            if error.errno != errno.EDQUOT:
                raise
            return offset
    return len(content)


async def settled(filesystem: Filesystem, node: FileNode) -> int:
    """Everything is sealed; bytes that wait on disk."""
    filesystem.released(node)
    await filesystem.fsync(None)
    await filesystem.settle()
    return filesystem.contents.files.pending_size


def uploaded(filesystem: Filesystem) -> None:
    """As after a commit that names all of them."""
    nodes = filesystem.tree.nodes.values()
    refs = {ref for node in nodes if isinstance(node, FileNode) for ref in node.blocks or ()}
    waiting = set(filesystem.contents.files.pending_blocks())
    named = {ref.id: ref for ref in refs if ref is not None}
    assert waiting <= named.keys()
    for block in waiting:
        filesystem.contents.files.uploaded(named[block])


async def test_a_write_is_refused_before_it_is_accepted(small: Filesystem) -> None:
    node, content = make(small, b"large"), os.urandom(2 * LIMIT)
    accepted = await fill(small, node, content)
    assert LIMIT - BLOCK_SIZE < accepted <= LIMIT
    assert node.size == accepted, "nothing of what was refused is there"
    assert await settled(small, node) <= LIMIT + accepted // BLOCK_SIZE * 16 + 16
    assert (
        b"".join([bytes(await small.read(node, at, PIECE)) for at in range(0, accepted, PIECE)])
        == content[:accepted]
    )
    assert "--cache 6" in small.room.problem()
    with pytest.raises(LocalError) as caught:
        small.write(make(small, b"other"), 0, bytes(100_000))
    assert caught.value.errno == errno.EDQUOT
    assert small.write(make(small, b"small"), 0, b"travels in its manifest") is False


async def test_it_goes_on_after_the_upload(small: Filesystem) -> None:
    node = make(small, b"large")
    accepted = await fill(small, node, os.urandom(2 * LIMIT))
    await settled(small, node)
    uploaded(small)
    small.room.measure()
    assert small.room.problem() == ""
    assert await fill(small, make(small, b"next"), os.urandom(accepted)) == accepted


async def test_deleting_gives_the_room_back(small: Filesystem) -> None:
    node = make(small, b"large")
    accepted = await fill(small, node, os.urandom(2 * LIMIT))
    await settled(small, node)
    small.call(lambda: names.unlink(small.tree, ROOT_INODE, b"large", 0, small.clock()))
    small.tree.forget(node.inode, node.lookups)
    await small.fsync(None)
    small.memory.discard_dropped()
    assert small.contents.files.pending_size == 0
    assert await fill(small, make(small, b"next"), os.urandom(accepted)) == accepted


async def remove(filesystem: Filesystem, node: FileNode, name: bytes) -> None:
    """As `rm` does of a file that nobody has open any more."""
    filesystem.released(node)
    filesystem.call(lambda: names.unlink(filesystem.tree, ROOT_INODE, name, 0, filesystem.clock()))
    filesystem.tree.forget(node.inode, node.lookups)


async def test_temporary_files_leave_nothing(small: Filesystem) -> None:
    """Deleted before they settle, or while they are being sealed."""
    for number in range(3 * LIMIT // MIB):
        for name, size in ((b"small", 60_000), (b"blocks", BLOCK_SIZE + 1)):
            node = make(small, name)
            assert await fill(small, node, os.urandom(size)) == size, number
            await remove(small, node, name)
        await small.seals.drained()
        await small.fsync(None)
        small.memory.discard_dropped()
    assert small.contents.files.pending_size == 0
    accepted = await fill(small, make(small, b"next"), os.urandom(2 * LIMIT))
    assert LIMIT - BLOCK_SIZE < accepted <= LIMIT


async def test_a_byte_in_a_block_counts_as_the_block(small: Filesystem) -> None:
    """What it becomes when it is sealed must have its place, or the promise is not kept."""
    node = make(small, b"database")
    await fill(small, node, os.urandom(4 * BLOCK_SIZE))
    await settled(small, node)
    small.room.measure()
    small.write(node, 10, b"x")
    with pytest.raises(LocalError) as caught:
        small.write(node, BLOCK_SIZE + 10, b"x")
    assert caught.value.errno == errno.EDQUOT
    assert small.write(node, 11, b"y") is False, "the block that is being changed has its place"


async def test_what_is_replayed_counts(tmp_path: Path) -> None:
    filesystem = open_filesystem(tmp_path, cache_limit=LIMIT)
    node = make(filesystem, b"large")
    filesystem.write(node, 0, os.urandom(PIECE))
    filesystem.close()
    again = open_filesystem(tmp_path, cache_limit=PIECE)
    found = again.call(again.tree.lookup, ROOT_INODE, b"large")
    assert isinstance(found, FileNode)
    with pytest.raises(LocalError) as caught:
        again.write(found, PIECE, b"more")
    assert caught.value.errno == errno.EDQUOT
    again.close()

"""The whole shell against a dictionary: files through Filesystem, with kills and reopenings.

Data flow: hypothesis -> create, write, truncate, read, settle, kill -> real journal and contents
    in a folder -> the same contents as plain byte strings.
"""

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from parsec_fs.workspace import file_ops, files, memory, names
from parsec_fs.workspace.nodes import ROOT_INODE, FileNode
from tests.support.local_daemon import open_filesystem

NAMES = st.sampled_from([b"a", b"b", b"c"])
SIZES = st.sampled_from([0, 1, 5_000, 16_384, 16_385, 100_000, 1 << 20, (1 << 20) + 1, 2_500_000])
OPERATIONS = st.one_of(
    st.tuples(st.just("write"), NAMES, SIZES, SIZES),
    st.tuples(st.just("truncate"), NAMES, SIZES),
    st.tuples(st.just("unlink"), NAMES),
    st.tuples(st.just("rename"), NAMES, NAMES),
    st.tuples(st.just("close"), NAMES),
    st.tuples(st.just("fsync"), NAMES),
    st.tuples(st.just("settle")),
    st.tuples(st.just("spill")),
    st.tuples(st.just("check")),
    st.tuples(st.just("kill")),
)


class Driver:
    """Does each operation on the file system and on `expected`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.expected: dict[bytes, bytes] = {}
        self.filesystem = open_filesystem(folder)
        self.counter = 0

    def node(self, name: bytes) -> FileNode | None:
        found = self.filesystem.tree.lookup(ROOT_INODE, name)
        assert found is None or isinstance(found, FileNode)
        return found

    async def write(self, name: bytes, offset: int, length: int) -> None:
        self.counter += 1
        data = (b"%d " % self.counter * (length // 2 + 1))[:length]
        node = self.node(name)
        if node is None:
            tree = self.filesystem.tree
            node = names.make_file(tree, ROOT_INODE, name, 0o644, (0, 0), self.counter)
        if self.filesystem.write(node, offset, data):
            await self.filesystem.relieve()
        old = self.expected.get(name, b"")
        if length:
            old = old.ljust(offset, b"\0")
            self.expected[name] = old[:offset] + data + old[offset + length :]
        else:
            self.expected[name] = old

    async def truncate(self, name: bytes, size: int) -> None:
        node = self.node(name)
        if node is not None:
            tree = self.filesystem.tree
            self.filesystem.call(files.truncate, tree, node, size, self.filesystem.clock())
            self.expected[name] = self.expected[name][:size].ljust(size, b"\0")

    async def unlink(self, name: bytes) -> None:
        node = self.node(name)
        if node is not None:
            names.unlink(self.filesystem.tree, ROOT_INODE, name, 0, 1)
            self.filesystem.tree.forget(node.inode, 1)
            del self.expected[name]

    async def rename(self, name: bytes, new: bytes) -> None:
        if self.node(name) is not None:
            tree = self.filesystem.tree
            names.rename(tree, ROOT_INODE, name, ROOT_INODE, new, flags=0, uid=0, now=1)
            self.expected[new] = self.expected.pop(name)

    async def close(self, name: bytes) -> None:
        node = self.node(name)
        if node is not None:
            self.filesystem.released(node)

    async def fsync(self, name: bytes) -> None:
        await self.filesystem.fsync(self.node(name))

    async def settle(self) -> None:
        self.filesystem.journal_open_files()
        await self.filesystem.settle()
        for node in self.filesystem.tree.nodes.values():
            if isinstance(node, FileNode) and node.nlink:
                assert not file_ops.unsettled(node)

    async def spill(self) -> None:
        """All small content that can be read again leaves memory."""
        self.filesystem.journal_open_files()
        self.filesystem.journal.flush()
        for node in list(self.filesystem.tree.nodes.values()):
            if isinstance(node, FileNode):
                self.filesystem.keep_resident(node)
        self.filesystem.memory.resident_size += memory.RESIDENT_MAX * 2
        self.filesystem.memory._spill()
        self.filesystem.memory.resident_size = sum(self.filesystem.memory.resident.values())

    async def check(self) -> None:
        """Everything reads back as expected."""
        children = self.filesystem.tree.folder(ROOT_INODE).children
        assert children is not None
        assert set(children) == set(self.expected)
        for name, content in self.expected.items():
            node = self.node(name)
            assert node is not None
            assert node.size == len(content)
            assert await self.read(node) == content

    async def read(self, node: FileNode) -> bytes:
        parts = []
        for offset in range(0, node.size, 300_000):
            data = self.filesystem.read_now(node, offset, 300_000)
            parts.append(data or await self.filesystem.read(node, offset, 300_000))
        return b"".join(parts)


async def drive(operations: list[tuple[Any, ...]], folder: Path) -> None:
    """Run all operations; "kill" goes on with what is in the folder."""
    driver = Driver(folder)
    rest = list(operations)
    while True:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(driver.filesystem.seals.run)
            while rest:
                name, *arguments = rest.pop(0)
                if name == "kill":
                    break
                await getattr(driver, name)(*arguments)
            await driver.check()
            driver.filesystem.journal_open_files()
            killed = driver.filesystem
            killed.journal.flush()
            nursery.cancel_scope.cancel()
        driver.filesystem = open_filesystem(folder)
        if killed.journal._segment is not None:
            os.close(killed.journal._segment.fd)
        if not rest:
            break
    await driver.check()
    driver.filesystem.close()


@settings(max_examples=40, deadline=None)
@given(st.lists(OPERATIONS, max_size=14))
def test_files_survive_everything(operations: list[tuple[Any, ...]]) -> None:
    folder = Path(tempfile.mkdtemp())
    try:
        trio.run(drive, operations, folder)
    finally:
        shutil.rmtree(folder)

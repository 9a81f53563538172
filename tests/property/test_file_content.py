"""Content of a file against a plain bytearray: writes, cuts, sealing, replay after a crash.

Data flow: hypothesis -> files, file_ops -> read back; the journal's records -> a second file that
    must show everything that was journalled.
"""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from parsec_fs.protocol.ids import ROOT_OBJECT, BlockId, Hash, ObjectId
from parsec_fs.protocol.limits import BLOCK_SIZE
from parsec_fs.protocol.manifests import BlockRef
from parsec_fs.workspace import file_ops, files, names
from parsec_fs.workspace.nodes import ROOT_INODE, TYPE_FOLDER, FileNode, FolderNode, Missing
from parsec_fs.workspace.replay import Replay
from parsec_fs.workspace.tree import Tree

OFFSETS = st.one_of(
    st.integers(0, 40_000),
    st.sampled_from([BLOCK_SIZE - 5, BLOCK_SIZE, 2 * BLOCK_SIZE - 1, 3 * BLOCK_SIZE + 7]),
)
LENGTHS = st.sampled_from([1, 10, 16_000, 20_000, BLOCK_SIZE, BLOCK_SIZE + 100])


class Device:
    """A tree with one file, and its sealed blocks in a dictionary."""

    def __init__(self, blocks: dict[BlockId, bytes]) -> None:
        self.blocks = blocks
        self.records: list[tuple[int, tuple[int | bytes, ...]]] = []
        self.count = 0
        self.tree = Tree(new_id=self.new_id, emit=self.emit)
        root = FolderNode(ROOT_OBJECT, ROOT_INODE, TYPE_FOLDER, 0, 0, 0, 0)
        self.tree.add(root)

    def new_id(self) -> ObjectId:
        self.count += 1
        return ObjectId((100 + self.count).to_bytes(8, "big") + bytes(8))

    def emit(self, record: tuple[int | bytes, ...]) -> None:
        self.records.append((self.tree.position, record))

    def read(self, node: FileNode) -> bytes:
        """All of a file, as the shell does it."""
        if node.blocks is None:
            return file_ops.read_inline(node, 0, node.size)
        parts = []
        for index, start, stop in file_ops.pieces(0, node.size):
            ref = file_ops.needs_base(node, index, start, stop)
            base = b"" if ref is None else self.blocks[ref.id]
            cut, buffer = node.cuts.get(index), node.buffers.get(index)
            parts.append(bytes(file_ops.compose(base, cut, buffer, start, stop)))
        return b"".join(parts)

    def seal(self, node: FileNode, index: int) -> None:
        """As the seal queue does it, at once."""
        length = file_ops.block_length(node.size, index)
        ref = file_ops.needs_base(node, index, 0, length)
        base = b"" if ref is None else self.blocks[ref.id]
        cut, buffer = node.cuts.get(index), node.buffers.get(index)
        plain = bytes(file_ops.compose(base, cut, buffer, 0, length))
        block = BlockId((len(self.blocks) + 1).to_bytes(16, "big"))
        self.blocks[block] = plain
        sealed = BlockRef(id=block, key=bytes(32), digest=Hash(bytes(32)), size=len(plain))
        reached = (index + 1) * BLOCK_SIZE
        files.block_sealed(self.tree, node, index, sealed, reached=reached)


class FileMachine(RuleBasedStateMachine):
    """One file; `expected` is the oracle."""

    @initialize()
    def start(self) -> None:
        self.device = Device({})
        self.node = names.make_file(self.device.tree, ROOT_INODE, b"file", 0o644, (0, 0), 1)
        self.expected = bytearray()
        self.now = 1

    def tick(self) -> int:
        self.now += 1
        return self.now

    @rule(offset=OFFSETS, length=LENGTHS, fill=st.integers(1, 255))
    def write(self, offset: int, length: int, fill: int) -> None:
        data = bytes([fill]) * length
        complete = files.write(self.device.tree, self.node, offset, data, self.tick())
        if offset > len(self.expected):
            self.expected.extend(bytes(offset - len(self.expected)))
        self.expected[offset : offset + length] = data
        if complete >= 0:
            assert self.node.buffers[complete].known == [[0, BLOCK_SIZE]]

    @rule(length=LENGTHS, fill=st.integers(1, 255))
    def append(self, length: int, fill: int) -> None:
        self.write(len(self.expected), length, fill)

    @rule(size=st.one_of(OFFSETS, st.just(0)))
    def truncate(self, size: int) -> None:
        files.truncate(self.device.tree, self.node, size, self.tick())
        del self.expected[size:]
        self.expected.extend(bytes(size - len(self.expected)))

    @rule(part=st.integers(0, 5))
    def seal(self, part: int) -> None:
        indexes = sorted({*self.node.buffers, *self.node.cuts})
        if indexes and self.node.blocks is not None:
            self.device.seal(self.node, indexes[part % len(indexes)])

    @rule()
    def to_inline(self) -> None:
        if self.node.blocks is not None and self.node.size <= 16_384:
            files.journal_content(self.device.tree, self.node)
            content = self.device.read(self.node)
            files.became_inline(self.device.tree, self.node, content)

    @rule()
    def write_while_sealing(self) -> None:
        """A write to a block that is being sealed: the sealed result must be of no use."""
        for index, buffer in list(self.node.buffers.items()):
            buffer.sealing = True
            before = bytes(buffer.data)
            self.write(index * BLOCK_SIZE, 10, 7)
            assert self.node.buffers[index] is not buffer
            assert bytes(buffer.data) == before
            return

    @rule()
    def journal(self) -> None:
        files.journal_content(self.device.tree, self.node)
        assert not self.node.unjournaled

    @rule()
    def crash(self) -> None:
        """Everything journalled is in the replayed file; then life goes on with that one."""
        self.journal()
        after = Device(self.device.blocks)
        after.count = self.device.count
        after.records = list(self.device.records)
        replay = Replay(after.tree)
        for position, record in self.device.records:
            try:
                replay.apply(position, record)
            except Missing as missing:
                replay.absent.add(missing.id)
                replay.apply(position, record)
        replay.finish()
        node = after.tree.nodes[self.node.id]
        assert isinstance(node, FileNode)
        assert after.read(node) == self.expected
        assert (node.size, node.mtime_ns) == (self.node.size, self.node.mtime_ns)
        self.device, self.node = after, node

    @invariant()
    def shows_what_was_written(self) -> None:
        if not hasattr(self, "node"):
            return
        assert self.node.size == len(self.expected)
        assert self.device.read(self.node) == self.expected

    @invariant()
    def keeps_ranges_in_order(self) -> None:
        if not hasattr(self, "node"):
            return
        for buffer in self.node.buffers.values():
            for ranges in (buffer.known, buffer.fresh):
                flat = [edge for one in ranges for edge in one]
                assert flat == sorted(set(flat))
                assert not flat or flat[-1] <= len(buffer.data)


TestFile = FileMachine.TestCase
TestFile.settings = settings(stateful_step_count=25, max_examples=40, deadline=None)

"""Which bytes of a file lie where: inline content, blocks of 1 MiB, holes, buffers over blocks.

Data flow: files (write, truncate), filesystem (read, seal) -> this -> nodes.

Pure and synchronous. A file of up to 16 KiB is inline (decisions.md 6); a write beyond that turns
it into blocks, cutting it to nothing turns it back (others turn back when they settle).
No write ever needs to load anything: a buffer knows which of its ranges are valid, the block below
shows through the others. Cutting a block short is remembered beside it (`cuts`), so that the bytes
behind the cut read as zeros when the file grows again.
"""

from collections.abc import Container, Iterator

from parsec_fs.protocol.ids import NO_HASH, BlockId
from parsec_fs.protocol.limits import BLOCK_SIZE, INLINE_MAX_SIZE
from parsec_fs.protocol.manifests import BlockRef
from parsec_fs.workspace.nodes import CONTENT, Buffer, FileNode, Missing

Ranges = list[list[int]]
Bytes = bytes | bytearray | memoryview


def pieces(offset: int, length: int) -> Iterator[tuple[int, int, int]]:
    """The blocks that a range touches: (index, start, stop) within each block."""
    while length > 0:
        index, start = divmod(offset, BLOCK_SIZE)
        stop = min(start + length, BLOCK_SIZE)
        yield index, start, stop
        offset += stop - start
        length -= stop - start


def add_range(ranges: Ranges, start: int, stop: int) -> None:
    """Take [start, stop) into a sorted list of disjoint ranges, joining those that touch."""
    if ranges and ranges[-1][0] <= start <= ranges[-1][1]:
        if stop > ranges[-1][1]:
            ranges[-1][1] = stop
        return
    low = 0
    while low < len(ranges) and ranges[low][1] < start:
        low += 1
    high = low
    while high < len(ranges) and ranges[high][0] <= stop:
        start, stop = min(start, ranges[high][0]), max(stop, ranges[high][1])
        high += 1
    ranges[low:high] = [[start, stop]]


def cut_ranges(ranges: Ranges, size: int) -> Ranges:
    """What remains of the ranges below `size`."""
    return [[start, min(stop, size)] for start, stop in ranges if start < size]


def covers(ranges: Ranges, start: int, stop: int) -> bool:
    """True iff one range holds all of [start, stop)."""
    return any(low <= start and stop <= high for low, high in ranges)


def block_length(size: int, index: int) -> int:
    """Plaintext bytes of a block in a file of `size` bytes."""
    return max(0, min(BLOCK_SIZE, size - index * BLOCK_SIZE))


def base_of(node: FileNode, index: int) -> BlockRef | None:
    """The sealed block at an index, or None for a hole."""
    blocks = node.blocks
    return blocks[index] if blocks is not None and index < len(blocks) else None


def write(node: FileNode, offset: int, data: bytes) -> int:
    """Put data into a file. Returns the index of a block that is now complete, or -1.

    Raises Missing if inline content has to be loaded first.
    """
    if not data:
        return -1
    end = offset + len(data)
    if node.blocks is None:
        if end <= INLINE_MAX_SIZE:
            _write_inline(node, offset, data)
            return -1
        to_blocks(node)
    complete = -1
    taken = 0
    for index, start, stop in pieces(offset, len(data)):
        piece: Bytes = data
        if stop - start != len(data):
            piece = memoryview(data)[taken : taken + stop - start]
        taken += stop - start
        buffer = _write_block(node, index, start, stop, piece)
        if stop == BLOCK_SIZE and covers(buffer.known, 0, BLOCK_SIZE):
            complete = index
    if end > node.size:
        node.size = end
    return complete


def _write_inline(node: FileNode, offset: int, data: bytes) -> None:
    content = node.content
    end = offset + len(data)
    if offset == 0 and (node.size <= end):
        node.content = data
    else:
        if content is None:
            raise Missing(CONTENT, node.id)
        if type(content) is not bytearray:
            content = node.content = bytearray(content)
        if offset > len(content):
            content.extend(bytes(offset - len(content)))
        content[offset:end] = data
    if end > node.size:
        node.size = end


def to_blocks(node: FileNode) -> None:
    """From inline to blocks: the content becomes a buffer over a hole. Raises Missing."""
    if node.content is None:
        raise Missing(CONTENT, node.id)
    node.blocks = []
    if node.content:
        buffer = node.buffers[0] = Buffer()
        buffer.data = bytearray(node.content)
        buffer.known = [[0, len(buffer.data)]]
        buffer.fresh = [[0, len(buffer.data)]]
    node.content = b""


def _write_block(node: FileNode, index: int, start: int, stop: int, piece: Bytes) -> Buffer:
    buffer = node.buffers.get(index)
    if buffer is None:
        buffer = node.buffers[index] = Buffer()
    elif buffer.sealing:
        buffer = node.buffers[index] = thawed(buffer)
    if stop - start == BLOCK_SIZE and type(piece) is bytes:
        buffer.data = piece
    else:
        data = buffer.data
        if type(data) is not bytearray:
            data = buffer.data = bytearray(data)
        if start > len(data):
            data.extend(bytes(start - len(data)))
        data[start:stop] = piece
    add_range(buffer.known, start, stop)
    add_range(buffer.fresh, start, stop)
    return buffer


def thawed(buffer: Buffer) -> Buffer:
    """A copy that may be changed while a worker still seals the original."""
    copy = Buffer()
    copy.data = bytearray(buffer.data)
    copy.known = [list(one) for one in buffer.known]
    copy.fresh = [list(one) for one in buffer.fresh]
    return copy


def truncate(node: FileNode, size: int) -> None:
    """Cut or extend a file; what is new is a hole. Raises Missing for unloaded inline content."""
    if size == 0:
        node.blocks, node.content = None, b""
        node.buffers, node.cuts = {}, {}
    elif size < node.size:
        if node.blocks is not None:
            _cut_blocks(node, size)
        elif node.content is None:
            raise Missing(CONTENT, node.id)
        elif len(node.content) > size:
            node.content = node.content[:size]
    node.size = size


def _cut_blocks(node: FileNode, size: int) -> None:
    count, within = divmod(size, BLOCK_SIZE)
    assert node.blocks is not None
    for index in [i for i in node.buffers if i > count or (i == count and within == 0)]:
        del node.buffers[index]
    node.cuts = {i: cut for i, cut in node.cuts.items() if i < count or (i == count and within)}
    del node.blocks[count + (within > 0) :]
    if within == 0:
        return
    base = base_of(node, count)
    if base is not None and base.size > within:
        node.cuts[count] = min(node.cuts.get(count, within), within)
    buffer = node.buffers.get(count)
    if buffer is not None:
        if buffer.sealing:
            buffer = node.buffers[count] = thawed(buffer)
        buffer.data = buffer.data[:within]
        buffer.known = cut_ranges(buffer.known, within)
        buffer.fresh = cut_ranges(buffer.fresh, within)


def read_inline(node: FileNode, offset: int, length: int) -> bytes:
    """A range of an inline file, clipped to its size. Raises Missing."""
    if node.content is None:
        raise Missing(CONTENT, node.id)
    end = min(offset + length, node.size)
    if end <= offset:
        return b""
    if offset == 0 and end == len(node.content):
        return bytes(node.content)
    return bytes(node.content[offset:end]).ljust(end - offset, b"\0")


def compose(
    base: Bytes, cut: int | None, buffer: Buffer | None, start: int, stop: int
) -> bytes | memoryview:
    """[start, stop) of a block: sealed content up to its cut, zeros behind, the buffer on top."""
    end = len(base) if cut is None else min(cut, len(base))
    if buffer is None and stop <= end:
        return memoryview(base)[start:stop]
    if buffer is not None and covers(buffer.known, start, stop):
        return bytes(memoryview(buffer.data)[start:stop])
    out = bytearray(stop - start)
    if start < end:
        out[: min(stop, end) - start] = memoryview(base)[start : min(stop, end)]
    if buffer is not None:
        for low, high in buffer.known:
            first, last = max(low, start), min(high, stop)
            if first < last:
                out[first - start : last - start] = memoryview(buffer.data)[first:last]
    return bytes(out)


def needs_base(node: FileNode, index: int, start: int, stop: int) -> BlockRef | None:
    """The sealed block that must be opened to read this range of a block; None if none."""
    base = base_of(node, index)
    if base is None or start >= min(node.cuts.get(index, base.size), base.size):
        return None
    buffer = node.buffers.get(index)
    return None if buffer is not None and covers(buffer.known, start, stop) else base


def sealed(node: FileNode, index: int, ref: BlockRef | None) -> None:
    """Block `index` now is `ref` (or a hole): whatever lay over it is in there."""
    if node.blocks is None:
        node.blocks, node.content = [], b""
    missing = index + 1 - len(node.blocks)
    if missing > 0:
        node.blocks.extend([None] * missing)
    node.blocks[index] = ref
    node.buffers.pop(index, None)
    node.cuts.pop(index, None)


def growth(node: FileNode, offset: int, length: int) -> int:
    """Most bytes of sealed blocks that a write adds to what is in memory: of a block that is
    touched first, all of it."""
    total = 0
    for index, _, stop in pieces(offset, length):
        buffer = node.buffers.get(index)
        if buffer is None:
            base = base_of(node, index)
            total += max(stop, base.size if base is not None else 0)
        else:
            total += max(0, stop - len(buffer.data))
    return total


def unsealed_size(node: FileNode) -> int:
    """Most bytes of sealed blocks that a file's buffers become."""
    bases = {index: base_of(node, index) for index in node.buffers}
    return sum(
        max(len(buffer.data), base.size if (base := bases[index]) is not None else 0)
        for index, buffer in node.buffers.items()
    )


def fresh_ranges(node: FileNode) -> Iterator[tuple[int, bytes]]:
    """(offset, bytes) of everything in buffers that is not in the journal."""
    for index, buffer in node.buffers.items():
        for start, stop in buffer.fresh:
            yield index * BLOCK_SIZE + start, bytes(memoryview(buffer.data)[start:stop])


def needs_any(node: FileNode, blocks: Container[BlockId]) -> bool:
    """True iff the file has one of these blocks, and something of it is not written over."""
    refs = enumerate(node.blocks or ())
    found = [index for index, ref in refs if ref is not None and ref.id in blocks]
    return any(needs_base(node, one, 0, block_length(node.size, one)) is not None for one in found)


def local_blocks(node: FileNode) -> Iterator[tuple[int, BlockRef]]:
    """(index, reference) of blocks sealed here whose digest is not taken yet."""
    for index, ref in enumerate(node.blocks or ()):
        if ref is not None and ref.digest == NO_HASH:
            yield index, ref


def unsettled(node: FileNode) -> bool:
    """True iff a manifest cannot be made yet: something is not sealed, or should be inline."""
    if node.blocks is None:
        return False
    if node.buffers or node.size <= INLINE_MAX_SIZE:
        return True
    return any(cut < block_length(node.size, index) for index, cut in node.cuts.items())

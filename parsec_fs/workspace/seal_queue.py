"""Blocks on their way from memory to sealed files: a few at a time, recorded in order.

Data flow: filesystem (complete, closed or settling blocks) -> this -> contents.seal_job in worker
    threads -> files.block_sealed -> journal.

Rules guarded here:
- the data of a block that is being sealed does not change: writers work on a copy
  (`Buffer.sealing`, `file_ops.thawed`), and then the sealed result is thrown away;
- results are recorded in the order in which blocks came, so that a file never has a size in the
  journal without the data before it;
- writers wait when too much is under way (`room`): memory stays bounded.
"""

from collections import deque
from collections.abc import Callable
from typing import Final

import trio

from parsec_fs.protocol.errors import LocalError
from parsec_fs.protocol.limits import BLOCK_SIZE
from parsec_fs.protocol.manifests import BlockRef
from parsec_fs.storage.contents import Contents
from parsec_fs.storage.workers import Result
from parsec_fs.workspace import file_ops, files
from parsec_fs.workspace.nodes import Buffer, FileNode
from parsec_fs.workspace.tree import Tree

UNDER_WAY_MAX: Final = 8
_ZEROS: Final = bytes(BLOCK_SIZE)
Plaintext = bytes | bytearray | memoryview


class _Flight:
    __slots__ = ("buffer", "done", "error", "index", "node", "ref", "result")

    def __init__(self, node: FileNode, index: int, buffer: Buffer) -> None:
        self.node = node
        self.index = index
        self.buffer = buffer
        self.ref: BlockRef | None = None
        self.done = False
        self.error: Exception | None = None
        self.result: Result[BlockRef | None] | None = None


class SealQueue:
    """All blocks being sealed, in order. `start` never waits; `room`, `drained` do."""

    def __init__(
        self, tree: Tree, contents: Contents, *, on_error: Callable[[Exception], None]
    ) -> None:
        self.tree = tree
        self.contents = contents
        self.on_error = on_error
        self.flights: deque[_Flight] = deque()
        self._lacking: deque[_Flight] = deque()
        self._lack = trio.Event()
        self._landed = trio.Event()

    def start(self, node: FileNode, index: int, buffer: Buffer) -> None:
        """Begin to seal a buffer, which is frozen from now on."""
        buffer.sealing = True
        flight = _Flight(node, index, buffer)
        self.flights.append(flight)
        length = file_ops.block_length(node.size, index)
        if file_ops.needs_base(node, index, 0, length) is not None:
            self._lacking.append(flight)
            self._lack.set()
        elif len(buffer.data) == length and file_ops.covers(buffer.known, 0, length):
            self._submit(flight, buffer.data)
        else:
            self._submit(flight, file_ops.compose(b"", None, buffer, 0, length))

    def late(self) -> list[FileNode]:
        """Closed files whose data is still on its way."""
        nodes = {flight.node: None for flight in self.flights}
        return [node for node in nodes if node.unjournaled and node.writers == 0]

    def busy(self) -> bool:
        """True iff writers should wait."""
        return len(self.flights) >= UNDER_WAY_MAX

    async def room(self) -> None:
        """Wait until fewer blocks are under way."""
        while self.busy():
            await self._next()

    async def drained(self, node: FileNode | None = None) -> None:
        """Wait until no block (of this file) is under way."""
        while any(node is None or flight.node is node for flight in self.flights):
            await self._next()

    async def _next(self) -> None:
        for flight in self.flights:
            if flight.result is not None:
                self.contents.workers.hurry(flight.result)
        await self._landed.wait()

    async def run(self) -> None:
        """Get what lies below partly written blocks, until cancelled."""
        while True:
            while self._lacking:
                await self._complete(self._lacking.popleft())
            self._lack = trio.Event()
            await self._lack.wait()

    async def _complete(self, flight: _Flight) -> None:
        node, index, buffer = flight.node, flight.index, flight.buffer
        if node.buffers.get(index) is not buffer:
            flight.done = True  # the file is gone, or has another content
            self._land()
            return
        length = file_ops.block_length(node.size, index)
        cut = node.cuts.get(index)
        ref = file_ops.needs_base(node, index, 0, length)
        try:
            base = b"" if ref is None else await self.contents.read(ref)
        except LocalError as error:
            flight.error, flight.done = error, True
            self._land()
            return
        self._submit(flight, file_ops.compose(base, cut, buffer, 0, length))

    def _submit(self, flight: _Flight, data: Plaintext) -> None:
        flight.result = self.contents.workers.submit(
            lambda: self._seal_job(data), lambda result: self._sealed(flight, result)
        )

    def _seal_job(self, data: Plaintext) -> BlockRef | None:
        """In a worker thread: a sealed block, or None for a block of zeros."""
        return None if data == _ZEROS[: len(data)] else self.contents.seal_job(data)

    def _sealed(self, flight: _Flight, result: Result[BlockRef | None]) -> None:
        flight.ref, flight.error, flight.done = result.value, result.error, True
        self._land()

    def _land(self) -> None:
        while self.flights and self.flights[0].done:
            self._finish(self.flights.popleft())
        self._landed.set()
        self._landed = trio.Event()

    def _finish(self, flight: _Flight) -> None:
        node, index = flight.node, flight.index
        current = node.buffers.get(index) is flight.buffer
        if flight.ref is not None:
            self.contents.files.landed(flight.ref.id)
        if flight.error is not None:
            # The data stays in memory and unsealed; it is tried again when the file settles.
            flight.buffer.sealing = False
            self.on_error(flight.error)
        elif current:
            reached = (index + 1) * BLOCK_SIZE
            files.block_sealed(self.tree, node, index, flight.ref, reached=reached)
        elif flight.ref is not None:
            self.contents.discard(flight.ref)

"""What is held back, and when it is over: as long as a file needs the block that cannot be sent.

Data flow: a file with sealed blocks -> damage or refusals -> `Held` -> what waits, and until when.
"""

import errno
import math
import os

import pytest

from parsec_fs.protocol.errors import LocalError, VerificationError
from parsec_fs.protocol.ids import ROOT_OBJECT, BlockId, Hash
from parsec_fs.protocol.limits import BLOCK_SIZE, MIB
from parsec_fs.protocol.manifests import BlockRef
from parsec_fs.workspace import files, names
from parsec_fs.workspace.held import AGAIN_S, BLOCKS_MAX, Held, Reason
from parsec_fs.workspace.nodes import ROOT_INODE, FileNode
from tests.support.trees import World

DAMAGE = VerificationError("damaged")


class Desk:
    """Files with made-up blocks, and a clock."""

    def __init__(self) -> None:
        self.world = World()
        self.now = 100.0
        self.held = Held(self.world.tree, lambda: self.now)

    def make(self, name: bytes, blocks: int) -> FileNode:
        """A settled file of that many full blocks."""
        world = self.world
        node = world.call(names.make_file, ROOT_INODE, name, 0o644, (0, 0), world.now)
        assert isinstance(node, FileNode)
        node.blocks = [_ref() for _ in range(blocks)]
        node.size = blocks * BLOCK_SIZE
        return node

    def damage(self, node: FileNode, index: int) -> None:
        """A read has failed there."""
        self.held.suspect(_block(node, index), DAMAGE)
        self.held.look()

    def refuse(self, node: FileNode, reason: Reason = Reason.FULL) -> None:
        """The server does not take the first block."""
        self.held.refused(node.id, _block(node, 0), reason)


def _ref() -> BlockRef:
    id, digest = BlockId(os.urandom(16)), Hash(os.urandom(32))
    return BlockRef(id=id, key=bytes(32), digest=digest, size=BLOCK_SIZE)


def _block(node: FileNode, index: int) -> BlockRef:
    ref = (node.blocks or [])[index]
    assert ref is not None
    return ref


def test_damage_of_what_is_not_pending_holds_nothing() -> None:
    desk = Desk()
    desk.make(b"file", 2)
    desk.held.suspect(_ref(), DAMAGE)
    desk.held.look()
    assert not desk.held
    assert not desk.held.is_new()
    assert desk.held.problem() == ""


@pytest.mark.parametrize(("size", "over"), [(2 * BLOCK_SIZE, False), (MIB + 1, False), (MIB, True)])
def test_a_cut_before_the_damage_ends_it(size: int, over: bool) -> None:
    desk = Desk()
    node = desk.make(b"file", 3)
    desk.damage(node, 1)
    desk.world.call(files.truncate, node, size, desk.world.now)
    desk.held.look()
    assert (node.id not in desk.held) == over


@pytest.mark.parametrize(("start", "over"), [(0, True), (1, False)])
def test_only_a_block_that_is_written_as_a_whole_mends(start: int, over: bool) -> None:
    desk = Desk()
    node = desk.make(b"file", 2)
    desk.damage(node, 1)
    data = bytes(BLOCK_SIZE - start)
    desk.world.call(files.write, node, BLOCK_SIZE + start, data, desk.world.now)
    desk.held.look()
    assert (node.id not in desk.held) == over


def test_what_is_refused_is_tried_again_and_what_is_damaged_is_not() -> None:
    desk = Desk()
    damaged, full = desk.make(b"damaged", 1), desk.make(b"full", 1)
    desk.damage(damaged, 0)
    assert desk.held.again_in() == math.inf
    desk.refuse(full)
    desk.refuse(damaged)
    assert desk.held.again_in() == AGAIN_S
    with pytest.raises(LocalError) as caught:
        desk.held.check(damaged.id)
    assert caught.value.errno == errno.EIO
    waiting = desk.held.waiting()
    assert waiting.names == {(ROOT_OBJECT, b"damaged"), (ROOT_OBJECT, b"full")}
    desk.now += AGAIN_S
    desk.held.look()
    assert damaged.id in desk.held
    assert full.id not in desk.held


def test_a_deleted_file_is_not_held() -> None:
    desk = Desk()
    node = desk.make(b"file", 1)
    desk.damage(node, 0)
    desk.world.call(names.unlink, ROOT_INODE, b"file", 0, desk.world.now)
    assert list(desk.held.items()) == []


def test_much_that_is_refused_is_not_told_apart() -> None:
    """It would be recorded anew with every batch that others are logged in."""
    desk = Desk()
    damaged, large = desk.make(b"damaged", 1), desk.make(b"large", BLOCKS_MAX)
    desk.damage(damaged, 0)
    assert not desk.held.is_too_much()
    desk.refuse(large)
    assert desk.held.is_too_much()
    desk.held.release()
    assert [node for node, _ in desk.held.items()] == [damaged]

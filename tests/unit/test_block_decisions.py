"""Which blocks of a request may be stored, each judged for itself and in their order."""

from parsec_fs.protocol.block_batches import SealedBlock
from parsec_fs.protocol.commands import Outcome
from parsec_fs.protocol.hashing import sha256
from parsec_fs.protocol.ids import BlockId
from server.decisions.blocks import decide_blocks


def block(number: int, data: bytes) -> SealedBlock:
    return SealedBlock(id=BlockId(bytes((number,)) * 16), digest=sha256(data), sealed=data)


def test_exactly_those_that_do_not_fit() -> None:
    blocks = [block(number, bytes(size)) for number, size in enumerate((40, 61, 60, 1))]
    found = decide_blocks(blocks, known={}, room=100)
    assert list(found.values()) == [Outcome.OK, Outcome.QUOTA, Outcome.OK, Outcome.QUOTA]
    assert set(decide_blocks(blocks, known={}, room=-1).values()) == {Outcome.QUOTA}


def test_what_is_known_takes_no_room() -> None:
    same, other = block(1, bytes(100)), block(2, b"mine")
    known = {same.id: same.digest, other.id: sha256(b"theirs")}
    found = decide_blocks([same, other], known=known, room=0)
    assert found == {same.id: Outcome.OK, other.id: Outcome.EXISTS}

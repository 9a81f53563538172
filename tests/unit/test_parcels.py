"""Small blocks go together and large ones alone; each is there, and none twice in one request."""

import os

import pytest

from parsec_fs.protocol.block_batches import PutBlocks
from parsec_fs.protocol.codec import decode
from parsec_fs.protocol.errors import LocalError
from parsec_fs.protocol.hashing import sha256
from parsec_fs.protocol.ids import NO_HASH, BlockId, Hash, ObjectId, RealmId
from parsec_fs.protocol.limits import BLOCKS_MAX_SIZE, BLOCKS_PER_REQUEST, KIB, MIB
from parsec_fs.protocol.manifests import BlockRef
from parsec_fs.workspace.parcels import PARCEL_SIZE, Wanted, pack, parcels

REALM = RealmId(b"r" * 32)


def wanted(size: int, digest: Hash = NO_HASH) -> Wanted:
    ref = BlockRef(id=BlockId(os.urandom(16)), key=bytes(32), digest=digest, size=size)
    return ObjectId(os.urandom(16)), ref


@pytest.mark.parametrize(
    ("size", "together"),
    [(1, 64), (16 * KIB, 64), (20 * KIB, 51), (256 * KIB, 4), (256 * KIB + 1, 1), (MIB, 1)],
)
def test_small_blocks_go_together(size: int, together: int) -> None:
    blocks = [wanted(size) for _ in range(150)]
    found = list(parcels(blocks))
    assert [one for parcel in found for one in parcel] == blocks
    assert max(map(len, found)) == together <= BLOCKS_PER_REQUEST
    assert len(found) == -(-150 // together)
    assert sum(ref.size for _, ref in found[0]) <= max(PARCEL_SIZE, MIB)


def test_a_block_of_two_files_goes_for_each() -> None:
    """Refused for one of them, it would otherwise be taken for stored by the other."""
    one = wanted(100)
    other = (ObjectId(b"2" * 16), one[1])
    found = sorted(parcels([one, wanted(5), other]), key=len)
    assert [len(parcel) for parcel in found] == [1, 2]
    assert found[0] == [other]


def test_a_request_that_the_server_takes() -> None:
    blocks = [os.urandom(256 * KIB + 16) for _ in range(4)]
    sound = [(wanted(256 * KIB, sha256(sealed)), sealed) for sealed in blocks]
    damaged = [(wanted(5), LocalError("damaged", errno=5))]
    parcel = pack(REALM, sound, damaged)
    request = decode(PutBlocks, parcel.body)
    assert request.realm == REALM
    assert len(parcel.body) < BLOCKS_MAX_SIZE
    assert parcel.digest == sha256(parcel.body)
    assert [ref.id for _, ref in parcel.sent] == [one.id for one in request.blocks]
    sealed = {ref.id: data for (_, ref), data in sound}
    for (_, ref), block in zip(parcel.sent, request.blocks, strict=True):
        assert (block.digest, block.sealed) == (ref.digest, sealed[ref.id])
    assert parcel.damaged == damaged


def test_a_block_alone_is_its_own_body() -> None:
    one = wanted(5, sha256(b"sealed"))
    parcel = pack(REALM, [(one, b"sealed")], [])
    assert (parcel.body, parcel.digest, parcel.sent) == (b"sealed", sha256(b"sealed"), [one])
    assert pack(REALM, [], []).sent == []

"""Blocks that go to the server in one request.

Data flow: upload (wanted blocks) -> this -> upload -> remote/blocks.

Pure. A request costs device and server together some milliseconds, which a block of 1 MiB costs
anyhow and one of 16 KiB does not. So small blocks go together, large ones alone.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from parsec_fs.protocol.block_batches import PutBlocks, SealedBlock
from parsec_fs.protocol.codec import encode_trusted
from parsec_fs.protocol.errors import LocalError
from parsec_fs.protocol.hashing import sha256
from parsec_fs.protocol.ids import NO_HASH, BlockId, Hash, ObjectId, RealmId
from parsec_fs.protocol.limits import BLOCKS_PER_REQUEST, MIB, SMALL_BLOCK_MAX_SIZE
from parsec_fs.protocol.manifests import BlockRef
from parsec_fs.protocol.sealing import TAG_SIZE

PARCEL_SIZE: Final = MIB
"""Plaintext bytes of small blocks in one request: what a large block takes of memory and time, and
of the foreground's. Of blocks of 16 KiB these are 64 already, of which each costs little."""

Wanted = tuple[ObjectId, BlockRef]
"""A block, and the file that needs it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parcel:
    """A request's body and its SHA-256; what is `sent` in it, in its order, and what is damaged on
    this device. Of one block the body is that block."""

    sent: list[Wanted]
    damaged: list[tuple[Wanted, LocalError]]
    body: bytes
    digest: Hash


def parcels(wanted: Iterable[Wanted]) -> Iterator[list[Wanted]]:
    """All of them, those of a parcel in the order in which they came, no block twice in one."""
    parcel: dict[BlockId, Wanted] = {}
    size = 0
    for one in wanted:
        ref = one[1]
        if ref.size + TAG_SIZE > SMALL_BLOCK_MAX_SIZE or ref.id in parcel:
            yield [one]
            continue
        if parcel and (size + ref.size > PARCEL_SIZE or len(parcel) == BLOCKS_PER_REQUEST):
            yield list(parcel.values())
            parcel, size = {}, 0
        parcel[ref.id] = one
        size += ref.size
    if parcel:
        yield list(parcel.values())


def pack(
    realm: RealmId,
    sound: list[tuple[Wanted, bytes]],
    damaged: list[tuple[Wanted, LocalError]],
) -> Parcel:
    """The request that puts the sound ones."""
    sound = sorted(sound, key=lambda one: one[0][1].id)
    sent = [one for one, _ in sound]
    if len(sound) <= 1:
        body = b"".join(sealed for _, sealed in sound)
        digest = sent[0][1].digest if sent else NO_HASH
    else:
        blocks = tuple(
            SealedBlock(id=ref.id, digest=ref.digest, sealed=sealed) for (_, ref), sealed in sound
        )
        body = encode_trusted(PutBlocks(realm=realm, blocks=blocks))
        digest = sha256(body)
    return Parcel(sent=sent, damaged=damaged, body=body, digest=digest)

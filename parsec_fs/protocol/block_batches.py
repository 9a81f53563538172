"""Many small blocks in one request: `POST /v1/blocks/put` (rule 18).

Data flow: workspace/upload -> remote/blocks -> this -> server/http/block -> an outcome for each.

The request's signature covers everything here, so the digest and the length of every block are part
of what authorizes it. Blocks succeed and fail each for itself.
"""

from dataclasses import dataclass
from typing import Annotated

from parsec_fs.protocol.codec import U16, Increasing, Size
from parsec_fs.protocol.ids import BlockId, Hash, RealmId
from parsec_fs.protocol.limits import BLOCKS_PER_REQUEST, SMALL_BLOCK_MAX_SIZE


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedBlock:
    """A block and the SHA-256 of its bytes."""

    id: BlockId
    digest: Hash
    sealed: Annotated[bytes, Size(1, SMALL_BLOCK_MAX_SIZE)]


@dataclass(frozen=True, slots=True, kw_only=True)
class PutBlocks:
    """blocks/put: store blocks, by id; each only once, and for good."""

    realm: RealmId
    blocks: Annotated[tuple[SealedBlock, ...], Increasing(), Size(1, BLOCKS_PER_REQUEST)]


@dataclass(frozen=True, slots=True, kw_only=True)
class BlocksPut:
    """What became of each block, in their order: `Outcome`s. QUOTA: there is no room for it."""

    outcomes: Annotated[tuple[U16, ...], Size(1, BLOCKS_PER_REQUEST)]

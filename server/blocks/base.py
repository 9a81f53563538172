"""Block stores: opaque ciphertext by realm and id, create-only (rule 18).

Data flow: http.block -> `BlockStore` -> directory or S3.

A store makes contents durable before it answers, and never replaces what is there. What a block is
and who may have it is decided before it is asked.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Protocol

from parsec_fs.protocol.ids import BlockId, RealmId


@dataclass(frozen=True, slots=True, kw_only=True)
class Redirect:
    """Where the device itself fetches the block, for minutes."""

    url: str


class Stored(Enum):
    """What became of a block."""

    DURABLE = auto()
    """Its bytes are there, now or since before."""
    TAKEN = auto()
    """Other bytes are there."""
    FULL = auto()
    """There is no room for it."""
    FAILED = auto()
    """Storage does not show what it has under this id: the device tries again."""


class BlockStore(Protocol):
    """What a store does."""

    async def put(self, realm: RealmId, blocks: Mapping[BlockId, bytes]) -> dict[BlockId, Stored]:
        """Store durably, each block for itself."""

    async def get(self, realm: RealmId, block: BlockId) -> bytes | Redirect | None:
        """The contents or where they are; None if there are none."""


def block_name(realm: RealmId, block: BlockId) -> str:
    """Path of a block in any store: spread over 256 folders per realm."""
    return f"{realm.hex()}/{block.hex()[:2]}/{block.hex()}"

"""Which blocks of a request may be stored: create-only, and within the quota (rules 18, 19).

Data flow: http.block -> what is known of their ids -> this -> block store.
"""

from collections.abc import Mapping, Sequence

from parsec_fs.protocol.block_batches import SealedBlock
from parsec_fs.protocol.commands import Outcome
from parsec_fs.protocol.ids import BlockId, Hash


def decide_blocks(
    blocks: Sequence[SealedBlock], *, known: Mapping[BlockId, Hash], room: int
) -> dict[BlockId, Outcome]:
    """OK: it is stored already, or may be. EXISTS: other bytes have its id. QUOTA: it does not fit
    into what those before it leave of `room` bytes. `known`: digests of what is stored."""
    found = dict[BlockId, Outcome]()
    for one in blocks:
        if one.id in known:
            found[one.id] = Outcome.OK if known[one.id] == one.digest else Outcome.EXISTS
        elif len(one.sealed) > room:
            found[one.id] = Outcome.QUOTA
        else:
            found[one.id] = Outcome.OK
            room -= len(one.sealed)
    return found

"""Which statements go into a block, and which proposed blocks a validator votes for.

Data flow: mempool -> `choose` -> proposal -> `is_acceptable` on every validator -> FinalizeBlock.

The budget bounds the work per block. A proposal is only rejected for what an honest proposer can
never make: a refused transaction in a block is harmless, a wrong rejection would halt the chain.
"""

from collections.abc import Sequence
from typing import Final

from abci_app.rules import Accepted, decide
from abci_app.state import STATEMENT_MAX_SIZE, ChainState

STATEMENTS_PER_BLOCK: Final = 256
"""About 0.1 s of signature checks."""
_FRAMING_SIZE: Final = 8
"""Upper bound of what a block adds to each transaction of at most 60 KiB."""


def choose(
    state: ChainState, txs: Sequence[bytes], *, block_time_ms: int, max_size: int
) -> list[bytes]:
    """Those that would be accepted, in order, within both budgets.

    One that is still ahead of the block's time is left out and stays in the mempool.
    """
    chosen: list[bytes] = []
    size = 0
    for tx in txs:
        decision = decide(state, tx, block_time_ms=block_time_ms)
        if not isinstance(decision, Accepted):
            continue
        size += len(tx) + _FRAMING_SIZE
        if size > max_size or len(chosen) == STATEMENTS_PER_BLOCK:
            break
        chosen.append(tx)
        state = decision.state
    return chosen


def is_acceptable(txs: Sequence[bytes]) -> bool:
    """Deterministic; true for everything that `choose` can return."""
    return len(txs) <= STATEMENTS_PER_BLOCK and all(len(tx) <= STATEMENT_MAX_SIZE for tx in txs)

"""Roots of full subtrees of the logs: proofs and old frontiers in O(log n).

Data flow: logs.append -> `complete` -> rows -> `node_source` -> merkle proofs, frontiers.

Only subtrees of 256 leaves and more are stored, two rows per 256 leaves; what is smaller is hashed
from its leaf headers when it is asked for. So appending a leaf costs next to nothing.
"""

from typing import Final

from sqlalchemy import bindparam, insert, select

from parsec_fs.protocol.hashing import rfc6962_node
from parsec_fs.protocol.ids import Hash, LogId
from parsec_fs.protocol.merkle import Frontier, NodeSource, tree_root
from parsec_fs.protocol.records import LeafHeader
from server.store.database import Transaction
from server.store.rows import HEADER_COLUMNS, header_of
from server.store.schema import leaves, subtrees

LOWEST: Final = 8
"""Height of the smallest subtrees that are stored."""

_HEADERS = (
    select(*HEADER_COLUMNS)
    .where(leaves.c.log == bindparam("log"))
    .where((leaves.c.idx >= bindparam("start")) & (leaves.c.idx < bindparam("end")))
    .order_by(leaves.c.idx)
)
_ROOT = select(subtrees.c.root).where(
    (subtrees.c.log == bindparam("log"))
    & (subtrees.c.height == bindparam("height"))
    & (subtrees.c.idx == bindparam("idx"))
)


def complete(transaction: Transaction, log: LogId, old_size: int, new_size: int) -> None:
    """Store the roots of subtrees that the leaves from `old_size` on have filled."""
    for idx in range(old_size >> LOWEST, new_size >> LOWEST):
        start = idx << LOWEST
        root = tree_root(leaf_hashes(transaction, log, start, start + (1 << LOWEST)))
        _store(transaction, log, LOWEST, idx, root)


def node_source(transaction: Transaction, log: LogId) -> NodeSource:
    """Roots of full subtrees of a log, as `merkle` asks for them."""

    def node(start: int, end: int) -> Hash:
        height = (end - start).bit_length() - 1
        if height < LOWEST:
            return tree_root(leaf_hashes(transaction, log, start, end))
        return _stored(transaction, log, height, start >> height)

    return node


def frontier_at(node: NodeSource, size: int) -> Frontier:
    """The frontier of the first `size` leaves."""
    nodes, start = list[Hash](), 0
    for height in reversed(range(size.bit_length())):
        if size >> height & 1:
            nodes.append(node(start, start + (1 << height)))
            start += 1 << height
    return Frontier(size=size, nodes=tuple(nodes))


def leaf_hashes(transaction: Transaction, log: LogId, start: int, end: int) -> list[Hash]:
    """Hashes of the leaves in [start, end)."""
    return [header.hash() for header in leaf_headers(transaction, log, start, end)]


def leaf_headers(transaction: Transaction, log: LogId, start: int, end: int) -> list[LeafHeader]:
    """Headers of the leaves in [start, end), without reading their bodies."""
    rows = transaction.execute(_HEADERS, {"log": log, "start": start, "end": end})
    return [header_of(*row) for row in rows]


def all_stored(transaction: Transaction, log: LogId) -> dict[tuple[int, int], Hash]:
    """(height, index) -> root."""
    query = select(subtrees.c.height, subtrees.c.idx, subtrees.c.root)
    rows = transaction.execute(query.where(subtrees.c.log == log))
    return {(height, idx): Hash(root) for height, idx, root in rows}


def _store(transaction: Transaction, log: LogId, height: int, idx: int, root: Hash) -> None:
    """A subtree that is full; if it is the right half of a larger one, that one is full too."""
    row = {"log": log, "height": height, "idx": idx, "root": root}
    transaction.execute(insert(subtrees), row)
    if idx & 1:
        left = _stored(transaction, log, height, idx - 1)
        _store(transaction, log, height + 1, idx >> 1, rfc6962_node(left, root))


def _stored(transaction: Transaction, log: LogId, height: int, idx: int) -> Hash:
    row = transaction.execute(_ROOT, {"log": log, "height": height, "idx": idx}).one()
    return Hash(row.root)

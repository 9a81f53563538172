"""RFC 6962 Merkle trees: the compact frontier, inclusion and consistency proofs.

Data flow: leaf hashes -> `Frontier` -> root in a signed head; proofs -> `verify_*` -> evidence.

Sizes and lengths are checked before any hashing. Building proofs needs all leaves and stays with
whoever stores them (`subtree_root`, `inclusion_proof`, `consistency_proof` take a node source).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from parsec_fs.protocol.errors import DataError, ProofError
from parsec_fs.protocol.hashing import EMPTY_TREE, rfc6962_node
from parsec_fs.protocol.ids import Hash
from parsec_fs.protocol.limits import PROOF_MAX_HASHES

NodeSource = Callable[[int, int], Hash]
"""(start, end) -> root of the leaves in [start, end), for perfect subtrees."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Frontier:
    """The right edge of a tree: roots of its perfect subtrees, largest first.

    len(nodes) is the number of one bits in size. Appending returns a new value.
    """

    size: int = 0
    nodes: tuple[Hash, ...] = ()

    def __post_init__(self) -> None:
        if self.size < 0 or self.size.bit_count() != len(self.nodes):
            raise DataError("frontier: number of nodes does not fit the size")

    def append(self, leaf: Hash) -> "Frontier":
        """The tree with one more leaf hash."""
        nodes, node, size = list(self.nodes), leaf, self.size
        while size & 1:
            node = rfc6962_node(nodes.pop(), node)
            size >>= 1
        nodes.append(node)
        return Frontier(size=self.size + 1, nodes=tuple(nodes))

    def extend(self, leaves: Sequence[Hash]) -> "Frontier":
        """The tree with several more leaf hashes."""
        result = self
        for leaf in leaves:
            result = result.append(leaf)
        return result

    def root(self) -> Hash:
        """Root of the whole tree."""
        if not self.nodes:
            return EMPTY_TREE
        node = self.nodes[-1]
        for left in reversed(self.nodes[:-1]):
            node = rfc6962_node(left, node)
        return node


def tree_root(leaves: Sequence[Hash]) -> Hash:
    """Root over leaf hashes."""
    return Frontier().extend(leaves).root()


def inclusion_root(leaf: Hash, index: int, size: int, proof: Sequence[Hash]) -> Hash:
    """Root that an audit path leads to (RFC 9162, 2.1.3.2). Raises ProofError."""
    if not 0 <= index < size or len(proof) > PROOF_MAX_HASHES:
        raise ProofError("inclusion proof: index or length out of range")
    position, last, node = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            raise ProofError("inclusion proof is too long")
        if position & 1 or position == last:
            node = rfc6962_node(sibling, node)
            while position and not position & 1:
                position, last = position >> 1, last >> 1
        else:
            node = rfc6962_node(node, sibling)
        position, last = position >> 1, last >> 1
    if last != 0:
        raise ProofError("inclusion proof is too short")
    return node


def verify_inclusion(
    leaf: Hash, index: int, size: int, proof: Sequence[Hash], *, expected_root: Hash
) -> Hash:
    """The leaf is in the tree with this root. Returns the root, or raises ProofError."""
    node = inclusion_root(leaf, index, size, proof)
    if node != expected_root:
        raise ProofError("inclusion proof does not lead to the root")
    return node


def verify_consistency(
    old_size: int, old_root: Hash, new_size: int, new_root: Hash, proof: Sequence[Hash]
) -> None:
    """The old tree is a prefix of the new one (RFC 9162, 2.1.4.2). Raises ProofError."""
    if not 0 <= old_size <= new_size or len(proof) > PROOF_MAX_HASHES:
        raise ProofError("consistency proof: sizes or length out of range")
    if old_size == new_size or old_size == 0:
        _verify_trivial(old_size, old_root, new_size, new_root, proof)
        return
    path = list(proof)
    if old_size & (old_size - 1) == 0:
        path.insert(0, old_root)
    if not path:
        raise ProofError("consistency proof is empty")
    position, last = old_size - 1, new_size - 1
    while position & 1:
        position, last = position >> 1, last >> 1
    first = second = path[0]
    for node in path[1:]:
        if last == 0:
            raise ProofError("consistency proof is too long")
        if position & 1 or position == last:
            first, second = rfc6962_node(node, first), rfc6962_node(node, second)
            while position and not position & 1:
                position, last = position >> 1, last >> 1
        else:
            second = rfc6962_node(second, node)
        position, last = position >> 1, last >> 1
    if last != 0 or first != old_root or second != new_root:
        raise ProofError("the old tree is not a prefix of the new one")


def _verify_trivial(
    old_size: int, old_root: Hash, new_size: int, new_root: Hash, proof: Sequence[Hash]
) -> None:
    if proof:
        raise ProofError("consistency proof must be empty here")
    if old_size == new_size and old_root != new_root:
        raise ProofError("two roots for one size")
    if old_size == 0 and old_root != EMPTY_TREE:
        raise ProofError("wrong root of the empty tree")


def subtree_root(node: NodeSource, start: int, end: int) -> Hash:
    """Root of the leaves in [start, end), split at the largest power of two below the length."""
    length = end - start
    if length == 0:
        return EMPTY_TREE
    if length & (length - 1) == 0:
        return node(start, end)
    split = start + (1 << (length - 1).bit_length() - 1)
    return rfc6962_node(subtree_root(node, start, split), subtree_root(node, split, end))


def inclusion_proof(node: NodeSource, index: int, size: int) -> tuple[Hash, ...]:
    """Audit path of leaf `index` in the tree of `size` leaves, leaf end first (RFC 6962, 2.1.1)."""
    start, end, path = 0, size, list[Hash]()
    while end - start > 1:
        split = start + (1 << (end - start - 1).bit_length() - 1)
        if index < split:
            path.append(subtree_root(node, split, end))
            end = split
        else:
            path.append(subtree_root(node, start, split))
            start = split
    return tuple(reversed(path))


def consistency_proof(node: NodeSource, old_size: int, new_size: int) -> tuple[Hash, ...]:
    """Proof that the tree of `old_size` is a prefix of that of `new_size` (RFC 6962, 2.1.2)."""
    if old_size in (0, new_size):
        return ()
    start, end, whole, path = 0, new_size, True, list[Hash]()
    while old_size != end:
        split = start + (1 << (end - start - 1).bit_length() - 1)
        if old_size <= split:
            path.append(subtree_root(node, split, end))
            end = split
        else:
            path.append(subtree_root(node, start, split))
            start, whole = split, False
    if not whole:
        path.append(subtree_root(node, start, end))
    return tuple(reversed(path))

"""The state map: a compressed binary prefix tree over 32-byte keys, persistent (path copying).

Data flow: object states -> `PrefixMap.set_many` -> root in leaf header and head; `open` -> proofs.

The number of the tested bit is hashed into every inner node, so the path of a key follows from the
root alone and an opening is unique even in a maliciously built tree. Nothing is ever removed
(rule 7: deletion is a tombstone value). Old versions stay valid: keep the value, open it later.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, TypeAlias

from parsec_fs.protocol.codec import U8, Size
from parsec_fs.protocol.errors import ProofError
from parsec_fs.protocol.hashing import EMPTY_MAP, map_inner, map_leaf
from parsec_fs.protocol.ids import Hash

# A node is a tuple, as millions of small objects are what costs here.
# leaf:  (None, key, value_hash, hash)        inner: (bit, some key below, left, right, hash)
Leaf: TypeAlias = tuple[None, Hash, Hash, Hash]
Inner: TypeAlias = "tuple[int, Hash, Node, Node, Hash]"
Node: TypeAlias = "Leaf | Inner"
Item = tuple[Hash, Hash]


@dataclass(frozen=True, slots=True, kw_only=True)
class MapStep:
    """One inner node on the way down: the bit it tests and the hash of the side not taken."""

    bit: U8
    sibling: Hash


@dataclass(frozen=True, slots=True, kw_only=True)
class MapProof:
    """Opening of a key: the leaf that its path ends at (none in an empty map), root end first."""

    leaf: Annotated[tuple[Hash, ...], Size(0, 2)]
    steps: Annotated[tuple[MapStep, ...], Size(0, 256)]


@dataclass(frozen=True, slots=True)
class PrefixMap:
    """An immutable map from 32-byte keys to value hashes."""

    node: "Node | None" = None

    def root(self) -> Hash:
        """Root hash."""
        return EMPTY_MAP if self.node is None else self.node[-1]

    def set(self, key: Hash, value_hash: Hash) -> "PrefixMap":
        """The map with one value added or replaced."""
        return self.set_many([(key, value_hash)])

    def set_many(self, items: Iterable[Item]) -> "PrefixMap":
        """The map with values added or replaced; the last one wins per key."""
        ordered = sorted(dict(items).items())
        return PrefixMap(_insert(self.node, ordered)) if ordered else self

    def get(self, key: Hash) -> Hash | None:
        """Value hash of a key."""
        node = self.node
        number = int.from_bytes(key, "big")
        while node is not None and node[0] is not None:
            node = node[3] if number >> (255 - node[0]) & 1 else node[2]
        return node[2] if node is not None and node[1] == key else None

    def open(self, key: Hash) -> MapProof:
        """Proof of presence or absence of a key."""
        steps: list[MapStep] = []
        node = self.node
        while node is not None and node[0] is not None:
            bit, _, left, right, _ = node
            node, other = (right, left) if _bit(key, bit) else (left, right)
            steps.append(MapStep(bit=bit, sibling=other[-1]))
        leaf = () if node is None else (node[1], node[2])
        return MapProof(leaf=leaf, steps=tuple(steps))

    def items(self) -> Iterator[Item]:
        """All keys and value hashes, in key order."""
        stack = [] if self.node is None else [self.node]
        while stack:
            node = stack.pop()
            if node[0] is None:
                yield node[1], node[2]
            else:
                stack += [node[3], node[2]]


def verify_opening(key: Hash, proof: MapProof, *, expected_root: Hash) -> Hash | None:
    """Value hash of `key` under the root, None if provably absent. Raises ProofError."""
    bits = [step.bit for step in proof.steps]
    if any(first >= second for first, second in pairwise(bits)):
        raise ProofError("map proof: bits must increase")
    if not proof.leaf:
        if proof.steps or expected_root != EMPTY_MAP:
            raise ProofError("map proof: the map is not empty")
        return None
    if len(proof.leaf) != 2:
        raise ProofError("map proof: a leaf is a key and a value hash")
    found, value_hash = proof.leaf
    if any(_bit(key, bit) != _bit(found, bit) for bit in bits):
        raise ProofError("map proof: the leaf is not on the path of the key")
    node = map_leaf(found, value_hash)
    for step in reversed(proof.steps):
        pair = (step.sibling, node) if _bit(key, step.bit) else (node, step.sibling)
        node = map_inner(step.bit, *pair)
    if node != expected_root:
        raise ProofError("map proof does not lead to the root")
    return value_hash if found == key else None


def _bit(key: bytes, bit: int) -> int:
    return key[bit >> 3] >> (7 - (bit & 7)) & 1


def _first_difference(one: bytes, other: bytes) -> int:
    return 256 - (int.from_bytes(one, "big") ^ int.from_bytes(other, "big")).bit_length()


def _leaf(item: Item) -> Node:
    return (None, item[0], item[1], map_leaf(item[0], item[1]))


def _inner(bit: int, left: Node, right: Node) -> Node:
    return (bit, left[1], left, right, map_inner(bit, left[-1], right[-1]))


def _split(items: list[Item], bit: int) -> int:
    """Index of the first item whose bit is set; all items agree on the bits before."""
    return bisect_left(items, 1, key=lambda item: _bit(item[0], bit))


def _build(items: list[Item]) -> Node:
    if len(items) == 1:
        return _leaf(items[0])
    bit = _first_difference(items[0][0], items[-1][0])
    at = _split(items, bit)
    return _inner(bit, _build(items[:at]), _build(items[at:]))


def _insert(node: "Node | None", items: list[Item]) -> Node:
    if node is None:
        return _build(items)
    if node[0] is None:
        return _build(sorted({node[1]: node[2], **dict(items)}.items()))
    bit, key, left, right, _ = node
    fork = min(_first_difference(items[0][0], key), _first_difference(items[-1][0], key))
    if fork < bit:
        return _insert_above(node, key, fork, items)
    at = _split(items, bit)
    return _inner(
        bit,
        _insert(left, items[:at]) if at else left,
        _insert(right, items[at:]) if at < len(items) else right,
    )


def _insert_above(node: Node, key: Hash, fork: int, items: list[Item]) -> Node:
    """A new inner node at `fork`: the old node on the side of its keys, strangers on the other."""
    at = _split(items, fork)
    zeros, ones = items[:at], items[at:]
    if _bit(key, fork):
        return _inner(fork, _build(zeros), _insert(node, ones) if ones else node)
    return _inner(fork, _insert(node, zeros) if zeros else node, _build(ones))

"""The state map: a compressed binary prefix tree over 32-byte keys, persistent (path copying).

Data flow: object states -> `PrefixMap.set_many` -> root in leaf header and head; `open` -> proofs.

The number of the tested bit is hashed into every inner node, so the path of a key follows from the
root alone and an opening is unique even in a maliciously built tree. Nothing is ever removed
(rule 7: deletion is a tombstone value). Old versions stay valid: keep the value, open it later.

Where memory counts more than time (a device keeps the map of a million objects beside a mount), the
lowest levels can be kept as bytes: a bucket is a subtree of few items and its hash; what lies in
between is computed again when one of them changes. A third of the memory, half as fast to change.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Annotated, Final, Literal, TypeAlias

from parsec_fs.protocol.codec import U8, Size
from parsec_fs.protocol.errors import ProofError
from parsec_fs.protocol.hashing import EMPTY_MAP, map_inner, map_leaf
from parsec_fs.protocol.ids import Hash

# A node is a tuple, as millions of small objects are what costs here.
# leaf:   (None, key, value_hash, hash)       inner: (bit, some key below, left, right, hash)
# bucket: ("", first key, keys and value hashes in order of the keys, hash)
Leaf: TypeAlias = tuple[None, Hash, Hash, Hash]
Bucket: TypeAlias = tuple[Literal[""], Hash, bytes, Hash]
Inner: TypeAlias = "tuple[int, Hash, Node, Node, Hash]"
Node: TypeAlias = "Leaf | Bucket | Inner"
Item = tuple[Hash, Hash]

BUCKET_ITEMS: Final = 8
"""Of a map that saves memory: 160 bytes per item instead of 490."""
_ITEM_SIZE: Final = 64


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
    """An immutable map from 32-byte keys to value hashes. `most`: items in a bucket, 1 for none; it
    changes nothing but memory and time."""

    node: "Node | None" = None
    most: int = field(default=1, compare=False)

    def root(self) -> Hash:
        """Root hash."""
        return EMPTY_MAP if self.node is None else self.node[-1]

    def set(self, key: Hash, value_hash: Hash) -> "PrefixMap":
        """The map with one value added or replaced."""
        return self.set_many([(key, value_hash)])

    def set_many(self, items: Iterable[Item]) -> "PrefixMap":
        """The map with values added or replaced; the last one wins per key."""
        ordered = sorted(dict(items).items())
        if not ordered:
            return self
        return PrefixMap(_insert(self.node, ordered, self.most), self.most)

    def get(self, key: Hash) -> Hash | None:
        """Value hash of a key."""
        node = self.node
        number = int.from_bytes(key, "big")
        while node is not None and isinstance(node[0], int):
            node = node[3] if number >> (255 - node[0]) & 1 else node[2]
        return None if node is None else dict(_items(node)).get(key)

    def open(self, key: Hash) -> MapProof:
        """Proof of presence or absence of a key."""
        steps: list[MapStep] = []
        node = self.node
        while node is not None and node[0] is not None:
            if node[0] == "":
                node = _build(_items(node), 1)
                continue
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
            if isinstance(node[0], int):
                stack += [node[3], node[2]]
            else:
                yield from _items(node)


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


def _items(node: Leaf | Bucket) -> list[Item]:
    if node[0] is None:
        return [(node[1], node[2])]
    data = node[2]
    return [
        (Hash(data[at : at + 32]), Hash(data[at + 32 : at + 64]))
        for at in range(0, len(data), _ITEM_SIZE)
    ]


def _bucket(items: list[Item]) -> Node:
    """The subtree of few items, its hash computed without the nodes in between."""
    hashes, bits = [map_leaf(*items[0])], list[int]()
    for (before, _), (key, value_hash) in pairwise(items):
        bit = _first_difference(before, key)
        _fold(hashes, bits, bit)
        hashes.append(map_leaf(key, value_hash))
        bits.append(bit)
    _fold(hashes, bits, -1)
    return ("", items[0][0], b"".join([part for item in items for part in item]), hashes[0])


def _fold(hashes: list[Hash], bits: list[int], bit: int) -> None:
    """Close the inner nodes that lie below one which tests `bit`."""
    while bits and bits[-1] > bit:
        right = hashes.pop()
        hashes[-1] = map_inner(bits.pop(), hashes[-1], right)


def _build(items: list[Item], most: int) -> Node:
    if len(items) == 1:
        return _leaf(items[0])
    if len(items) <= most:
        return _bucket(items)
    bit = _first_difference(items[0][0], items[-1][0])
    at = _split(items, bit)
    return _inner(bit, _build(items[:at], most), _build(items[at:], most))


def _insert(node: "Node | None", items: list[Item], most: int) -> Node:
    if node is None:
        return _build(items, most)
    if not isinstance(node[0], int):
        return _build(sorted((dict(_items(node)) | dict(items)).items()), most)
    bit, key, left, right, _ = node
    fork = min(_first_difference(items[0][0], key), _first_difference(items[-1][0], key))
    if fork < bit:
        return _insert_above(node, key, fork, items, most)
    at = _split(items, bit)
    return _inner(
        bit,
        _insert(left, items[:at], most) if at else left,
        _insert(right, items[at:], most) if at < len(items) else right,
    )


def _insert_above(node: Node, key: Hash, fork: int, items: list[Item], most: int) -> Node:
    """A new inner node at `fork`: the old node on the side of its keys, strangers on the other."""
    at = _split(items, fork)
    zeros, ones = items[:at], items[at:]
    if _bit(key, fork):
        return _inner(fork, _build(zeros, most), _insert(node, ones, most) if ones else node)
    return _inner(fork, _insert(node, zeros, most) if zeros else node, _build(ones, most))

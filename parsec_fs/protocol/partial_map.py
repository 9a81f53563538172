"""A prefix map of which only some keys are known: openings merged into one tree.

Data flow: openings of touched keys under one root -> `partial_map` -> the real transition rules.

With it anyone can replay one transition of a map of millions: the rules read and write the opened
keys, every other subtree is its hash, and the root afterwards is the true one (P5, rule 31).
A key that was not opened is never answered: ProofError, so that nobody is judged by an omission.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from parsec_fs.protocol.errors import ProofError
from parsec_fs.protocol.hashing import map_inner, map_leaf
from parsec_fs.protocol.ids import NO_HASH, Hash
from parsec_fs.protocol.prefix_map import (
    Item,
    MapProof,
    MapStep,
    Node,
    PrefixMap,
    verify_opening,
)


class _Path(NamedTuple):
    """What is left of an opening below a node."""

    key: Hash
    leaf: tuple[Hash, ...]
    steps: tuple[MapStep, ...]


@dataclass(frozen=True, slots=True)
class PartialMap(PrefixMap):
    """An immutable map in which only `opened` keys may be used."""

    opened: frozenset[Hash] = frozenset()

    def set_many(self, items: Iterable[Item]) -> "PartialMap":
        """The map with values added or replaced. Raises ProofError for a key not opened."""
        pairs = [(self._known(key), value) for key, value in items]
        return PartialMap(PrefixMap(self.node).set_many(pairs).node, opened=self.opened)

    def get(self, key: Hash) -> Hash | None:
        """Value hash of an opened key. Raises ProofError for any other."""
        return PrefixMap(self.node).get(self._known(key))

    def _known(self, key: Hash) -> Hash:
        if key not in self.opened:
            raise ProofError("this key of the map was not opened")
        return key


def partial_map(openings: Mapping[Hash, MapProof], *, expected_root: Hash) -> PartialMap:
    """The map under the root as far as the openings show it; without any, its root alone.
    Raises ProofError."""
    for key, proof in openings.items():
        verify_opening(key, proof, expected_root=expected_root)
    paths = [_Path(key, one.leaf, one.steps) for key, one in sorted(openings.items())]
    if not paths:
        return PartialMap((None, NO_HASH, NO_HASH, expected_root))
    node = _merge(paths) if paths[0].leaf else None
    return PartialMap(node, opened=frozenset(openings))


def _merge(paths: list[_Path]) -> Node:
    """The node that all these paths go through. They verified, so they agree on its bit."""
    first = paths[0]
    if not first.steps:
        key, value = first.leaf
        return (None, Hash(key), Hash(value), map_leaf(key, value))
    bit = first.steps[0].bit
    zeros = [_below(one) for one in paths if not _is_set(one.key, bit)]
    ones = [_below(one) for one in paths if _is_set(one.key, bit)]
    sibling = first.steps[0].sibling
    left = _merge(zeros) if zeros else _unknown(sibling, first.leaf[0], bit)
    right = _merge(ones) if ones else _unknown(sibling, first.leaf[0], bit)
    return (bit, left[1], left, right, map_inner(bit, left[-1], right[-1]))


def _below(path: _Path) -> _Path:
    return path._replace(steps=path.steps[1:])


def _unknown(subtree: Hash, neighbour: bytes, bit: int) -> Node:
    """A subtree of which only the hash is known. All its keys agree with the neighbour's on the
    bits before the tested one and differ there, which is all that an insertion beside it asks."""
    flipped = int.from_bytes(neighbour, "big") ^ (1 << (255 - bit))
    return (None, Hash(flipped.to_bytes(32, "big")), NO_HASH, subtree)


def _is_set(key: bytes, bit: int) -> bool:
    return bool(key[bit >> 3] >> (7 - (bit & 7)) & 1)

"""RFC 6962 trees: production against the reference, every size up to 130 and every position.

Data flow: leaves -> roots and proofs of both sides are equal -> verifiers take these and no others.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parsec_fs.protocol.errors import DataError, ProofError
from parsec_fs.protocol.hashing import EMPTY_TREE, sha256
from parsec_fs.protocol.ids import Hash
from parsec_fs.protocol.merkle import (
    Frontier,
    consistency_proof,
    inclusion_proof,
    subtree_root,
    tree_root,
    verify_consistency,
    verify_inclusion,
)
from tests.support import reference as ref

MOST = 130
LEAVES = [sha256(bytes([index])) for index in range(MOST)]
ROOTS = [Hash(ref.tree(list(LEAVES[:size]))) for size in range(MOST + 1)]
hashes = st.binary(min_size=32, max_size=32).map(Hash)


def node(start: int, end: int) -> Hash:
    return Hash(ref.tree(list(LEAVES[start:end])))


def test_roots_of_all_sizes() -> None:
    frontier = Frontier()
    for size, root in enumerate(ROOTS):
        assert frontier.root() == tree_root(LEAVES[:size]) == subtree_root(node, 0, size) == root
        if size < MOST:
            frontier = frontier.append(LEAVES[size])
    assert ROOTS[0] == EMPTY_TREE


@pytest.mark.parametrize("size", [*range(1, 35), 63, 64, 65, 100, 127, 128, 129, 130])
def test_inclusion_of_every_leaf(size: int) -> None:
    for index in range(size):
        proof = inclusion_proof(node, index, size)
        assert list(proof) == ref.inclusion(index, list(LEAVES[:size]))
        verify_inclusion(LEAVES[index], index, size, proof, expected_root=ROOTS[size])


def test_consistency_of_all_sizes() -> None:
    for new in range(MOST + 1):
        for old in range(new + 1):
            proof = consistency_proof(subroot, old, new)
            verify_consistency(old, ROOTS[old], new, ROOTS[new], proof)
            if new % 7 == 0:
                assert list(proof) == ref.consistency(old, list(LEAVES[:new]))


_SUBROOTS: dict[tuple[int, int], Hash] = {}


def subroot(start: int, end: int) -> Hash:
    if (start, end) not in _SUBROOTS:
        _SUBROOTS[start, end] = node(start, end)
    return _SUBROOTS[start, end]


positions = st.integers(1, MOST).flatmap(
    lambda size: st.tuples(st.integers(0, size - 1), st.just(size))
)


@given(positions, st.data())
def test_changed_inclusion_proof_is_refused(position: tuple[int, int], data: st.DataObject) -> None:
    index, size = position
    proof = list(inclusion_proof(subroot, index, size))
    leaf, root = LEAVES[index], ROOTS[size]
    match data.draw(st.sampled_from(["flip", "drop", "add", "leaf", "index", "root", "reverse"])):
        case "flip" if proof:
            at = data.draw(st.integers(0, len(proof) - 1))
            proof[at] = Hash(bytes([proof[at][0] ^ 1]) + proof[at][1:])
        case "drop" if proof:
            del proof[data.draw(st.integers(0, len(proof) - 1))]
        case "reverse" if proof != proof[::-1]:
            proof.reverse()
        case "add":
            proof.insert(data.draw(st.integers(0, len(proof))), data.draw(hashes))
        case "index" if size > 1:
            index = data.draw(st.integers(-2, size + 2).filter(lambda other: other != index))
        case "root":
            root = data.draw(hashes)
        case _:
            leaf = data.draw(hashes)
    with pytest.raises(ProofError):
        verify_inclusion(leaf, index, size, proof, expected_root=root)


@given(st.integers(2, MOST), st.data())
def test_changed_consistency_proof_is_refused(new: int, data: st.DataObject) -> None:
    old = data.draw(st.integers(1, new - 1))
    proof = list(consistency_proof(subroot, old, new))
    old_root, new_root = ROOTS[old], ROOTS[new]
    match data.draw(st.sampled_from(["flip", "drop", "add", "old", "new"])):
        case "flip" if proof:
            at = data.draw(st.integers(0, len(proof) - 1))
            proof[at] = Hash(bytes([proof[at][0] ^ 1]) + proof[at][1:])
        case "drop" if proof:
            del proof[data.draw(st.integers(0, len(proof) - 1))]
        case "add":
            proof.insert(data.draw(st.integers(0, len(proof))), data.draw(hashes))
        case "old":
            old_root = data.draw(hashes)
        case _:
            new_root = data.draw(hashes)
    with pytest.raises(ProofError):
        verify_consistency(old, old_root, new, new_root, proof)


@pytest.mark.parametrize(
    ("old", "old_root", "new", "new_root", "proof"),
    [
        (3, ROOTS[3], 2, ROOTS[2], []),
        (-1, ROOTS[0], 2, ROOTS[2], []),
        (2, ROOTS[2], 2, ROOTS[3], []),
        (2, ROOTS[2], 2, ROOTS[2], [LEAVES[0]]),
        (0, ROOTS[1], 5, ROOTS[5], []),
        (0, ROOTS[0], 5, ROOTS[5], [LEAVES[0]]),
        (3, ROOTS[3], 5, ROOTS[5], []),
        (3, ROOTS[3], 5, ROOTS[5], [LEAVES[0]] * 65),
    ],
)
def test_impossible_consistency_is_refused(
    old: int, old_root: Hash, new: int, new_root: Hash, proof: list[Hash]
) -> None:
    with pytest.raises(ProofError):
        verify_consistency(old, old_root, new, new_root, proof)


def test_inclusion_bounds() -> None:
    for index, size, proof in [(0, 0, []), (2, 2, []), (0, 2, [LEAVES[0]] * 65)]:
        with pytest.raises(ProofError):
            verify_inclusion(LEAVES[0], index, size, proof, expected_root=ROOTS[1])


@pytest.mark.parametrize(("size", "count"), [(3, 1), (-1, 0), (0, 1)])
def test_frontier_must_fit_its_size(size: int, count: int) -> None:
    with pytest.raises(DataError):
        Frontier(size=size, nodes=tuple(LEAVES[:count]))

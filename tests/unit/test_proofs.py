"""Proofs on request: a true one is accepted, and each of its parts counts (rule 35).

Data flow: an honest log of every size -> proofs -> verifiers; one thing wrong -> ProofError.
"""

from collections.abc import Callable
from dataclasses import replace

import pytest

from parsec_fs.protocol.errors import ProofError
from parsec_fs.protocol.hashing import map_key
from parsec_fs.protocol.ids import Hash
from parsec_fs.protocol.merkle import consistency_proof, inclusion_proof, tree_root
from parsec_fs.protocol.proofs import LogProof, Opening, verify_log_proof, verify_map_opening
from parsec_fs.protocol.records import Head, verify_head
from tests.support.honest_logs import HonestRealm, workspace_of_three

WRONG = Hash(b"w" * 32)


@pytest.fixture
def realm() -> HonestRealm:
    """A realm of eleven leaves."""
    realm, _, _ = workspace_of_three(b"proofs")
    for _ in range(7):
        realm.commit([realm.new_object()])
    return realm


def head_of(realm: HonestRealm) -> Head:
    return verify_head(
        realm.head(), head_key=realm.org.state.head_key, expected_context=realm.context
    )


def proof_of(realm: HonestRealm, index: int, size: int) -> LogProof:
    hashes = [leaf.header.hash() for leaf in realm.leaves]

    def node(start: int, end: int) -> Hash:
        return tree_root(hashes[start:end])

    return LogProof(
        leaf=realm.leaves[index].header,
        inclusion=inclusion_proof(node, index, size),
        root=tree_root(hashes[:size]),
        consistency=consistency_proof(node, size, len(hashes)),
        head=realm.head(),
    )


def test_every_leaf_of_every_prefix_is_proven(realm: HonestRealm) -> None:
    head = head_of(realm)
    for size in range(1, len(realm.leaves) + 1):
        for index in range(size):
            found = verify_log_proof(
                proof_of(realm, index, size), index=index, size=size, head=head
            )
            assert found == realm.leaves[index].header


CHANGES: list[Callable[[LogProof], LogProof]] = [
    lambda proof: replace(proof, leaf=replace(proof.leaf, map_root=WRONG)),
    lambda proof: replace(proof, root=WRONG),
    lambda proof: replace(proof, inclusion=(WRONG, *proof.inclusion[1:])),
    lambda proof: replace(proof, inclusion=proof.inclusion[1:]),
    lambda proof: replace(proof, consistency=(*proof.consistency[:-1], WRONG)),
    lambda proof: replace(proof, consistency=(*proof.consistency, WRONG)),
]


@pytest.mark.parametrize("change", CHANGES)
def test_each_part_of_a_log_proof_counts(
    realm: HonestRealm, change: Callable[[LogProof], LogProof]
) -> None:
    with pytest.raises(ProofError):
        verify_log_proof(change(proof_of(realm, 4, 7)), index=4, size=7, head=head_of(realm))


@pytest.mark.parametrize(("index", "size"), [(3, 7), (4, 8), (4, 4), (4, 100)])
def test_proof_answers_what_was_asked(realm: HonestRealm, index: int, size: int) -> None:
    with pytest.raises(ProofError):
        verify_log_proof(proof_of(realm, 4, 7), index=index, size=size, head=head_of(realm))


def test_map_openings_are_of_the_head(realm: HonestRealm) -> None:
    head, old = head_of(realm), realm.state.map
    key = map_key(b"key", b"")
    opening = Opening(proof=old.open(key), head=realm.head())
    assert verify_map_opening(opening, key=key, head=head) == old.get(key)
    absent = Opening(proof=old.open(WRONG), head=realm.head())
    assert verify_map_opening(absent, key=WRONG, head=head) is None
    realm.rotate(realm.owner)
    with pytest.raises(ProofError):
        verify_map_opening(opening, key=key, head=head_of(realm))
    with pytest.raises(ProofError):
        verify_map_opening(absent, key=key, head=head)

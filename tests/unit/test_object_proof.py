"""The checkpoint proof of one file: true for a stranger with the anchor, and for nothing else.

Data flow: simulated history -> ObjectProof -> file -> `check`.
"""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parsec_fs.audit.commitments import anchored_states
from parsec_fs.audit.proof import FORMAT, ObjectProof, check, decode_proof, encode_proof
from parsec_fs.audit.report import proof_json, proof_text
from parsec_fs.protocol.chain_types import ChainAnchor
from parsec_fs.protocol.epochs import opening_leaf
from parsec_fs.protocol.errors import DataError, VerificationError
from parsec_fs.protocol.hashing import history_digest, map_key
from parsec_fs.protocol.ids import NO_HASH, Hash, ObjectId
from parsec_fs.protocol.merkle import inclusion_proof, tree_root
from tests.support.audited import SimulatedChain
from tests.support.history import HonestServer
from tests.support.simulated_chain import operators


class Scene:
    """Ten objects, one of them with three versions, two epochs."""

    def __init__(self) -> None:
        self.server = HonestServer()
        self.chain = SimulatedChain(server=self.server)
        for _ in range(10):
            self.server.commit(self.server.alice)
        self.object = ObjectId(sorted(self.server.objects)[3])
        self.chain.publish(self.server.cut())
        for _ in range(2):
            self.server.commit(self.server.alice, self.object)
        self.chain.publish(self.server.cut())

    def proof(self, *, epoch: int = 1, size: int | None = None) -> ObjectProof:
        logs = (self.server.realm_log.log,)
        anchored = anchored_states(self.server.epoch_proof(epoch, logs), logs)[0]
        at = self.server.epochs[epoch].states[self.server.realm_log.log].size
        return ObjectProof(
            label=b"report.odt",
            chain=self.chain.proof(),
            anchored=anchored,
            object=self.object,
            state=self.server.objects[self.object],
            opening=self.server.realm_log.maps[size or at].open(map_key(b"object", self.object)),
        )


@pytest.fixture(scope="module")
def scene() -> Scene:
    return Scene()


def test_a_stranger_learns_version_operations_and_history(scene: Scene) -> None:
    proven = check(encode_proof(scene.proof()), scene.server.anchor)
    assert proven.state == scene.server.objects[scene.object]
    assert (proven.state.version, proven.state.operations, proven.epoch) == (3, 3, 1)
    assert proven.validators == 4
    assert "version 3, 3 operations" in proof_text(proven)
    assert "not part of what is proven" in proof_text(proven)
    assert proof_json(proven)["history"] == proven.state.history.hex()


def test_the_history_digest_is_that_of_all_its_operations(scene: Scene) -> None:
    proven = check(encode_proof(scene.proof()), scene.server.anchor)
    digest = NO_HASH
    for state in scene.server.states_of(scene.object):
        digest = history_digest(digest, state.write)
    assert proven.state.history == digest


def test_the_proof_is_small_and_shows_no_other_object(scene: Scene) -> None:
    file = encode_proof(scene.proof())
    assert len(file) < 10_000
    others = set(scene.server.objects) - {scene.object}
    assert not any(bytes(one) in file for one in others)


def test_an_older_epoch_is_proven_by_its_place_in_the_tree(scene: Scene) -> None:
    leaves = [opening_leaf(one.opening) for one in scene.server.epochs]
    path = inclusion_proof(lambda start, end: tree_root(leaves[start:end]), 0, len(leaves))
    old = scene.server.states_of(scene.object)[0]
    proof = replace(scene.proof(epoch=0), state=old, epoch_path=path)
    proven = check(encode_proof(proof), scene.server.anchor)
    assert (proven.epoch, proven.state.version) == (0, 1)
    with pytest.raises(VerificationError):
        check(encode_proof(replace(proof, epoch_path=())), scene.server.anchor)


def tampered(proof: ObjectProof, server: HonestServer) -> dict[str, ObjectProof]:
    """One lie in each part."""
    state, anchored, chain = proof.state, proof.anchored, proof.chain
    zero = Hash(bytes(32))
    claimed = anchored.state.state[0]
    header = chain.block.header
    return {
        "object": replace(proof, object=ObjectId(bytes(16))),
        "version": replace(proof, state=replace(state, version=state.version - 1)),
        "operations": replace(proof, state=replace(state, operations=2)),
        "history": replace(proof, state=replace(state, history=zero)),
        "write": replace(proof, state=replace(state, write=zero)),
        "write index": replace(proof, state=replace(state, write_index=1)),
        "map leaf": replace(proof, opening=replace(proof.opening, leaf=())),
        "map steps": replace(proof, opening=replace(proof.opening, steps=proof.opening.steps[:-1])),
        "log": replace(proof, anchored=replace(anchored, log=server.org_log.log)),
        "log state": replace(
            proof,
            anchored=replace(
                anchored,
                state=replace(anchored.state, state=(replace(claimed, map_root=zero),)),
            ),
        ),
        "org root": replace(proof, anchored=replace(anchored, org_root=zero)),
        "org proof": replace(
            proof, anchored=replace(anchored, org_proof=replace(anchored.org_proof, leaf=()))
        ),
        "salt": replace(
            proof, anchored=replace(anchored, opening=replace(anchored.opening, salt=zero))
        ),
        "epoch": replace(
            proof, anchored=replace(anchored, opening=replace(anchored.opening, epoch=0))
        ),
        "statement": replace(
            proof, anchored=replace(anchored, statement=server.epochs[0].statement)
        ),
        "chain statement": replace(
            proof, chain=replace(chain, statement=server.epochs[0].statement)
        ),
        "path": replace(proof, epoch_path=(zero,)),
        "header": replace(
            proof,
            chain=replace(
                chain,
                block=replace(chain.block, header=replace(header, time_ns=header.time_ns + 1)),
            ),
        ),
        "app hash": replace(
            proof,
            chain=replace(
                chain, block=replace(chain.block, header=replace(header, app_hash=bytes(32)))
            ),
        ),
        "votes": replace(
            proof,
            chain=replace(
                chain,
                block=replace(
                    chain.block,
                    commit=replace(
                        chain.block.commit,
                        signatures=tuple(
                            replace(one, time_ns=one.time_ns + 1)
                            for one in chain.block.commit.signatures
                        ),
                    ),
                ),
            ),
        ),
        "state proof": replace(proof, chain=replace(chain, steps=chain.steps[::-1])),
    }


def test_every_part_is_needed(scene: Scene) -> None:
    for name, lie in tampered(scene.proof(), scene.server).items():
        with pytest.raises((DataError, VerificationError)):
            check(encode_proof(lie), scene.server.anchor)
            pytest.fail(f"a lie about the {name} passed")


def test_an_earlier_state_is_not_the_one_of_this_epoch(scene: Scene) -> None:
    old = scene.server.states_of(scene.object)[1]
    with pytest.raises(VerificationError):
        check(encode_proof(replace(scene.proof(), state=old)), scene.server.anchor)


def test_the_anchor_decides_and_the_file_has_no_say(scene: Scene) -> None:
    file = encode_proof(scene.proof())
    anchor = scene.server.anchor
    stranger = HonestServer(seed=b"another organization").anchor
    other = operators(5, 6, 7, 8)
    chain = ChainAnchor(
        chain_id=anchor.chain.chain_id,
        validators=other.validators,
        operators=4,
        trusted_from_ns=anchor.chain.trusted_from_ns,
    )
    for wrong in (stranger, replace(anchor, chain=chain)):
        with pytest.raises(VerificationError):
            check(file, wrong)


@given(data=st.binary(max_size=400))
def test_any_bytes_are_refused_as_data(data: bytes) -> None:
    for candidate in (data, FORMAT + data):
        with pytest.raises(DataError):
            decode_proof(candidate)


@given(place=st.integers(0, 10**6), flip=st.integers(1, 255))
def test_any_flipped_byte_is_refused(scene: Scene, place: int, flip: int) -> None:
    file = bytearray(encode_proof(replace(scene.proof(), label=b"")))
    file[place % len(file)] ^= flip
    honest = check(encode_proof(replace(scene.proof(), label=b"")), scene.server.anchor)
    try:
        proven = check(bytes(file), scene.server.anchor)
    except (DataError, VerificationError):
        return
    # Only signatures beyond the needed two thirds may differ: they prove nothing, and harm nothing.
    assert proven == honest

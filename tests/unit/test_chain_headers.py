"""Header hash, sign bytes and validator hash against a real CometBFT; the rules of verification."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from parsec_fs.audit.headers import (
    CLOCK_DRIFT_NS,
    SECOND_NS,
    TRUSTING_PERIOD_NS,
    TooFarError,
    has_signed,
    header_hash,
    trust_anchor,
    validators_hash,
    verify,
    vote_sign_bytes,
)
from parsec_fs.protocol import chain_rpc
from parsec_fs.protocol.chain_types import (
    FLAG_ABSENT,
    FLAG_NIL,
    BlockReference,
    ChainAnchor,
    Commit,
    LightBlock,
    TrustState,
)
from parsec_fs.protocol.errors import (
    DataError,
    ExpiredError,
    ProofError,
    SignatureError,
    VerificationError,
)
from parsec_fs.protocol.hashing import sha256
from parsec_fs.protocol.ids import Hash
from parsec_fs.protocol.simple_map import verify_head
from tests.support.servers import FakePublisher
from tests.support.simulated_chain import GENESIS_NS, make_header, operators, sign_header

VECTORS: dict[str, Any] = json.loads(
    (Path(__file__).parent.parent / "fixtures/chain/four_validators.json").read_text()
)
COUNT = len(VECTORS["commits"])


def captured(height: int) -> LightBlock:
    signed = chain_rpc.parse_signed_header(json.dumps(VECTORS["commits"][height - 1]).encode())
    page = chain_rpc.parse_validators(json.dumps(VECTORS["validators"][height - 1]).encode())
    return LightBlock(header=signed.header, commit=signed.commit, validators=page.validators)


def captured_trust() -> TrustState:
    genesis = chain_rpc.parse_genesis(json.dumps(VECTORS["genesis"]).encode())
    return trust_anchor(
        ChainAnchor(
            chain_id=genesis.chain_id,
            validators=genesis.validators,
            operators=genesis.operators,
            trusted_from_ns=captured(1).header.time_ns,
        )
    )


@pytest.mark.parametrize(
    ("app_state", "declared"),
    [
        (None, 0),
        ([], 0),
        ({}, 0),
        ("text", 0),
        ({"operators": 0}, 0),
        ({"operators": 1, "servers": []}, 1),
    ],
)
def test_a_genesis_declares_who_runs_the_chain(app_state: object, declared: int) -> None:
    """What it does not declare is nobody's word (rule 29)."""
    genesis = {**VECTORS["genesis"], "app_state": app_state}
    assert chain_rpc.parse_genesis(json.dumps(genesis).encode()).operators == declared


@pytest.mark.parametrize("operators", [-1, 101, True, "4", 4.0, None])
def test_impossible_numbers_of_operators_are_refused(operators: object) -> None:
    genesis = {**VECTORS["genesis"], "app_state": {"operators": operators}}
    with pytest.raises(DataError):
        chain_rpc.parse_genesis(json.dumps(genesis).encode())


@pytest.mark.parametrize("height", range(1, COUNT + 1))
def test_real_block_hashes_match(height: int) -> None:
    block = captured(height)
    assert header_hash(block.header) == block.commit.block.hash
    assert validators_hash(block.validators) == block.header.validators_hash


@pytest.mark.parametrize("height", range(1, COUNT + 1))
def test_real_votes_verify(height: int) -> None:
    block = captured(height)
    pairs = list(zip(block.validators, block.commit.signatures, strict=True))
    good = [has_signed(block.header.chain_id, block.commit, *pair) for pair in pairs]
    assert good == [one.flag != FLAG_ABSENT for one in block.commit.signatures]


def test_real_vectors_cover_the_odd_cases() -> None:
    blocks = [captured(height) for height in range(1, COUNT + 1)]
    assert any(one.flag == FLAG_ABSENT for block in blocks for one in block.commit.signatures)
    assert any(block.commit.round > 0 for block in blocks)
    assert blocks[0].header.last_block.hash == b""


def test_real_chain_step_by_step_and_by_jump() -> None:
    now = captured(COUNT).header.time_ns + SECOND_NS
    trust = captured_trust()
    for height in range(1, COUNT + 1):
        trust = verify(trust, captured(height), now_ns=now)
    assert trust == verify(captured_trust(), captured(COUNT), now_ns=now)


def test_real_state_proof_leads_to_the_header_after() -> None:
    answer = chain_rpc.parse_query(json.dumps(VECTORS["head"]).encode())
    server_log = FakePublisher().registration.server_log
    before, after = (
        Hash(captured(height).header.app_hash) for height in (answer.height, answer.height + 1)
    )
    assert verify_head(after, server_log, answer.value, answer.operations)
    with pytest.raises(ProofError):
        verify_head(before, server_log, answer.value, answer.operations)


def test_vote_sign_bytes_known_answer() -> None:
    """Bytes written out by hand from the field list: nothing but the encoding is under test."""
    block = BlockReference(hash=b"\xaa" * 32, parts_total=1, parts_hash=b"\xbb" * 32)
    commit = Commit(height=3, round=0, block=block, signatures=())
    vote = replace(captured(1).commit.signatures[0], time_ns=1_000_000_002)
    expected = (
        b"\x08\x02"  # type precommit
        b"\x11\x03\0\0\0\0\0\0\0"  # height; round 0 is left out
        b"\x22\x48\x0a\x20" + b"\xaa" * 32 + b"\x12\x24\x08\x01\x12\x20" + b"\xbb" * 32 + b""
        b"\x2a\x04\x08\x01\x10\x02"  # one second, two nanoseconds
        b"\x32\x01c"
    )
    assert vote_sign_bytes(b"c", commit, vote) == bytes([len(expected)]) + expected


@pytest.mark.parametrize(
    "field",
    [
        "app_hash",
        "data_hash",
        "last_commit_hash",
        "consensus_hash",
        "last_results_hash",
        "evidence_hash",
        "next_validators_hash",
        "validators_hash",
    ],
)
def test_tampered_hash_field_is_refused(field: str) -> None:
    block = captured(4)
    change: dict[str, Any] = {field: sha256(b"something else")}
    header = replace(block.header, **change)
    refuse(replace(block, header=header), ProofError)


@pytest.mark.parametrize(
    "change",
    [
        {"time_ns": captured(4).header.time_ns + 1},
        {"height": 5},
        {"chain_id": b"another"},
        {"app_version": 2},
        {"proposer_address": bytes(20)},
    ],
)
def test_tampered_field_is_refused(change: dict[str, Any]) -> None:
    block = captured(4)
    refuse(replace(block, header=replace(block.header, **change)), ProofError)


def refuse(block: LightBlock, error: type[VerificationError]) -> None:
    now = captured(COUNT).header.time_ns + SECOND_NS
    with pytest.raises(error):
        verify(captured_trust(), block, now_ns=now)


def change_signature(block: LightBlock, place: int, **changes: Any) -> LightBlock:
    signatures = list(block.commit.signatures)
    signatures[place] = replace(signatures[place], **changes)
    return replace(block, commit=replace(block.commit, signatures=tuple(signatures)))


NOW = GENESIS_NS + 1000 * SECOND_NS
FOUR = operators(1, 2, 3, 4)


def step(trust: TrustState, block: LightBlock, now_ns: int = NOW) -> TrustState:
    return verify(trust, block, now_ns=now_ns)


def start() -> TrustState:
    return trust_anchor(FOUR.anchor())


def test_one_bad_signature_is_skipped_two_are_not() -> None:
    block = sign_header(make_header(1, FOUR), FOUR)
    one_bad = change_signature(block, 0, signature=bytes(64))
    assert step(start(), one_bad).height == 1
    with pytest.raises(SignatureError):
        step(start(), change_signature(one_bad, 1, signature=bytes(64)))


@pytest.mark.parametrize("place", range(4))
def test_any_time_of_a_vote_is_signed(place: int) -> None:
    block = sign_header(make_header(1, FOUR), FOUR, signers=[0, 1, 2, 3])
    vote = block.commit.signatures[place]
    changed = change_signature(block, place, time_ns=vote.time_ns + 1)
    pair = changed.validators[place], changed.commit.signatures[place]
    assert not has_signed(block.header.chain_id, changed.commit, *pair)


@pytest.mark.parametrize(("signers", "enough"), [([0, 1, 2], True), ([0, 1], False), ([], False)])
def test_more_than_two_thirds_must_sign(signers: list[int], enough: bool) -> None:
    block = sign_header(make_header(1, FOUR), FOUR, signers=signers)
    if enough:
        assert step(start(), block).height == 1
    else:
        with pytest.raises(SignatureError):
            step(start(), block)


def test_exactly_two_thirds_is_not_enough() -> None:
    three = operators(1, 2, 3)
    block = sign_header(make_header(1, three), three, signers=[0, 1])
    with pytest.raises(SignatureError):
        step(trust_anchor(three.anchor()), block)


def test_votes_for_nil_do_not_count() -> None:
    block = sign_header(make_header(1, FOUR), FOUR, signers=[0, 1, 2])
    with pytest.raises(SignatureError):
        step(start(), change_signature(block, 0, flag=FLAG_NIL))


def test_vote_under_another_address_is_refused() -> None:
    block = sign_header(make_header(1, FOUR), FOUR)
    other = block.commit.signatures[1].address
    with pytest.raises(ProofError):
        step(start(), change_signature(block, 0, address=other))


def test_vote_of_another_height_does_not_count() -> None:
    old = sign_header(make_header(1, FOUR), FOUR)
    new = sign_header(make_header(2, FOUR), FOUR, signers=[])
    stolen = replace(new.commit, signatures=old.commit.signatures)
    with pytest.raises(SignatureError):
        step(step(start(), old), replace(new, commit=stolen))


def test_adjacent_header_must_have_the_announced_set() -> None:
    others = operators(1, 2, 3, 5)
    trust = step(start(), sign_header(make_header(1, FOUR, others), FOUR))
    assert step(trust, sign_header(make_header(2, others), others)).height == 2
    with pytest.raises(ProofError):
        step(trust, sign_header(make_header(2, FOUR), FOUR))


def test_jump_needs_more_than_a_third_of_trusted_power() -> None:
    one_in_common = operators(1, 5, 6, 7)
    two_in_common = operators(1, 2, 6, 7)
    block = sign_header(make_header(9, two_in_common), two_in_common)
    assert step(start(), block).height == 9
    with pytest.raises(TooFarError):
        step(start(), sign_header(make_header(9, one_in_common), one_in_common))


def test_jump_counts_a_trusted_validator_once() -> None:
    strangers = operators(5, 6, 7, 8)
    block = sign_header(make_header(9, strangers), strangers)
    trusted_vote = sign_header(make_header(9, FOUR), FOUR).commit.signatures[0]
    signatures = (trusted_vote,) * 4
    forged = replace(block, commit=replace(block.commit, signatures=signatures))
    with pytest.raises(ProofError):
        step(start(), forged)


@pytest.mark.parametrize(
    ("now_ns", "error"),
    [
        (GENESIS_NS + TRUSTING_PERIOD_NS, ExpiredError),
        (GENESIS_NS + SECOND_NS - CLOCK_DRIFT_NS, ProofError),
    ],
)
def test_clock_bounds(now_ns: int, error: type[VerificationError]) -> None:
    block = sign_header(make_header(1, FOUR), FOUR)
    with pytest.raises(error):
        step(start(), block, now_ns)
    inside = now_ns - 1 if error is ExpiredError else now_ns + 1
    assert step(start(), block, inside).height == 1


@pytest.mark.parametrize(
    "make",
    [
        lambda: make_header(3, FOUR),
        lambda: make_header(2, FOUR),
        lambda: make_header(4, FOUR, time_ns=GENESIS_NS + 3 * SECOND_NS),
    ],
)
def test_height_and_time_must_move_forward(make: Callable[[], Any]) -> None:
    trust = step(start(), sign_header(make_header(3, FOUR), FOUR))
    with pytest.raises(ProofError):
        step(trust, sign_header(make(), FOUR))


def test_set_that_is_not_the_headers_is_refused() -> None:
    block = sign_header(make_header(1, FOUR), FOUR)
    with pytest.raises(ProofError):
        step(start(), replace(block, validators=operators(1, 2, 3, 5).validators))


def test_key_named_twice_is_refused() -> None:
    double = replace(FOUR, keys=(FOUR.keys[0],) * 4)
    with pytest.raises(ProofError):
        step(trust_anchor(double.anchor()), sign_header(make_header(1, double), double))

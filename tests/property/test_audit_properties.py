"""What holds for any history: honest ones are verified, any change to an opening is refused.

Data flow: random work of honest members -> epochs -> `open_next`, `partial_map`.
"""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parsec_fs.audit.checks import ALL_CHECKS
from parsec_fs.audit.client_state import AuditFacts, Word, client_state, lag_bound_ns
from parsec_fs.audit.evidence import check_offline, encode_evidence
from parsec_fs.audit.headers import trust_anchor
from parsec_fs.audit.trusted_state import (
    TrustedState,
    confirm,
    fresh_state,
    meet_chain,
    open_next,
)
from parsec_fs.audit.verdict import NotProvenError
from parsec_fs.protocol.certificates import CONTRIBUTOR
from parsec_fs.protocol.codec import decode, encode
from parsec_fs.protocol.commands import EpochProof
from parsec_fs.protocol.errors import DataError, ProofError, StaleError, VerificationError
from parsec_fs.protocol.hashing import sha256
from parsec_fs.protocol.ids import Hash
from parsec_fs.protocol.partial_map import partial_map
from parsec_fs.protocol.prefix_map import PrefixMap
from tests.support.audited import SimulatedChain
from tests.support.evidence import Court
from tests.support.history import HonestServer

STEPS = st.lists(
    st.sampled_from(["alice", "bob", "carol joins", "rotate", "read", "cut"]), max_size=12
)


def play(steps: list[str]) -> tuple[HonestServer, SimulatedChain]:
    """An honest history; it ends with a published epoch."""
    server = HonestServer(repr(steps).encode())
    chain = SimulatedChain(server=server)
    bob = server.add_member("bob", CONTRIBUTOR)
    for step in [*steps, "cut"]:
        if step == "alice":
            server.commit(server.alice)
        elif step == "bob":
            server.commit(bob)
        elif step == "carol joins":
            server.add_member("carol", CONTRIBUTOR)
        elif step == "read":
            server.stamp()
        elif step == "rotate":
            server.rotate(server.alice)
        else:
            chain.publish(server.cut())
    return server, chain


def opened(server: HonestServer) -> list[TrustedState]:
    """States after each epoch, before they meet the chain."""
    states = [fresh_state(server.logs, chain=trust_anchor(server.anchor.chain))]
    for epoch in range(len(server.epochs)):
        proof = server.epoch_proof(epoch)
        step = open_next(states[-1], proof, anchor=server.anchor, checks=ALL_CHECKS)
        states.append(step.after)
    return states


@settings(max_examples=25)
@given(steps=STEPS)
def test_every_honest_history_is_opened_to_its_end(steps: list[str]) -> None:
    server, chain = play(steps)
    last = open_next(
        opened(server)[-2],
        server.epoch_proof(len(server.epochs) - 1),
        anchor=server.anchor,
        checks=ALL_CHECKS,
    )
    head = chain.head()
    trust = trust_anchor(server.anchor.chain)
    believed = meet_chain((last,), head, chain=trust, anchor=server.anchor, checks=ALL_CHECKS)[0]
    state = believed.after
    assert state.epochs == len(server.epochs)
    assert state.anchored[1].log_root == server.realm_log.states[-1].log_root
    assert state.chain_header == head.header_hash
    assert decode(TrustedState, encode(state)) == state
    assert confirm(state, head, chain=trust, checks=ALL_CHECKS) == state


@settings(max_examples=40)
@given(place=st.integers(0, 10**6), flip=st.integers(1, 255))
def test_no_changed_opening_is_taken(place: int, flip: int) -> None:
    state = STATES[-2]
    file = bytearray(encode(SERVER.epoch_proof(len(SERVER.epochs) - 1)))
    file[place % len(file)] ^= flip
    try:
        proof = decode(EpochProof, bytes(file))
        step = open_next(state, proof, anchor=SERVER.anchor, checks=ALL_CHECKS)
    except (DataError, VerificationError):
        return
    pytest.fail(f"a changed opening was taken: {step}")


@settings(max_examples=8)
@given(steps=STEPS)
def test_nothing_said_of_an_honest_history_convicts(steps: list[str]) -> None:
    server, _ = play(steps)
    court = Court(server)
    for record in court.every_accusation():
        with pytest.raises(NotProvenError):
            check_offline(encode_evidence(record), server.anchor)


SERVER, CHAIN = play(["alice", "bob", "cut", "alice", "carol joins", "cut", "bob"])
STATES = opened(SERVER)


@pytest.mark.parametrize("start", range(len(SERVER.epochs)))
def test_epochs_are_taken_in_order_and_once(start: int) -> None:
    for epoch in range(len(SERVER.epochs)):
        proof = SERVER.epoch_proof(epoch)
        if epoch == start:
            open_next(STATES[start], proof, anchor=SERVER.anchor, checks=ALL_CHECKS)
        else:
            with pytest.raises(VerificationError):
                open_next(STATES[start], proof, anchor=SERVER.anchor, checks=ALL_CHECKS)


def test_an_older_head_confirms_nothing() -> None:
    head = CHAIN.head()
    trust = trust_anchor(SERVER.anchor.chain)
    older = replace(head, statement=replace(head.statement, epoch=0))
    with pytest.raises(StaleError):
        confirm(STATES[-1], older, chain=trust, checks=ALL_CHECKS)
    other = replace(head, statement=replace(head.statement, root=Hash(bytes(32))))
    with pytest.raises(VerificationError):
        confirm(STATES[-1], other, chain=trust, checks=ALL_CHECKS)


# Partial maps: as the whole map, for the opened keys

KEYS = st.integers(0, 40).map(lambda number: sha256(b"key" + bytes([number])))
VALUES = st.binary(min_size=32, max_size=32).map(Hash)


@given(
    held=st.dictionaries(KEYS, VALUES, max_size=20),
    keys=st.sets(KEYS, min_size=1, max_size=6),
    data=st.data(),
)
def test_a_partial_map_does_what_the_whole_map_does(
    held: dict[Hash, Hash], keys: set[Hash], data: st.DataObject
) -> None:
    whole = PrefixMap().set_many(held.items())
    partial = partial_map({key: whole.open(key) for key in keys}, expected_root=whole.root())
    assert partial.root() == whole.root()
    assert all(partial.get(key) == held.get(key) for key in keys)
    written = {key: data.draw(VALUES) for key in sorted(keys)}
    assert partial.set_many(written.items()).root() == whole.set_many(written.items()).root()
    for key, value in written.items():
        partial, whole = partial.set(key, value), whole.set(key, value)  # type: ignore[assignment]
        assert partial.root() == whole.root()


@given(held=st.dictionaries(KEYS, VALUES, min_size=2, max_size=20))
def test_a_partial_map_never_answers_for_what_was_not_opened(held: dict[Hash, Hash]) -> None:
    whole = PrefixMap().set_many(held.items())
    first, *others = sorted(held)
    partial = partial_map({first: whole.open(first)}, expected_root=whole.root())
    with pytest.raises(ProofError):
        partial.get(others[0])
    with pytest.raises(ProofError):
        partial.set(others[0], first)
    unopened = partial_map({}, expected_root=whole.root())
    assert unopened.root() == whole.root()
    with pytest.raises(ProofError):
        unopened.get(first)
    with pytest.raises(ProofError):
        partial_map({first: whole.open(first)}, expected_root=first)


# Client states

FACTS = st.builds(
    AuditFacts,
    epochs=st.integers(0, 100),
    epoch_ms=st.sampled_from([2_000, 10_000, 60_000]),
    progress_monotonic_ns=st.integers(0, 10**12),
    chain_time_ns=st.integers(0, 10**12),
    behind=st.booleans(),
    pending=st.booleans(),
    trouble=st.sampled_from(["", "a check failed"]),
    offline=st.sampled_from(["", "the server cannot be reached"]),
    expired=st.booleans(),
    evidence=st.sampled_from([(), ("p1-00.evidence",)]),
    bootstrapped=st.booleans(),
    self_anchored=st.booleans(),
)


@given(facts=FACTS, monotonic=st.integers(10**12, 2 * 10**12), now=st.integers(0, 2 * 10**12))
def test_no_state_is_better_than_its_facts(facts: AuditFacts, monotonic: int, now: int) -> None:
    state = client_state(facts, monotonic_ns=monotonic, now_ns=now)
    assert (state.word is Word.CONVICTED) == bool(facts.evidence) == state.frozen
    if state.word in (Word.VERIFIED, Word.PENDING):
        assert not facts.trouble
        assert not facts.expired
        assert monotonic - facts.progress_monotonic_ns <= lag_bound_ns(facts.epoch_ms)
    if state.word is Word.VERIFIED:
        assert facts.epochs
        assert not facts.pending
        assert not facts.behind
    if state.word in (Word.SUSPECT, Word.CONVICTED):
        assert state.writes_stay_local
    assert ("self-anchored" in state.qualifiers) == facts.self_anchored
    assert ("bootstrapped" in state.qualifiers) == facts.bootstrapped
    assert str(state.word) in state.text()


@given(facts=FACTS, now=st.integers(0, 2 * 10**12), back=st.integers(0, 10**12))
def test_turning_the_wall_clock_back_hides_no_lag(facts: AuditFacts, now: int, back: int) -> None:
    late = facts.progress_monotonic_ns + lag_bound_ns(facts.epoch_ms) + 1
    state = client_state(facts, monotonic_ns=late, now_ns=now - back)
    assert state.word not in (Word.VERIFIED, Word.PENDING)

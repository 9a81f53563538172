"""Rule 17 as a table: which statements a validator accepts, and why it refuses the others."""

from dataclasses import replace
from typing import Any

import pytest

from abci_app.codes import Code
from abci_app.rules import Accepted, Refusal, decide
from abci_app.state import STATEMENT_MAX_SIZE, ChainState, app_hash, genesis_state
from parsec_fs.protocol.codec import decode, encode
from parsec_fs.protocol.hashing import sha256
from parsec_fs.protocol.keys import CoSigningKey, SigningKey
from parsec_fs.protocol.limits import KEY_CHANGES_MAX
from parsec_fs.protocol.statements import SignedStatement, sign_statement
from tests.support.servers import CHAIN_ID, FakePublisher

START_MS = 1_700_000_000_000
SLACK_MS = 2_000 + 2 * 2_000 + 10_000


def genesis(*publishers: FakePublisher) -> ChainState:
    registrations = [one.registration for one in publishers]
    return genesis_state(CHAIN_ID, registrations, height=0, time_ms=START_MS)


def accept(state: ChainState, tx: bytes, block_time_ms: int = START_MS) -> ChainState:
    decision = decide(state, tx, block_time_ms=block_time_ms)
    assert isinstance(decision, Accepted), decision
    return decision.state


def refuse(state: ChainState, tx: bytes, block_time_ms: int = START_MS) -> Refusal:
    decision = decide(state, tx, block_time_ms=block_time_ms)
    assert isinstance(decision, Refusal)
    return decision


def test_epochs_in_order_are_accepted() -> None:
    publisher = FakePublisher()
    state = genesis(publisher)
    for epoch in range(5):
        time_ms = START_MS + epoch * 2_000
        tx = publisher.next_tx(time_ms)
        state = accept(state, tx, time_ms)
    server = state.server(publisher.registration.server_log)
    assert server is not None
    assert (server.next_epoch, server.tree, server.newest) == (5, publisher.tree, tx)
    assert state.history.size == 5


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"chain_id": b"another"}, Code.WRONG_CHAIN),
        ({"server_log": sha256(b"nobody")}, Code.UNKNOWN_LOG),
        ({"epoch": 0}, Code.WRONG_EPOCH),
        ({"epoch": 2}, Code.WRONG_EPOCH),
        ({"epoch_leaf": sha256(b"another leaf")}, Code.WRONG_ROOT),
        ({"root": sha256(b"another root")}, Code.WRONG_ROOT),
        ({"time_ms": START_MS}, Code.TOO_EARLY),
        ({"time_ms": START_MS + 999}, Code.TOO_EARLY),
        ({"time_ms": START_MS + SLACK_MS + 1}, Code.AHEAD_OF_TIME),
    ],
)
def test_changed_statement_is_refused(change: dict[str, Any], code: Code) -> None:
    publisher = FakePublisher()
    state = accept(genesis(publisher), publisher.next_tx(START_MS))
    tx = publisher.sign(replace(publisher.statement(START_MS + 1_000), **change))
    assert refuse(state, tx).code is code
    accept(state, publisher.sign(publisher.statement(START_MS + 1_000)))


@pytest.mark.parametrize("time_ms", [START_MS + 1_000, START_MS + SLACK_MS])
def test_times_at_the_bounds_are_accepted(time_ms: int) -> None:
    publisher = FakePublisher()
    state = accept(genesis(publisher), publisher.next_tx(START_MS))
    accept(state, publisher.next_tx(time_ms))


AFTER = START_MS + 2_000
NEW, OTHER = b"n" * 32, b"o" * 32


def published() -> tuple[ChainState, FakePublisher]:
    """One epoch under the first keys."""
    publisher = FakePublisher()
    return accept(genesis(publisher), publisher.next_tx(START_MS)), publisher


def test_keys_change_with_both_pairs() -> None:
    state, publisher = published()
    for number in range(KEY_CHANGES_MAX):
        publisher = publisher.changed(bytes([number + 1]) * 32)
        time_ms = AFTER + number * 4_000
        state = accept(state, publisher.next_tx(time_ms), time_ms)
        state = accept(state, publisher.next_tx(time_ms + 2_000), time_ms + 2_000)
    assert len(publisher.next_tx(START_MS)) <= STATEMENT_MAX_SIZE
    assert len(publisher.changes) == KEY_CHANGES_MAX


@pytest.mark.parametrize(
    "lies",
    [
        {"before": (SigningKey(NEW), CoSigningKey(NEW))},
        {"before": (SigningKey(bytes(range(32))), CoSigningKey(NEW))},
        {"before": (SigningKey(NEW), CoSigningKey(bytes(range(32))))},
        {"new_signature": bytes(64)},
        {"new_co_signature": bytes(2420)},
        {"change": b"\x00"},
    ],
    ids=["new keys alone", "old co-key", "old head key", "new key", "new co-key", "malformed"],
)
def test_key_change_that_one_side_did_not_sign_is_refused(lies: dict[str, Any]) -> None:
    """Whoever can send statements, but holds no key of the server, takes nothing over."""
    state, publisher = published()
    assert refuse(state, publisher.changed(NEW, **lies).next_tx(AFTER)).code is Code.BAD_SIGNATURE
    accept(state, publisher.next_tx(AFTER))


def test_retired_keys_sign_nothing() -> None:
    state, before = published()
    after = before.changed(NEW)
    state = accept(state, after.next_tx(AFTER))
    before.tree, later = after.tree, AFTER + 2_000
    assert refuse(state, before.next_tx(later), later).code is Code.WRONG_KEYS
    before.tree = after.tree
    rival = before.changed(OTHER)
    assert refuse(state, rival.next_tx(later), later).code is Code.WRONG_KEYS
    accept(state, after.next_tx(later), later)


def test_changes_come_one_by_one_and_never_back() -> None:
    state, publisher = published()
    twice = publisher.changed(NEW).changed(OTHER)
    assert refuse(state, twice.next_tx(AFTER)).code is Code.WRONG_KEYS
    back = publisher.changed(publisher.seed)
    assert refuse(state, back.next_tx(AFTER)).code is Code.BAD_SIGNATURE
    first = publisher.changed(NEW)
    state = accept(state, first.next_tx(AFTER))
    returned = first.changed(publisher.seed)
    assert refuse(state, returned.next_tx(AFTER + 2_000), AFTER + 2_000).code is Code.BAD_SIGNATURE


def test_change_for_another_chain_or_server_is_refused() -> None:
    state, publisher = published()
    stranger = FakePublisher(name=b"stranger", tree=publisher.tree).changed(NEW)
    elsewhere = FakePublisher(chain_id=b"elsewhere", tree=publisher.tree).changed(NEW)
    for other in (stranger, elsewhere):
        publisher = FakePublisher(tree=publisher.tree).changed(NEW)
        publisher.changes = other.changes
        assert refuse(state, publisher.next_tx(AFTER)).code is Code.BAD_SIGNATURE
        publisher.tree = other.tree


def test_first_statement_may_be_of_any_past_time() -> None:
    publisher = FakePublisher()
    accept(genesis(publisher), publisher.next_tx(0))


def test_second_statement_of_an_epoch_is_refused_with_the_next_epoch() -> None:
    publisher = FakePublisher()
    fork = publisher.sign(publisher.statement(START_MS, content=b"fork"))
    tx = publisher.next_tx(START_MS)
    state = accept(genesis(publisher), tx)
    refusal = refuse(state, fork)
    assert (refusal.code, refusal.data) == (Code.WRONG_EPOCH, b"1")
    assert refuse(state, tx).code is Code.ALREADY_ACCEPTED


@pytest.mark.parametrize("part", ["signature", "co_signature"])
def test_both_signatures_are_required(part: str) -> None:
    publisher = FakePublisher()
    signed = decode(SignedStatement, publisher.sign(publisher.statement(START_MS)))
    broken = bytes(64) if part == "signature" else bytes(2420)
    tx = encode(replace(signed, **{part: broken}))  # type: ignore[arg-type]
    assert refuse(genesis(publisher), tx).code is Code.BAD_SIGNATURE


@pytest.mark.parametrize("stolen", ["head", "co"])
def test_one_stolen_key_is_not_enough(stolen: str) -> None:
    publisher = FakePublisher()
    other = bytes(32)
    key = publisher.key if stolen == "head" else SigningKey(other)
    co_key = publisher.co_key if stolen == "co" else CoSigningKey(other)
    tx = encode(sign_statement(publisher.statement(START_MS), key, co_key))
    assert refuse(genesis(publisher), tx).code is Code.BAD_SIGNATURE


def test_statement_of_another_server_under_own_keys_is_refused() -> None:
    first, second = FakePublisher(), FakePublisher(name=b"second", seed=bytes(32))
    statement = first.statement(START_MS)
    assert refuse(genesis(first, second), second.sign(statement)).code is Code.BAD_SIGNATURE


def test_servers_do_not_disturb_each_other() -> None:
    first, second = FakePublisher(), FakePublisher(name=b"second", seed=bytes(32))
    state = accept(genesis(first, second), first.next_tx(START_MS))
    before = app_hash(state)
    state = accept(state, second.next_tx(START_MS))
    assert app_hash(state) != before
    accept(state, first.next_tx(START_MS + 1_000))


def test_refusal_leaves_the_hash() -> None:
    publisher = FakePublisher()
    state = genesis(publisher)
    before = app_hash(state)
    refuse(state, b"junk")
    assert app_hash(state) == before


@pytest.mark.parametrize("cut", [0, 1, 10, -1])
def test_cut_or_padded_bytes_are_malformed(cut: int) -> None:
    publisher = FakePublisher()
    tx = publisher.sign(publisher.statement(START_MS))
    assert refuse(genesis(publisher), tx[:cut]).code is Code.MALFORMED
    assert refuse(genesis(publisher), tx + b"\0").code is Code.MALFORMED
    assert refuse(genesis(publisher), bytes(5_000)).code is Code.MALFORMED

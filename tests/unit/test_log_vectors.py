"""Production against the frozen logs, signed records and epochs.

Data flow: tests/vectors/{logs,signed_records,epochs}.json -> replay -> roots, or the named error.
"""

from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from parsec_fs.protocol import membership
from parsec_fs.protocol.codec import decode, encode
from parsec_fs.protocol.commands import EpochProof, LogOpening, RequestToSign, verify_request
from parsec_fs.protocol.epochs import open_epoch
from parsec_fs.protocol.errors import SignatureError
from parsec_fs.protocol.ids import Hash, LogId, ObjectId, OrgId, RealmId, UserId
from parsec_fs.protocol.keys import SigningKey, VerifyKey
from parsec_fs.protocol.membership import OrgState
from parsec_fs.protocol.merkle import Frontier
from parsec_fs.protocol.prefix_map import MapProof
from parsec_fs.protocol.realm_state import RealmState, verify_leaf
from parsec_fs.protocol.records import (
    Context,
    EpochOpening,
    Leaf,
    ObjectState,
    Signed,
    peek_refusal,
    sign_refusal,
    verify_head,
    verify_refusal,
)
from parsec_fs.protocol.statements import SignedStatement, Statement
from tests.support import vectors
from tests.support.vector_records import HEAD_SEED
from tests.unit.test_vectors import Case, cases, h, only, refuses


def leaves(log: str) -> list[Leaf]:
    return [decode(Leaf, h(one)) for one in only("logs", log)["leaves"]]


@cache
def org() -> OrgState:
    first, *rest = leaves("org")
    state = membership.found(first, expected_genesis=Hash(h(only("logs", "genesis")["hash"])))
    for leaf in rest:
        state = membership.append(state, leaf)
    return state


def realm_id() -> RealmId:
    return RealmId(h(only("epochs", "server")["realm"]))


@cache
def realm() -> tuple[RealmState, dict[ObjectId, ObjectState], list[ObjectState]]:
    state = RealmState(context=membership.realm_context(org(), realm_id()))
    objects: dict[ObjectId, ObjectState] = {}
    states: list[ObjectState] = []
    for leaf in leaves("realm"):
        transition = verify_leaf(state, leaf, org=org(), objects=objects.get)
        state = transition.state
        objects |= {record.object: after for record, after in transition.objects}
        states += [after for _, after in transition.objects]
    return state, objects, states


def test_logs_replay_to_their_roots() -> None:
    for name, state in (("org", org()), ("realm", realm()[0])):
        summary = only("logs", name)
        assert state.position.root() == h(summary["log_root"])
        assert state.map.root() == h(summary["map_root"])
        hashes = [leaf.header.hash().hex() for leaf in leaves(name)]
        assert hashes == summary["leaf_hashes"]


def test_object_states_and_histories() -> None:
    case = only("logs", "object")
    assert [encode(one).hex() for one in realm()[2]] == case["states"]
    assert realm()[1] == {h(case["id"]): realm()[2][-1]}


@pytest.mark.parametrize("case", cases("logs", "bad_realm_leaf"))
def test_bad_realm_leaf(case: Case) -> None:
    state, objects, _ = realm()
    leaf = decode(Leaf, h(case["leaf"]))
    refuses(case, lambda: verify_leaf(state, leaf, org=org(), objects=objects.get))


def two_generations() -> OrgState:
    state = org()
    for leaf in only("user_keys", "log")["leaves"][state.position.size :]:
        state = membership.append(state, decode(Leaf, h(leaf)))
    return state


def test_user_key_replays() -> None:
    state, summary = two_generations(), only("user_keys", "log")
    assert state.position.root() == h(summary["log_root"])
    assert state.map.root() == h(summary["map_root"])
    user = state.users[UserId(h(only("user_keys", "user")["id"]))]
    assert encode(user).hex() == only("user_keys", "user")["record"]
    assert len(state.generations[user.user]) == 2


@pytest.mark.parametrize("case", cases("user_keys", "bad_leaf"))
def test_bad_user_key(case: Case) -> None:
    state, leaf = two_generations(), decode(Leaf, h(case["leaf"]))
    refuses(case, lambda: membership.append(state, leaf))


def without_bob() -> OrgState:
    state = org()
    for leaf in only("revocations", "log")["leaves"][state.position.size :]:
        state = membership.append(state, decode(Leaf, h(leaf)))
    return state


def test_revocation_replays() -> None:
    state, summary = without_bob(), only("revocations", "log")
    assert state.position.root() == h(summary["log_root"])
    assert state.map.root() == h(summary["map_root"])
    assert len(state.revoked_users) == 1


@pytest.mark.parametrize("case", cases("revocations", "bad_leaf"))
def test_bad_revocation(case: Case) -> None:
    state, leaf = org(), decode(Leaf, h(case["leaf"]))
    refuses(case, lambda: membership.append(state, leaf))


@pytest.mark.parametrize("case", cases("revocations", "bad_leaf_after"))
def test_bad_leaf_after_a_revocation(case: Case) -> None:
    state, leaf = without_bob(), decode(Leaf, h(case["leaf"]))
    refuses(case, lambda: membership.append(state, leaf))


@cache
def without_alice() -> OrgState:
    state = org()
    for leaf in only("revocations", "ownership_org")["leaves"][state.position.size :]:
        state = membership.append(state, decode(Leaf, h(leaf)))
    assert state.map.root() == h(only("revocations", "ownership_org")["map_root"])
    return state


@pytest.mark.parametrize("case", cases("revocations", "realm_leaf"))
def test_realm_leaf_about_a_revocation(case: Case) -> None:
    state, objects, _ = realm()
    leaf = decode(Leaf, h(case["leaf"]))
    step = verify_leaf(state, leaf, org=without_alice(), objects=objects.get)
    assert step.state.position.size == state.position.size + 1


@pytest.mark.parametrize("case", cases("revocations", "bad_realm_leaf"))
def test_bad_realm_leaf_about_a_revocation(case: Case) -> None:
    state, objects, _ = realm()
    leaf = decode(Leaf, h(case["leaf"]))
    refuses(case, lambda: verify_leaf(state, leaf, org=without_alice(), objects=objects.get))


def signed(name: str) -> Signed:
    case = only("signed_records", name)
    return Signed(record=h(case["record"]), signature=h(case["signature"]))


def head_key() -> VerifyKey:
    return VerifyKey(h(only("signed_records", "server")["head_key"]))


def realm_place() -> Context:
    return membership.realm_context(org(), realm_id())


def test_head() -> None:
    nonce = h(only("signed_records", "server")["nonce"])
    head = verify_head(
        signed("head"), head_key=head_key(), expected_context=realm_place(), expected_nonce=nonce
    )
    state = realm()[0]
    assert (head.size, head.log_root) == (state.position.size, state.position.root())
    assert head.map_root == state.map.root()


@pytest.mark.parametrize("what", ["context", "nonce", "signature", "record", "tag"])
def test_head_told_wrongly(what: str) -> None:
    place, nonce, head = realm_place(), h(only("signed_records", "server")["nonce"]), signed("head")
    if what == "context":
        place = org().context
    elif what == "nonce":
        nonce = bytes(32)
    elif what == "signature":
        head = replace(head, signature=head.signature[:40] + bytes(24))
    elif what == "record":
        head = replace(head, record=head.record[:-1] + b"\x00")
    else:  # a refusal's signature is not one of a head
        head = signed("refusal")
    with pytest.raises(SignatureError):
        verify_head(head, head_key=head_key(), expected_context=place, expected_nonce=nonce)


def test_refusal() -> None:
    record = Hash(h(only("signed_records", "refused")["record"]))
    place = realm_place()
    refusal = verify_refusal(
        signed("refusal"), head_key=head_key(), expected_context=place, expected_record=record
    )
    assert peek_refusal(signed("refusal")) == refusal
    assert sign_refusal(refusal, SigningKey(HEAD_SEED)) == signed("refusal")
    (conflict,) = refusal.conflicts
    assert conflict.state == (realm()[2][-1],)
    for wrong in ({"expected_record": Hash(bytes(32))}, {"expected_context": org().context}):
        expected: dict[str, Any] = {"expected_context": place, "expected_record": record, **wrong}
        with pytest.raises(SignatureError):
            verify_refusal(signed("refusal"), head_key=head_key(), **expected)


def test_request() -> None:
    case = signed("request")
    request = decode(RequestToSign, case.record)
    assert verify_request(request, case.signature, key=head_key()) == request
    with pytest.raises(SignatureError):
        verify_request(replace(request, counter=6), case.signature, key=head_key())


def epoch_proof(case: Case) -> EpochProof:
    return EpochProof(
        statement=SignedStatement(
            statement=h(case["statement"]),
            signature=h(case["signature"]),
            co_signature=bytes(2420),
        ),
        opening=decode(EpochOpening, h(case["opening"])),
        org_root=Hash(h(case["org_root"])),
        org_proof=decode(MapProof, h(case["org_proof"])),
        logs=tuple(decode(LogOpening, h(one)) for one in case["logs"]),
    )


def open_case(case: Case, before: Frontier, epoch: int) -> tuple[Frontier, tuple[Any, ...]]:
    server = only("epochs", "server")
    return open_epoch(
        epoch_proof(case),
        decode(Statement, h(case["statement"])),
        expected_epoch=epoch,
        expected_org=OrgId(h(server["org"])),
        expected_logs=tuple(LogId(h(server[one])) for one in ("org", "realm", "absent")),
        before=before,
    )


def test_epochs_open_one_after_the_other() -> None:
    tree = Frontier()
    for epoch, case in enumerate(vectors.read("epochs")["good"]):
        tree, states = open_case(case, tree, epoch)
        assert tree.root() == h(case["root"])
        assert [encode(one).hex() for one in states[:2]] == case["states"]
        assert states[2] is None


@pytest.mark.parametrize("case", cases("epochs", "bad"))
def test_bad_epoch(case: Case) -> None:
    first, _ = open_case(vectors.read("epochs")["good"][0], Frontier(), 0)
    refuses(case, lambda: open_case(case, first, 1))

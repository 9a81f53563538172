"""The light client against simulated nodes: honest, lying, slow, behind, and a forked chain."""

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from parsec_fs.audit.chain_evidence import check_chain_fork, encode_chain_fork
from parsec_fs.audit.headers import SECOND_NS, TRUSTING_PERIOD_NS, trust_anchor
from parsec_fs.audit.light_client import CANDIDATE_TIMEOUT_S, WITNESS_TIMEOUT_S, LightClient
from parsec_fs.protocol.chain_rpc import Params
from parsec_fs.protocol.chain_types import BlockReference, LightBlock, TrustState
from parsec_fs.protocol.codec import decode, encode
from parsec_fs.protocol.errors import (
    ExpiredError,
    ForkError,
    OfflineError,
    ProofError,
    SignatureError,
    StaleError,
    VerificationError,
)
from parsec_fs.protocol.ids import Hash
from parsec_fs.protocol.simple_map import (
    HEADS_KEY,
    ProofOperation,
    encode_operation,
    log_key,
    map_root,
    prove,
)
from tests.support.servers import FakePublisher
from tests.support.simulated_chain import (
    GENESIS_NS,
    Operators,
    make_header,
    operators,
    sign_header,
)

FOUR = operators(1, 2, 3, 4)
NOW_NS = GENESIS_NS + 1000 * SECOND_NS
Spoil = Callable[[str, Any], Any]
HASH_FIELDS = (
    "last_commit_hash",
    "data_hash",
    "validators_hash",
    "next_validators_hash",
    "consensus_hash",
    "app_hash",
    "last_results_hash",
    "evidence_hash",
    "proposer_address",
)


def state_with(tx: bytes) -> tuple[Hash, tuple[ProofOperation, ...]]:
    """App hash and proof of a state whose only head is `tx`."""
    key = log_key(FakePublisher().registration.server_log)
    inner = {key: tx}
    outer = {HEADS_KEY: map_root(inner), b"history": b"h", b"params": b"p"}
    operations = (
        encode_operation(key, prove(inner, key)),
        encode_operation(HEADS_KEY, prove(outer, HEADS_KEY)),
    )
    return map_root(outer), operations


@dataclass(kw_only=True)
class SimulatedNode:
    """Answers like CometBFT from blocks it is given. `spoil` may change any result."""

    name: str
    blocks: dict[int, LightBlock]
    height: int
    tx: bytes
    spoil: Spoil = lambda _method, result: result
    calls: list[str] = field(default_factory=list)

    async def call(self, method: str, params: Params) -> bytes:
        await trio.lowlevel.checkpoint()
        self.calls.append(method)
        if method == "abci_query":
            result: Any = self._query()
        else:
            block = self.blocks.get(int(params["height"]))
            if block is None:
                text = "height must be less than or equal to the current blockchain height"
                return json.dumps({"error": {"code": -32603, "data": text}}).encode()
            result = _commit(block) if method == "commit" else _validators(block)
        return json.dumps({"result": self.spoil(method, result)}).encode()

    def _query(self) -> Any:
        _, operations = state_with(self.tx)
        ops = [
            {"type": one.kind, "key": _b64(one.key), "data": _b64(one.data)} for one in operations
        ]
        return {
            "response": {
                "code": 0,
                "log": "",
                "key": _b64(operations[0].key),
                "value": _b64(self.tx),
                "height": str(self.height),
                "proofOps": {"ops": ops},
            }
        }


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _time(time_ns: int) -> str:
    seconds, nanos = divmod(time_ns, SECOND_NS)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{nanos:09d}Z"


def _reference(one: BlockReference) -> Any:
    parts = {"total": one.parts_total, "hash": one.parts_hash.hex()}
    return {"hash": one.hash.hex(), "parts": parts}


def _commit(block: LightBlock) -> Any:
    header, commit = block.header, block.commit
    hashes = {name: getattr(header, name).hex().upper() for name in HASH_FIELDS}
    signatures = [
        {
            "block_id_flag": one.flag,
            "validator_address": one.address.hex(),
            "timestamp": _time(one.time_ns),
            "signature": _b64(one.signature),
        }
        for one in commit.signatures
    ]
    return {
        "signed_header": {
            "header": {
                "version": {"block": str(header.block_version), "app": str(header.app_version)},
                "chain_id": header.chain_id.decode(),
                "height": str(header.height),
                "time": _time(header.time_ns),
                "last_block_id": _reference(header.last_block),
                **hashes,
            },
            "commit": {
                "height": str(commit.height),
                "round": commit.round,
                "block_id": _reference(commit.block),
                "signatures": signatures,
            },
        }
    }


def _validators(block: LightBlock) -> Any:
    return {
        "block_height": str(block.header.height),
        "total": str(len(block.validators)),
        "validators": [
            {
                "pub_key": {"type": "tendermint/PubKeyEd25519", "value": _b64(one.public_key)},
                "voting_power": str(one.power),
            }
            for one in block.validators
        ],
    }


def statement_tx(content: bytes = b"") -> bytes:
    publisher = FakePublisher()
    return publisher.sign(publisher.statement(GENESIS_NS // 1_000_000, content=content))


TX = statement_tx()
FORKED_TX = statement_tx(b"fork")


def block_with(
    tx: bytes, *, height: int = 6, current: Operators = FOUR, round: int = 0
) -> LightBlock:
    header = make_header(height, current, app_hash=state_with(tx)[0])
    return sign_header(header, current, round=round)


def node(name: str, *, tx: bytes = TX, height: int = 5, **more: Any) -> SimulatedNode:
    blocks = more.pop("blocks", None) or {height + 1: block_with(tx, height=height + 1)}
    return SimulatedNode(name=name, blocks=blocks, height=height, tx=tx, **more)


def client(*nodes: SimulatedNode, now_ns: int = NOW_NS) -> LightClient:
    trust = trust_anchor(FOUR.anchor())
    registration = FakePublisher().registration
    return LightClient(nodes, registration, trust, now_ns=lambda: now_ns)


class DeadNode(SimulatedNode):
    async def call(self, method: str, params: Params) -> bytes:
        await trio.lowlevel.checkpoint()
        raise OfflineError("connection refused")


class SilentNode(SimulatedNode):
    async def call(self, method: str, params: Params) -> bytes:
        await trio.sleep_forever()
        raise AssertionError


async def test_head_is_verified_and_confirmed() -> None:
    light = client(node("a"), node("b"), node("c"))
    head = await light.newest_head()
    assert head.statement_bytes == TX
    assert head.confirmed_by == ("a", "b", "c")
    assert (light.trust.height, light.lying) == (6, {})


async def test_one_node_is_enough_and_is_named() -> None:
    assert (await client(node("only")).newest_head()).confirmed_by == ("only",)


async def test_trust_state_survives_storage() -> None:
    light = client(node("a"))
    await light.newest_head()
    assert decode(TrustState, encode(light.trust)) == light.trust


async def test_unchanged_head_is_confirmed_again() -> None:
    light = client(node("a"), node("b"))
    first = await light.newest_head()
    assert await light.newest_head() == first


async def test_newest_of_several_answers_is_taken(autojump_clock: MockClock) -> None:
    light = client(node("old", tx=FORKED_TX, height=3), node("new"))
    assert (await light.newest_head()).height == 6
    assert light.lying == {}


async def test_node_behind_what_was_verified_is_stale_not_lying() -> None:
    light = client(node("a"))
    await light.newest_head()
    behind = client(node("behind", tx=FORKED_TX, height=3))
    behind.trust = light.trust
    with pytest.raises(StaleError):
        await behind.newest_head()
    assert behind.lying == {}


def forged_value(method: str, result: Any) -> Any:
    if method == "abci_query":
        result["response"]["value"] = _b64(FORKED_TX)
    return result


def forged_proof(method: str, result: Any) -> Any:
    if method == "abci_query":
        result["response"]["proofOps"]["ops"].pop()
    return result


def forged_header(method: str, result: Any) -> Any:
    if method == "commit":
        result["signed_header"]["header"]["app_hash"] = "AA" * 32
    return result


def forged_commit(method: str, result: Any) -> Any:
    if method == "commit":
        for one in result["signed_header"]["commit"]["signatures"]:
            one["signature"] = _b64(bytes(64))
    return result


def forged_set(method: str, result: Any) -> Any:
    return _validators(block_with(TX, current=operators(5))) if method == "validators" else result


def other_height(method: str, result: Any) -> Any:
    return _commit(block_with(TX, height=7)) if method == "commit" else result


def nonsense(_method: str, _result: Any) -> Any:
    return {"unexpected": []}


LIES = [
    forged_value,
    forged_proof,
    forged_header,
    forged_commit,
    forged_set,
    other_height,
    nonsense,
]


@pytest.mark.parametrize("spoil", LIES)
async def test_lying_first_node_is_dropped_and_the_next_used(spoil: Spoil) -> None:
    light = client(node("liar", spoil=spoil), node("honest"))
    head = await light.newest_head()
    assert head.statement_bytes == TX
    assert set(light.lying) == {"liar"}
    assert head.confirmed_by == ("honest",)


@pytest.mark.parametrize("spoil", LIES)
async def test_if_all_lie_nothing_is_believed(spoil: Spoil) -> None:
    light = client(node("liar", spoil=spoil))
    with pytest.raises(ProofError):
        await light.newest_head()
    assert light.trust.height == 0


async def test_dropped_node_is_not_asked_again() -> None:
    liar = node("liar", spoil=forged_proof)
    light = client(liar, node("honest"))
    await light.newest_head()
    liar.calls.clear()
    await light.newest_head()
    assert liar.calls == []


async def test_if_none_is_left_who_was_caught_gets_another_chance() -> None:
    only = node("broken proxy", spoil=nonsense)
    light = client(only)
    with pytest.raises(ProofError):
        await light.newest_head()
    only.spoil = lambda _method, result: result
    assert (await light.newest_head()).statement_bytes == TX
    assert set(light.lying) == {"broken proxy"}


async def test_witness_with_an_unsigned_header_is_dropped() -> None:
    unsigned = sign_header(make_header(6, FOUR, data=b"other"), FOUR, signers=[0])
    light = client(node("honest"), node("liar", blocks={6: unsigned}, height=1))
    assert (await light.newest_head()).confirmed_by == ("honest",)
    assert set(light.lying) == {"liar"}


@pytest.mark.parametrize("broken", [DeadNode, SilentNode])
async def test_unreachable_node_is_passed_over(
    broken: type[SimulatedNode], autojump_clock: MockClock
) -> None:
    dead = broken(name="dead", blocks={}, height=0, tx=b"")
    light = client(dead, node("alive"))
    assert (await light.newest_head()).confirmed_by == ("alive",)
    assert light.lying == {}
    with pytest.raises(OfflineError):
        await client(dead).newest_head()


class PatientNode(SimulatedNode):
    """Claims the newest state of all, and shows headers of its own validators at every height that
    it is led to, each just before the call would be given up."""

    async def call(self, method: str, params: Params) -> bytes:
        if method != "abci_query":
            await trio.sleep(9.9)
            own, height = operators(21, 22, 23, 24), int(params["height"])
            header = make_header(height, own, own, app_hash=state_with(TX)[0])
            self.blocks[height] = sign_header(header, own)
        return await super().call(method, params)


@pytest.mark.parametrize("claims", [500, 5])
async def test_a_patient_liar_does_not_keep_the_others_waiting(
    autojump_clock: MockClock, claims: int
) -> None:
    """As the first to be asked, and as a witness."""
    liar = PatientNode(name="liar", blocks={}, height=claims, tx=TX)
    light = client(node("alive"), liar)
    start = trio.current_time()
    assert (await light.newest_head()).confirmed_by == ("alive",)
    assert trio.current_time() - start <= CANDIDATE_TIMEOUT_S + WITNESS_TIMEOUT_S
    again = trio.current_time()
    assert (await light.newest_head()).height == 6
    assert trio.current_time() - again <= WITNESS_TIMEOUT_S


async def test_who_was_late_once_is_asked_first_again(autojump_clock: MockClock) -> None:
    slow = node("slow", height=7)
    block = slow.blocks.pop(8)
    light = client(slow, node("old", height=5))
    assert (await light.newest_head()).height == 6
    slow.blocks[8] = block
    assert (await light.newest_head()).height == 6
    slow.blocks[6] = node("old", height=5).blocks[6]
    assert (await light.newest_head()).height == 8


async def test_header_that_is_due_is_waited_for(autojump_clock: MockClock) -> None:
    late = node("late")
    block = late.blocks.pop(6)

    async def appear() -> None:
        await trio.sleep(3)
        late.blocks[6] = block

    async with trio.open_nursery() as nursery:
        nursery.start_soon(appear)
        assert (await client(late).newest_head()).height == 6


async def test_header_that_never_comes_is_stale(autojump_clock: MockClock) -> None:
    halted = node("halted")
    halted.blocks.clear()
    with pytest.raises(StaleError):
        await client(halted).newest_head()


async def test_changed_validators_are_followed_through_headers_in_between() -> None:
    sets = [operators(*range(first, first + 4)) for first in range(1, 12)]
    blocks = {
        height: sign_header(
            make_header(height, sets[height - 1], sets[height], app_hash=state_with(TX)[0]),
            sets[height - 1],
        )
        for height in range(1, 11)
    }
    far = node("far", height=9, blocks=blocks)
    light = client(far)
    assert (await light.newest_head()).height == 10
    assert 2 < far.calls.count("commit") < 10


async def test_expired_trust_must_be_renewed() -> None:
    light = client(node("a"), now_ns=GENESIS_NS + TRUSTING_PERIOD_NS)
    with pytest.raises(ExpiredError):
        await light.newest_head()
    assert light.lying == {}


async def test_statement_that_the_server_did_not_sign_blames_the_chain() -> None:
    publisher = FakePublisher()
    other = FakePublisher(seed=bytes(32))
    forged = other.sign(
        replace(publisher.statement(0), server_log=publisher.registration.server_log)
    )
    light = client(node("a", tx=forged))
    with pytest.raises(SignatureError):
        await light.newest_head()
    assert (light.lying, light.trust.height) == ({}, 0)


async def test_forked_chain_gives_evidence_that_anyone_can_check() -> None:
    light = client(node("a"), node("b", tx=FORKED_TX))
    with pytest.raises(ForkError) as caught:
        await light.newest_head()
    assert light.trust.height == 0
    finding = check_chain_fork(caught.value.evidence[0], FOUR.anchor())
    assert finding.height == 6
    assert set(finding.double_voters) == {one.address for one in FOUR.validators}


def two_heights(first: str, tx: bytes, later: bytes) -> SimulatedNode:
    """Block 6 with one state, block 9 with a later one."""
    blocks = {6: block_with(tx), 9: block_with(later, height=9)}
    return node(first, tx=later, height=8, blocks=blocks)


async def test_rewritten_past_gives_evidence() -> None:
    """All nodes went another way since: restored validators, or all of them dishonest."""
    light = client(node("a"))
    await light.newest_head()
    light._nodes = (two_heights("a", FORKED_TX, FORKED_TX),)
    with pytest.raises(ForkError) as caught:
        await light.newest_head()
    assert check_chain_fork(caught.value.evidence[0], FOUR.anchor()).height == 6
    assert light.trust.height == 6


async def test_rewritten_past_is_noticed_without_the_old_block() -> None:
    light = client(node("a"))
    await light.newest_head()
    later = LightClient(
        [two_heights("a", FORKED_TX, FORKED_TX)],
        FakePublisher().registration,
        light.trust,
        now_ns=lambda: NOW_NS,
    )
    with pytest.raises(ForkError) as caught:
        await later.newest_head()
    assert caught.value.evidence == ()


async def test_same_past_and_a_newer_head_is_fine() -> None:
    light = client(node("a"))
    await light.newest_head()
    light._nodes = (two_heights("a", TX, FORKED_TX),)
    assert (await light.newest_head()).height == 9


async def test_unsigned_other_past_is_a_lie() -> None:
    light = client(node("a"))
    await light.newest_head()
    liar = two_heights("liar", TX, FORKED_TX)
    liar.blocks[6] = sign_header(make_header(6, FOUR, data=b"x"), FOUR, signers=[0])
    light._nodes = (liar,)
    with pytest.raises(ProofError):
        await light.newest_head()
    assert set(light.lying) == {"liar"}


async def test_fork_at_the_height_verified_before_is_found() -> None:
    light = client(node("a"), node("b"))
    await light.newest_head()
    light._nodes = (node("a"), node("b", tx=FORKED_TX))
    with pytest.raises(ForkError) as caught:
        await light.newest_head()
    assert check_chain_fork(caught.value.evidence[0], FOUR.anchor()).height == 6


def test_commits_of_two_rounds_name_nobody() -> None:
    evidence = encode_chain_fork(block_with(TX), block_with(FORKED_TX, round=1))
    assert check_chain_fork(evidence, FOUR.anchor()).double_voters == ()


def test_partial_double_vote_names_only_the_guilty() -> None:
    header, other = make_header(6, FOUR), make_header(6, FOUR, data=b"other")
    first = sign_header(header, FOUR, signers=[0, 1, 2])
    second = sign_header(other, FOUR, signers=[1, 2, 3])
    finding = check_chain_fork(encode_chain_fork(first, second), FOUR.anchor())
    guilty = {FOUR.validators[place].address for place in (1, 2)}
    assert set(finding.double_voters) == guilty


@pytest.mark.parametrize(
    "blocks",
    [
        (block_with(TX), block_with(TX)),
        (block_with(TX), block_with(FORKED_TX, height=7)),
        (block_with(TX), sign_header(make_header(6, FOUR, data=b"x"), FOUR, signers=[0, 1])),
        (block_with(TX), block_with(FORKED_TX, current=operators(6, 7, 8, 9))),
    ],
)
def test_evidence_that_proves_no_fork_is_refused(blocks: tuple[LightBlock, LightBlock]) -> None:
    with pytest.raises(VerificationError):
        check_chain_fork(encode_chain_fork(*blocks), FOUR.anchor())

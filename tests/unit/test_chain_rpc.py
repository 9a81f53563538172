"""What is asked of a chain node, and answers of shapes that no honest node gives.

Data flow: parameters -> JSON; hostile JSON -> DataError, a node's own error -> RefusedError.
"""

import json
from typing import Any

import pytest

from parsec_fs.protocol import chain_rpc
from parsec_fs.protocol.chain_rpc import (
    ANSWER_MAX_SIZE,
    OUTCOME_DUPLICATE,
    OUTCOME_NOT_YET,
    OUTCOME_OTHER,
    OUTCOME_PRUNED,
    parse_query,
    parse_status,
    parse_time,
    parse_validators,
)
from parsec_fs.protocol.chain_types import MAX_VALIDATORS
from parsec_fs.protocol.errors import DataError, ProofError, RefusedError
from parsec_fs.protocol.hashing import sha256
from parsec_fs.protocol.ids import Hash, ServerLogId
from parsec_fs.protocol.protobuf_fields import integer, message, octets, read_fields
from parsec_fs.protocol.simple_map import (
    HEADS_KEY,
    MapProof,
    ProofOperation,
    decode_operation,
    encode_operation,
    log_key,
    map_root,
    prove,
    proven_root,
    verify_head,
)


def answer(result: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": 1, "result": result}).encode()


def test_requests() -> None:
    body = chain_rpc.encode_request("abci_query", chain_rpc.query_params("/p", b"\x01", prove=True))
    assert json.loads(body) == {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "abci_query",
        "params": {"path": "/p", "data": "01", "prove": True},
    }
    assert chain_rpc.height_params(7) == {"height": "7"}
    assert chain_rpc.validators_params(7)["per_page"] == str(MAX_VALIDATORS)
    assert chain_rpc.broadcast_params(b"\x00") == {"tx": "AA=="}


@pytest.mark.parametrize(
    ("text", "outcome"),
    [
        ("height 9 must be less than or equal to the current blockchain height 8", OUTCOME_NOT_YET),
        ("height 1 is not available, lowest height is 5", OUTCOME_PRUNED),
        ("tx already exists in cache", OUTCOME_DUPLICATE),
        ("out of memory", OUTCOME_OTHER),
    ],
)
def test_errors_of_the_node(text: str, outcome: str) -> None:
    with pytest.raises(RefusedError) as caught:
        parse_status(json.dumps({"error": {"code": -32603, "data": text}}).encode())
    assert caught.value.outcome == outcome


def test_oversized_answer() -> None:
    with pytest.raises(DataError):
        parse_status(b" " * (ANSWER_MAX_SIZE + 1))


def test_oversized_validator_set() -> None:
    one = {"pub_key": {"type": "tendermint/PubKeyEd25519", "value": "A" * 43 + "="}}
    many = [{**one, "voting_power": "1"}] * (MAX_VALIDATORS + 1)
    with pytest.raises(DataError):
        parse_validators(answer({"validators": many, "block_height": "1", "total": "101"}))


def test_validator_with_another_kind_of_key() -> None:
    one = {"pub_key": {"type": "tendermint/PubKeySecp256k1", "value": "AA=="}, "voting_power": "1"}
    with pytest.raises(DataError):
        parse_validators(answer({"validators": [one], "block_height": "1", "total": "1"}))


def test_times() -> None:
    assert parse_time("1970-01-01T00:00:01.5Z") == 1_500_000_000
    assert parse_time("2026-11-22T20:00:00Z") == 1_795_377_600_000_000_000
    for text in ("", "1970-01-01T00:00:00", "1969-12-31T23:59:59Z", "2026-02-30T00:00:00Z", 5):
        with pytest.raises(DataError):
            parse_time(text)


@pytest.mark.parametrize("value", ["A", "A===", "*", 5])
def test_text_that_is_not_base64(value: Any) -> None:
    with pytest.raises(DataError):
        parse_query(answer({"response": {"value": value}}))


LOG = ServerLogId(sha256(b"server"))
INNER = {log_key(LOG): b"statement", b"other": b"x"}
OUTER = {HEADS_KEY: map_root(INNER), b"params": b"p"}
PROOF = prove(INNER, log_key(LOG))
OPERATIONS = (
    encode_operation(log_key(LOG), PROOF),
    encode_operation(HEADS_KEY, prove(OUTER, HEADS_KEY)),
)


def test_head_of_a_log_is_proven() -> None:
    assert verify_head(map_root(OUTER), LOG, b"statement", OPERATIONS) == b"statement"


@pytest.mark.parametrize(
    ("root", "value", "operations"),
    [
        (Hash(bytes(32)), b"statement", OPERATIONS),
        (map_root(OUTER), b"other", OPERATIONS),
        (map_root(OUTER), b"statement", OPERATIONS[:1]),
        (map_root(OUTER), b"statement", OPERATIONS[::-1]),
        (map_root(OUTER), b"statement", (*OPERATIONS, OPERATIONS[1])),
    ],
)
def test_wrong_state_proof_is_refused(
    root: Hash, value: bytes, operations: tuple[ProofOperation, ...]
) -> None:
    with pytest.raises(ProofError):
        verify_head(root, LOG, value, operations)


def test_proof_for_another_entry_is_refused() -> None:
    with pytest.raises(ProofError):
        proven_root(b"other", b"statement", PROOF)


KEY = log_key(LOG)
LEAF = octets(3, PROOF.leaf_hash)


@pytest.mark.parametrize(
    "operation",
    [
        ProofOperation(kind="ics23:iavl", key=KEY, data=OPERATIONS[0].data),
        ProofOperation(kind="simple:v", key=b"other", data=OPERATIONS[0].data),
        ProofOperation(kind="simple:v", key=KEY, data=octets(1, KEY)),
        ProofOperation(kind="simple:v", key=KEY, data=octets(1, KEY) + integer(2, 5)),
        ProofOperation(kind="simple:v", key=KEY, data=octets(1, KEY) + message(2, b"")),
        ProofOperation(kind="simple:v", key=KEY, data=octets(1, KEY) + message(2, LEAF + LEAF)),
        ProofOperation(
            kind="simple:v", key=KEY, data=octets(1, KEY) + message(2, LEAF + integer(9, 1))
        ),
        ProofOperation(
            kind="simple:v", key=KEY, data=octets(1, KEY) + message(2, LEAF + octets(4, b"short"))
        ),
        ProofOperation(
            kind="simple:v",
            key=KEY,
            data=octets(1, KEY) + message(2, LEAF + octets(4, bytes(32)) * 65),
        ),
    ],
)
def test_malformed_operation_is_refused(operation: ProofOperation) -> None:
    with pytest.raises(DataError):
        decode_operation(operation)


def test_operation_comes_back() -> None:
    assert decode_operation(OPERATIONS[0]) == PROOF
    single = MapProof(total=1, index=0, leaf_hash=PROOF.leaf_hash, aunts=())
    assert decode_operation(encode_operation(KEY, single)) == single


@pytest.mark.parametrize("data", [b"\x09" + bytes(8), b"\x0a\x05ab", b"\x08", b"\x08\x80\x00"])
def test_malformed_fields_are_refused(data: bytes) -> None:
    with pytest.raises(DataError):
        read_fields(data)

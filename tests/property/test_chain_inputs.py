"""Whatever bytes come from the network: a decision or a DataError, never anything else."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from abci_app.genesis import parse_app_state
from abci_app.rules import Accepted, Refusal, decide
from abci_app.state import genesis_state
from parsec_fs.protocol import chain_rpc
from parsec_fs.protocol.errors import DataError, ProofError, RefusedError
from parsec_fs.protocol.ids import Hash
from parsec_fs.protocol.protobuf_fields import read_fields, read_varint, varint
from parsec_fs.protocol.simple_map import (
    ProofOperation,
    encode_operation,
    map_root,
    prove,
    proven_root,
    verify_head,
)
from tests.support.servers import CHAIN_ID, FakePublisher

START_MS = 1_700_000_000_000
PUBLISHER = FakePublisher()
STATE = genesis_state(CHAIN_ID, [PUBLISHER.registration], height=0, time_ms=START_MS)
GOOD_TX = PUBLISHER.sign(PUBLISHER.statement(START_MS))
PARSERS = [
    chain_rpc.parse_query,
    chain_rpc.parse_signed_header,
    chain_rpc.parse_validators,
    chain_rpc.parse_status,
    chain_rpc.parse_broadcast,
    chain_rpc.parse_genesis,
]
CAPTURED: dict[str, Any] = json.loads(
    (Path(__file__).parent.parent / "fixtures/chain/four_validators.json").read_text()
)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.binary(max_size=3_000))
def test_any_transaction_is_decided(tx: bytes) -> None:
    assert isinstance(decide(STATE, tx, block_time_ms=START_MS), Refusal)


@given(st.integers(0, len(GOOD_TX) - 1), st.integers(1, 255))
def test_any_changed_byte_of_a_good_transaction_is_refused(place: int, change: int) -> None:
    tx = bytearray(GOOD_TX)
    tx[place] ^= change
    assert isinstance(decide(STATE, bytes(tx), block_time_ms=START_MS), Refusal)


def test_the_unchanged_transaction_is_accepted() -> None:
    assert isinstance(decide(STATE, GOOD_TX, block_time_ms=START_MS), Accepted)


@given(st.binary(max_size=300))
def test_any_genesis_state_is_parsed_or_refused(data: bytes) -> None:
    with suppress(DataError):
        parse_app_state(data)


@given(st.sampled_from(PARSERS), st.binary(max_size=200))
def test_any_bytes_from_a_node(parse: Any, raw: bytes) -> None:
    with suppress(DataError, RefusedError):
        parse(raw)


@given(st.sampled_from(PARSERS), JSON_VALUES)
def test_any_json_from_a_node(parse: Any, value: object) -> None:
    for document in (value, {"result": value}, {"error": value}):
        with suppress(DataError, RefusedError):
            parse(json.dumps(document).encode())


@given(st.sampled_from(["commits", "validators", "head"]), st.data())
def test_any_real_answer_with_one_value_replaced(name: str, data: st.DataObject) -> None:
    document = CAPTURED[name][4] if name != "head" else CAPTURED[name]
    changed = json.loads(json.dumps(document))
    container, key = data.draw(st.sampled_from(_places(changed["result"])))
    container[key] = data.draw(JSON_VALUES)
    raw = json.dumps(changed).encode()
    for parse in (chain_rpc.parse_signed_header, chain_rpc.parse_validators, chain_rpc.parse_query):
        with suppress(DataError, RefusedError):
            parse(raw)


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) of a JSON value."""
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list):
        items = list(enumerate(value))
    else:
        return []
    return [(value, key) for key, _ in items] + [
        place for _, inner in items for place in _places(inner)
    ]


@given(st.integers(0, 2**64 - 1))
def test_varint_round_trip(value: int) -> None:
    assert read_varint(varint(value), 0) == (value, len(varint(value)))


@given(st.binary(max_size=60))
def test_any_bytes_as_protobuf_fields(data: bytes) -> None:
    with suppress(DataError):
        read_fields(data)


ENTRIES = st.dictionaries(st.binary(min_size=1, max_size=8), st.binary(max_size=8), min_size=1)


@given(ENTRIES, st.data())
def test_every_entry_of_a_map_is_provable_and_no_other(
    entries: dict[bytes, bytes], data: st.DataObject
) -> None:
    key = data.draw(st.sampled_from(sorted(entries)))
    proof = prove(entries, key)
    assert proven_root(key, entries[key], proof) == map_root(entries)
    with suppress(ProofError):
        assert proven_root(key, entries[key] + b"x", proof) != map_root(entries)


@given(st.binary(max_size=80), st.binary(max_size=40), st.integers(0, 1))
def test_any_proof_bytes_prove_nothing(data: bytes, value: bytes, place: int) -> None:
    server_log = PUBLISHER.registration.server_log
    key = server_log.hex().encode()
    entries = {key: b"value"}
    good = [
        encode_operation(key, prove(entries, key)),
        encode_operation(b"heads", prove({b"heads": map_root(entries)}, b"heads")),
    ]
    good[place] = ProofOperation(kind="simple:v", key=good[place].key, data=data)
    with suppress(DataError, ProofError):
        verify_head(Hash(bytes(32)), server_log, value, tuple(good))
        raise AssertionError("proof of nothing was accepted")

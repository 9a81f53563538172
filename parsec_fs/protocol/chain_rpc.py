"""CometBFT's JSON-RPC: parameters of the calls that we make, answers parsed into values.

Data flow: `*_params` + `encode_request` -> node -> raw JSON -> `parse_*` -> unverified value.

No sockets here; whoever owns a connection passes bytes through. A node is never trusted: parsers
bound every size, take only the exact shapes of version 0.38 and raise DataError for the rest.
An error answered by the node is a RefusedError whose outcome is one of the `OUTCOME_*` names.
"""

import base64
import binascii
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

from parsec_fs.protocol.chain_types import (
    FLAG_ABSENT,
    MAX_VALIDATORS,
    BlockReference,
    Commit,
    CommitSignature,
    Header,
    SignedHeader,
    Validator,
    in_set_order,
)
from parsec_fs.protocol.codec import encode
from parsec_fs.protocol.errors import DataError, RefusedError
from parsec_fs.protocol.limits import MIB
from parsec_fs.protocol.simple_map import ProofOperation

T = TypeVar("T")
Params = Mapping[str, str | bool]

ANSWER_MAX_SIZE: Final = 4 * MIB
OUTCOME_NOT_YET: Final = "height_not_yet"
OUTCOME_PRUNED: Final = "height_pruned"
OUTCOME_DUPLICATE: Final = "duplicate_transaction"
OUTCOME_OTHER: Final = "node_error"

_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?Z", re.ASCII)
_INTEGER = re.compile(r"-?\d{1,20}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryAnswer:
    """Answer of `abci_query`, unverified. `height` is the last height that changed the state."""

    code: int
    log: str
    key: bytes
    value: bytes
    height: int
    operations: tuple[ProofOperation, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidatorPage:
    """Answer of `validators`, unverified."""

    height: int
    validators: tuple[Validator, ...]
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainGenesis:
    """Of a genesis file: the validator set, and how many operators it declares (0: none)."""

    chain_id: bytes
    validators: tuple[Validator, ...]
    operators: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeStatus:
    """Answer of `status`, unverified."""

    chain_id: bytes
    latest_height: int
    latest_time_ns: int
    catching_up: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class BroadcastAnswer:
    """Answer of `broadcast_tx_sync`: the node's own check. Only the state shows acceptance."""

    code: int
    log: str
    data: bytes


def encode_request(method: str, params: Params) -> bytes:
    """Body of a POST to the node's root path."""
    request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": dict(params)}
    return json.dumps(request, separators=(",", ":")).encode()


def query_params(path: str, data: bytes, *, prove: bool) -> Params:
    """Parameters of `abci_query`."""
    return {"path": path, "data": data.hex(), "prove": prove}


def height_params(height: int) -> Params:
    """Parameters of `commit`."""
    return {"height": str(height)}


def validators_params(height: int) -> Params:
    """Parameters of `validators`: one page holds the largest set that we accept."""
    return {"height": str(height), "page": "1", "per_page": str(MAX_VALIDATORS)}


def broadcast_params(tx: bytes) -> Params:
    """Parameters of `broadcast_tx_sync`."""
    return {"tx": base64.b64encode(tx).decode()}


def parse_query(raw: bytes) -> QueryAnswer:
    """Raises DataError, RefusedError."""
    return _parse(raw, _query)


def parse_signed_header(raw: bytes) -> SignedHeader:
    """Answer of `commit`. Raises DataError, RefusedError."""
    return _parse(raw, _signed_header)


def parse_validators(raw: bytes) -> ValidatorPage:
    """Raises DataError, RefusedError."""
    return _parse(raw, _validators)


def parse_status(raw: bytes) -> NodeStatus:
    """Raises DataError, RefusedError."""
    return _parse(raw, _status)


def parse_broadcast(raw: bytes) -> BroadcastAnswer:
    """Raises DataError, RefusedError."""
    return _parse(raw, _broadcast)


def parse_genesis(raw: bytes) -> ChainGenesis:
    """What an anchor takes of a genesis file. Raises DataError."""
    return _guarded(lambda: _genesis(_load(raw)))


def _parse(raw: bytes, read: Callable[[Any], T]) -> T:
    document = _guarded(lambda: _load(raw))
    if isinstance(document, dict) and "error" in document:
        raise _refusal(document["error"])
    return _guarded(lambda: read(document["result"]))


def _guarded(read: Callable[[], T]) -> T:
    """Every way in which foreign JSON can fail to have the expected shape, as one error."""
    try:
        return read()
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise DataError("chain node: unexpected answer") from error


def _load(raw: bytes) -> Any:
    if len(raw) > ANSWER_MAX_SIZE:
        raise DataError(f"chain node: answer of {len(raw)} bytes")
    return json.loads(raw)


def _refusal(error: object) -> RefusedError:
    text = json.dumps(error)[:500]
    outcome = OUTCOME_OTHER
    if "must be less than or equal to" in text:
        outcome = OUTCOME_NOT_YET
    elif "lowest height is" in text:
        outcome = OUTCOME_PRUNED
    elif "tx already exists in cache" in text:
        outcome = OUTCOME_DUPLICATE
    return RefusedError(outcome, text)


def _query(result: Any) -> QueryAnswer:
    response = result["response"]
    operations = (response.get("proofOps") or {}).get("ops") or []
    return QueryAnswer(
        code=_integer(response.get("code", 0)),
        log=_text(response.get("log", "")),
        key=_base64(response.get("key")),
        value=_base64(response.get("value")),
        height=_integer(response.get("height", "0")),
        operations=tuple(
            ProofOperation(
                kind=_text(one["type"]), key=_base64(one["key"]), data=_base64(one["data"])
            )
            for one in operations
        ),
    )


def _signed_header(result: Any) -> SignedHeader:
    signed = result["signed_header"]
    checked = SignedHeader(header=_header(signed["header"]), commit=_commit(signed["commit"]))
    encode(checked)  # ranges and lengths of every field
    return checked


def _header(fields: Any) -> Header:
    return Header(
        block_version=_integer(fields["version"]["block"]),
        app_version=_integer(fields["version"].get("app", "0")),
        chain_id=_text(fields["chain_id"]).encode(),
        height=_integer(fields["height"]),
        time_ns=parse_time(fields["time"]),
        last_block=_block_reference(fields["last_block_id"]),
        last_commit_hash=_hex(fields["last_commit_hash"]),
        data_hash=_hex(fields["data_hash"]),
        validators_hash=_hex(fields["validators_hash"]),
        next_validators_hash=_hex(fields["next_validators_hash"]),
        consensus_hash=_hex(fields["consensus_hash"]),
        app_hash=_hex(fields["app_hash"]),
        last_results_hash=_hex(fields["last_results_hash"]),
        evidence_hash=_hex(fields["evidence_hash"]),
        proposer_address=_hex(fields["proposer_address"]),
    )


def _block_reference(fields: Any) -> BlockReference:
    return BlockReference(
        hash=_hex(fields["hash"]),
        parts_total=_integer(fields["parts"]["total"]),
        parts_hash=_hex(fields["parts"]["hash"]),
    )


def _commit(fields: Any) -> Commit:
    return Commit(
        height=_integer(fields["height"]),
        round=_integer(fields["round"]),
        block=_block_reference(fields["block_id"]),
        signatures=tuple(_commit_signature(one) for one in fields["signatures"][:MAX_VALIDATORS]),
    )


def _commit_signature(fields: Any) -> CommitSignature:
    flag = _integer(fields["block_id_flag"])
    absent = flag == FLAG_ABSENT
    return CommitSignature(
        flag=flag,
        address=_hex(fields["validator_address"]),
        # An absent vote carries the year 1, which no one signs.
        time_ns=0 if absent else parse_time(fields["timestamp"]),
        signature=b"" if absent else _base64(fields["signature"]),
    )


def _validators(result: Any) -> ValidatorPage:
    validators = tuple(_validator(one, "voting_power") for one in result["validators"])
    if len(validators) > MAX_VALIDATORS:
        raise DataError("chain node: validator set is too large")
    return ValidatorPage(
        height=_integer(result["block_height"]),
        validators=validators,
        total=_integer(result["total"]),
    )


def _genesis(document: Any) -> ChainGenesis:
    document = document.get("result", {}).get("genesis", document)
    validators = tuple(_validator(one, "power") for one in document["validators"])
    return ChainGenesis(
        chain_id=_text(document["chain_id"]).encode(),
        validators=in_set_order(validators),
        operators=_operators(document.get("app_state"), len(validators)),
    )


def _operators(app_state: Any, most: int) -> int:
    """As declared; a chain of another application declares nothing that counts here."""
    declared = app_state.get("operators", 0) if isinstance(app_state, dict) else 0
    if type(declared) is not int or not 0 <= declared <= most:
        raise DataError("genesis: an impossible number of operators")
    return declared


def _validator(fields: Any, power: str) -> Validator:
    if fields["pub_key"]["type"] != "tendermint/PubKeyEd25519":
        raise DataError("chain node: validator key is not Ed25519")
    validator = Validator(
        public_key=_base64(fields["pub_key"]["value"]), power=_integer(fields[power])
    )
    encode(validator)
    return validator


def _status(result: Any) -> NodeStatus:
    return NodeStatus(
        chain_id=_text(result["node_info"]["network"]).encode(),
        latest_height=_integer(result["sync_info"]["latest_block_height"]),
        latest_time_ns=parse_time(result["sync_info"]["latest_block_time"]),
        catching_up=result["sync_info"]["catching_up"] is True,
    )


def _broadcast(result: Any) -> BroadcastAnswer:
    return BroadcastAnswer(
        code=_integer(result["code"]), log=_text(result["log"]), data=_hex(result["data"])
    )


def parse_time(text: object) -> int:
    """Nanoseconds since 1970 of an RFC 3339 time in UTC. Raises DataError.

    Times before 1970 are refused; they only occur where nothing was signed.
    """
    match = _TIME.fullmatch(_text(text))
    if match is None:
        raise DataError("chain node: not a time")
    try:
        moment = datetime.fromisoformat(match[1]).replace(tzinfo=UTC)
    except ValueError as error:
        raise DataError("chain node: not a time") from error
    whole = moment - datetime(1970, 1, 1, tzinfo=UTC)
    seconds = whole.days * 86_400 + whole.seconds
    if seconds < 0:
        raise DataError("chain node: time before 1970")
    return seconds * 1_000_000_000 + int((match[2] or "").ljust(9, "0"))


def _text(value: object) -> str:
    if type(value) is not str:
        raise DataError("chain node: expected a string")
    return value


def _integer(value: object) -> int:
    """int64 travel as strings, smaller ones as numbers."""
    if type(value) is int and -(2**63) <= value < 2**63:
        return value
    if type(value) is str and _INTEGER.fullmatch(value):
        return int(value)
    raise DataError("chain node: expected an integer")


def _hex(value: object) -> bytes:
    return bytes.fromhex(_text(value))


def _base64(value: object) -> bytes:
    """Empty and null both stand for no bytes."""
    if value is None:
        return b""
    try:
        return base64.b64decode(_text(value), validate=True)
    except binascii.Error as error:
        raise DataError("chain node: not base64") from error

"""The two-level map whose root is the application hash of the chain, and its proofs.

Data flow: accepted statements -> `state_entries` -> `map_root` = app hash in the next chain header;
           node's answer -> `verify_head` -> head of one server log, as the validators agreed on it.

Outer map: `heads`, `history`, `params`. The value of `heads` is the root of the inner map, from the
lower-case hex text of a server log id to its newest signed statement. Format, so that CometBFT's
own light proxy can check it too: leaves sorted by key, each varint(len key) | key | 0x20 |
SHA-256(value), in an RFC 6962 tree; a proof is two operations of type `simple:v`, inner one first.

The verifier insists on exactly two operations with exactly the expected keys: a proof for another
log, or one that ends in another branch of the outer map, is never taken for this one.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from parsec_fs.protocol.errors import DataError, ProofError
from parsec_fs.protocol.hashing import rfc6962_leaf, sha256
from parsec_fs.protocol.ids import Hash, ServerLogId
from parsec_fs.protocol.limits import PROOF_MAX_HASHES
from parsec_fs.protocol.merkle import inclusion_proof, inclusion_root, tree_root
from parsec_fs.protocol.protobuf_fields import integer, message, octets, read_fields, varint

HEADS_KEY = b"heads"
HISTORY_KEY = b"history"
PARAMS_KEY = b"params"
HEADS_PATH = "/store/heads/key"
OPERATION_TYPE = "simple:v"


@dataclass(frozen=True, slots=True, kw_only=True)
class MapProof:
    """Inclusion proof of one leaf. `aunts` go from the leaf's sibling up."""

    total: int
    index: int
    leaf_hash: Hash
    aunts: tuple[Hash, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProofOperation:
    """One step of a state proof as a node returns it, unchecked."""

    kind: str
    key: bytes
    data: bytes


def log_key(server_log_id: ServerLogId) -> bytes:
    """Key in the inner map. Hex, because raw bytes may hold what a key path cannot carry."""
    return server_log_id.hex().encode()


def map_leaf_hash(key: bytes, value: bytes) -> Hash:
    """Hash of one entry."""
    return rfc6962_leaf(varint(len(key)) + key + b"\x20" + sha256(value))


def map_root(entries: Mapping[bytes, bytes]) -> Hash:
    """Root over all entries, sorted by key; the root of the empty tree for none."""
    return tree_root(_leaves(entries))


def prove(entries: Mapping[bytes, bytes], key: bytes) -> MapProof:
    """Proof for an entry that exists (KeyError otherwise)."""
    leaves = _leaves(entries)
    index = sorted(entries).index(key)
    aunts = inclusion_proof(lambda start, end: tree_root(leaves[start:end]), index, len(leaves))
    return MapProof(
        total=len(leaves), index=index, leaf_hash=map_leaf_hash(key, entries[key]), aunts=aunts
    )


def _leaves(entries: Mapping[bytes, bytes]) -> list[Hash]:
    return [map_leaf_hash(key, entries[key]) for key in sorted(entries)]


def encode_operation(key: bytes, proof: MapProof) -> ProofOperation:
    """The `simple:v` operation that carries a proof."""
    encoded = integer(1, proof.total) + integer(2, proof.index) + octets(3, proof.leaf_hash)
    encoded += b"".join(message(4, aunt) for aunt in proof.aunts)
    data = octets(1, key) + message(2, encoded)
    return ProofOperation(kind=OPERATION_TYPE, key=key, data=data)


def decode_operation(operation: ProofOperation) -> MapProof:
    """The proof in an operation. Raises DataError."""
    if operation.kind != OPERATION_TYPE:
        raise DataError("state proof: unexpected type of operation")
    fields = read_fields(operation.data)
    if [number for number, _ in fields] != [1, 2] or fields[0][1] != operation.key:
        raise DataError("state proof: operation is not (key, proof)")
    encoded = fields[1][1]
    if not isinstance(encoded, bytes):
        raise DataError("state proof: proof is not a message")
    return _decode_proof(encoded)


def _decode_proof(encoded: bytes) -> MapProof:
    numbers: dict[int, int] = {1: 0, 2: 0}
    hashes: dict[int, list[Hash]] = {3: [], 4: []}
    for number, value in read_fields(encoded):
        if number in numbers and isinstance(value, int):
            numbers[number] = value
        elif number in hashes and isinstance(value, bytes) and len(value) == 32:
            hashes[number].append(Hash(value))
        else:
            raise DataError("state proof: unexpected field")
    if len(hashes[3]) != 1 or len(hashes[4]) > PROOF_MAX_HASHES:
        raise DataError("state proof: wrong number of hashes")
    return MapProof(
        total=numbers[1], index=numbers[2], leaf_hash=hashes[3][0], aunts=tuple(hashes[4])
    )


def proven_root(key: bytes, value: bytes, proof: MapProof) -> Hash:
    """Root of the map that the proof says holds this entry. Raises ProofError.

    Means nothing until the caller compares it with a root that it trusts.
    """
    leaf = map_leaf_hash(key, value)
    if leaf != proof.leaf_hash:
        raise ProofError("state proof is for another key or value")
    return inclusion_root(leaf, proof.index, proof.total, proof.aunts)


def verify_head(
    app_hash: Hash,
    server_log_id: ServerLogId,
    unverified_value: bytes,
    unverified_operations: tuple[ProofOperation, ...],
) -> bytes:
    """The newest statement of this log in the state with this app hash.

    Returns the value bytes. Raises DataError for a malformed proof, ProofError for a wrong one.
    """
    keys = [operation.key for operation in unverified_operations]
    if keys != [log_key(server_log_id), HEADS_KEY]:
        raise ProofError("state proof does not lead from this log to the heads")
    inner, outer = (decode_operation(operation) for operation in unverified_operations)
    inner_root = proven_root(keys[0], unverified_value, inner)
    if proven_root(HEADS_KEY, inner_root, outer) != app_hash:
        raise ProofError("state proof does not lead to the app hash of the chain header")
    return unverified_value

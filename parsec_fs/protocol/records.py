"""The common header of everything signed, signed envelopes, heads, refusals, leaf headers (rule 1).

Data flow: device or server builds a record -> `sign` -> exact bytes travel -> `verify_*`.

Signatures are over a tag of the record type and the exact encoded bytes; nothing is ever re-encoded
to check it. Every verify function takes what the caller expects and raises if the record says
otherwise, so a valid record in the wrong place is refused by construction (attack A52).
"""

from dataclasses import dataclass
from typing import Annotated, Final

from parsec_fs.protocol.codec import (
    U8,
    U16,
    U64,
    Bytes32,
    Bytes64,
    Increasing,
    Label,
    Size,
    decode,
    encode,
    encode_trusted,
)
from parsec_fs.protocol.errors import SignatureError
from parsec_fs.protocol.hashing import leaf_hash, tag
from parsec_fs.protocol.ids import (
    DeviceId,
    Hash,
    LogId,
    ObjectId,
    OrgId,
    ServerLogId,
)
from parsec_fs.protocol.keys import SigningKey, VerifyKey
from parsec_fs.protocol.limits import COMMIT_MAX_OBJECTS, ENTRY_MAX_SIZE

CERTIFICATE: Final = 1
COMMIT: Final = 2
STAMPS: Final = 3
READS: Final = 4
"""Kinds of leaves. READS is reserved for workspaces with logged reads (rule 13)."""

ROOT_DEVICE: Final = DeviceId(bytes(16))
"""Author of what the organization's root key signs: genesis, first user, first device."""

_HEAD_SIGN: Final = tag("head-signature")
_REFUSAL_SIGN: Final = tag("refusal-signature")


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """Where a signed record is valid: one chain, organization, server and log."""

    chain_id: Label
    genesis: Hash
    server_log: ServerLogId
    org: OrgId
    log: LogId


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """The last state that the author of a record had verified.

    `epochs` counts verified epochs (0: none yet); `chain_header` is the hash of the chain header
    that anchored the last one (zeros: none). A record cannot be older than what it has seen.
    """

    size: U64
    log_root: Hash
    map_root: Hash
    org_size: U64
    org_root: Hash
    epochs: U64
    chain_header: Hash


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceHeader:
    """Header of every record that a device signs into a log.

    `sequence` counts the device's records in this log from 0; `previous` is the signed hash of the
    one before (zeros at first); `incarnation` is drawn at every start of the process, so that a
    duplicated device shows (P9); `nonce` makes the record unpredictable (attack A31).
    """

    context: Context
    device: DeviceId
    sequence: U64
    previous: Hash
    incarnation: Annotated[bytes, Size(16, 16)]
    nonce: Bytes32
    seen: Seen


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """Exact bytes of a record and the Ed25519 signature over tag and bytes."""

    record: Annotated[bytes, Size(1, ENTRY_MAX_SIZE)]
    signature: Bytes64


@dataclass(frozen=True, slots=True, kw_only=True)
class LeafHeader:
    """One leaf of a log. `map_root` is the state map's root *before* this leaf, so that a wrong
    transition shows in two leaves (P5); `org_size` orders the leaf against revocations (rule 9);
    times are Unix milliseconds and strictly increase within a log (rule 14)."""

    index: U64
    kind: U8
    time_ms: U64
    org_size: U64
    map_root: Hash
    body: Hash

    def hash(self) -> Hash:
        """Leaf hash in the log's Merkle tree."""
        return leaf_hash(encode_trusted(self))


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    """A leaf header and the body it names."""

    header: LeafHeader
    body: Annotated[bytes, Size(1, ENTRY_MAX_SIZE)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The server's promise: this log has this state, and it will be in epoch `due_epoch`'s
    checkpoint at the latest. `nonce` answers the client's (zeros if none)."""

    context: Context
    size: U64
    log_root: Hash
    map_root: Hash
    org_size: U64
    due_epoch: U64
    time_ms: U64
    nonce: Bytes32


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectState:
    """Map value of an object (rule 7): version, last write (leaf index, record hash), number of
    operations and history digest over all of them, flags of the last version (1: deleted, for
    ever). Compare-and-swap uses version and write."""

    version: U64
    write_index: U64
    write: Hash
    operations: U64
    history: Hash
    flags: U8


@dataclass(frozen=True, slots=True, kw_only=True)
class Conflict:
    """An object that stood in the way of a commit, with its current state, if there is one."""

    object: ObjectId
    state: Annotated[tuple[ObjectState, ...], Size(0, 1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A signed, final no (rule 15): this record of this device never enters the log, nor does any
    later record that chains through it."""

    context: Context
    device: DeviceId
    sequence: U64
    record: Hash
    outcome: U16
    size: U64
    log_root: Hash
    map_root: Hash
    time_ms: U64
    conflicts: Annotated[tuple[Conflict, ...], Increasing(), Size(0, COMMIT_MAX_OBJECTS)]


@dataclass(frozen=True, slots=True, kw_only=True)
class LogState:
    """What an epoch anchors of one log: its size, roots, and the org log's size in force."""

    log: LogId
    size: U64
    log_root: Hash
    map_root: Hash
    org_size: U64


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochOpening:
    """What an epoch leaf commits to: the root of the map of organizations, salted."""

    epoch: U64
    map_root: Hash
    salt: Bytes32


def sign_head(head: Head, key: SigningKey) -> Signed:
    """Server only, under the lock of the log, after a durable commit (rule 14)."""
    data = encode_trusted(head)
    return Signed(record=data, signature=key.sign(_HEAD_SIGN + data))


def verify_head(
    unverified: Signed,
    *,
    head_key: VerifyKey,
    expected_context: Context,
    expected_nonce: bytes | None = None,
) -> Head:
    """The head, if the server signed it for this log. Raises DataError, SignatureError."""
    head_key.verify(_HEAD_SIGN + unverified.record, unverified.signature)
    head = decode(Head, unverified.record)
    if head.context != expected_context:
        raise SignatureError("head is for another log", evidence=(encode(unverified),))
    if expected_nonce is not None and head.nonce != expected_nonce:
        raise SignatureError("head does not answer this request", evidence=(encode(unverified),))
    return head


def sign_refusal(refusal: Refusal, key: SigningKey) -> Signed:
    """Server only; stored before it is sent and repeated for ever (rule 15)."""
    data = encode_trusted(refusal)
    return Signed(record=data, signature=key.sign(_REFUSAL_SIGN + data))


def peek_refusal(unverified: Signed) -> Refusal:
    """The refusal in an envelope, NOT verified: which record it refuses. Raises DataError."""
    return decode(Refusal, unverified.record)


def verify_refusal(
    unverified: Signed, *, head_key: VerifyKey, expected_context: Context, expected_record: Hash
) -> Refusal:
    """The refusal, if the server signed it for this record. Raises DataError, SignatureError."""
    head_key.verify(_REFUSAL_SIGN + unverified.record, unverified.signature)
    refusal = decode(Refusal, unverified.record)
    if refusal.context != expected_context or refusal.record != expected_record:
        raise SignatureError("refusal is for another record", evidence=(encode(unverified),))
    return refusal

"""Commits: one signature over up to 1,000 object records (rule 3).

Data flow: workspace/sync -> `sign_commit` -> server and every replica -> `verify_commit`.

A commit's record is its header, key index, preconditions and the Merkle root over its object
records sorted by id. What map and history take in is H(tag | signed hash | object record), so the
proof of one file in a batch of 1,000 is small and shows nothing of the other 999.
"""

from dataclasses import dataclass
from typing import Annotated, Final

from parsec_fs.protocol.codec import (
    U8,
    U16,
    U32,
    U64,
    Bytes64,
    Increasing,
    Size,
    decode,
    encode,
    encode_trusted,
)
from parsec_fs.protocol.errors import DataError, SignatureError
from parsec_fs.protocol.hashing import object_record_hash, records_leaf, signed_hash, tag
from parsec_fs.protocol.ids import NO_HASH, Hash, ObjectId
from parsec_fs.protocol.keys import SigningKey, VerifyKey
from parsec_fs.protocol.limits import COMMIT_MAX_OBJECTS
from parsec_fs.protocol.merkle import tree_root
from parsec_fs.protocol.records import Context, DeviceHeader

_SIGN: Final = tag("commit-signature")
DELETED: Final = 1
"""Flag: tombstone. The version counts on; the id never comes back (rule 7)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectRecord:
    """A new version of one object. `base` is the `write` of the state it replaces (zeros: new);
    `payload` the hash of the sealed manifest (zeros if deleted); `blocks_root` the Merkle root over
    the digests of its blocks in order, for scrubbing without keys."""

    object: ObjectId
    version: U64
    base: Hash
    payload: Hash
    payload_size: U32
    blocks_root: Hash
    flags: U8


@dataclass(frozen=True, slots=True, kw_only=True)
class Precondition:
    """An object that must still be at this version and write (rename: the ancestors, A36)."""

    object: ObjectId
    version: U64
    write: Hash


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """What the device signs."""

    header: DeviceHeader
    key_index: U32
    preconditions: Annotated[tuple[Precondition, ...], Increasing(), Size(0, COMMIT_MAX_OBJECTS)]
    count: U16
    records_root: Hash


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitBody:
    """Body of a commit leaf: the signed bytes and the object records under their root."""

    record: Annotated[bytes, Size(1, 128 * 1024)]
    signature: Bytes64
    objects: Annotated[tuple[ObjectRecord, ...], Increasing(), Size(1, COMMIT_MAX_OBJECTS)]


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedCommit:
    """A commit whose signature, context and records root hold. `hash` names it; `record_hashes`
    are what map and history take in, in the order of `objects`; `encoded` are those as hashed."""

    commit: Commit
    hash: Hash
    objects: tuple[ObjectRecord, ...]
    record_hashes: tuple[Hash, ...]
    encoded: tuple[bytes, ...]


def sign_commit(
    objects: tuple[ObjectRecord, ...],
    *,
    header: DeviceHeader,
    key_index: int,
    preconditions: tuple[Precondition, ...],
    key: SigningKey,
) -> bytes:
    """Log entry body. `objects` and `preconditions` strictly increase by id."""
    body = signed_body(
        objects, header=header, key_index=key_index, preconditions=preconditions, key=key
    )
    return encode(body)


def signed_body(
    objects: tuple[ObjectRecord, ...],
    *,
    header: DeviceHeader,
    key_index: int,
    preconditions: tuple[Precondition, ...],
    key: SigningKey,
) -> CommitBody:
    """As `sign_commit`, not encoded: the next commit's header needs its `commit_hash`."""
    commit = Commit(
        header=header,
        key_index=key_index,
        preconditions=preconditions,
        count=len(objects),
        records_root=_records_root([encode_trusted(one) for one in objects]),
    )
    record = encode(commit)
    return CommitBody(record=record, signature=key.sign(_SIGN + record), objects=objects)


def commit_hash(body: CommitBody) -> Hash:
    """Name of a commit: covers record and signature, and through the root its object records."""
    return signed_hash(body.record + body.signature)


def peek_commit(unverified_body: bytes) -> Commit:
    """The commit in a body, NOT verified: to find out whose key to check. Raises DataError."""
    return decode(Commit, decode(CommitBody, unverified_body).record)


def verify_commit(
    unverified_body: bytes, *, key: VerifyKey, expected_context: Context
) -> VerifiedCommit:
    """Signature, context, records root and count hold. Raises DataError, SignatureError."""
    body = decode(CommitBody, unverified_body)
    key.verify(_SIGN + body.record, body.signature)
    commit = decode(Commit, body.record)
    if commit.header.context != expected_context:
        raise SignatureError("commit is for another log", evidence=(unverified_body,))
    records = [encode_trusted(one) for one in body.objects]
    if commit.count != len(records) or commit.records_root != _records_root(records):
        raise DataError("commit: object records do not match the signed root")
    for one in body.objects:
        _check_object(one)
    name = commit_hash(body)
    return VerifiedCommit(
        commit=commit,
        hash=name,
        objects=body.objects,
        record_hashes=tuple(object_record_hash(name, record) for record in records),
        encoded=tuple(records),
    )


def _check_object(record: ObjectRecord) -> None:
    """Flags are known ones, and a tombstone has no payload."""
    deleted = record.flags == DELETED
    if record.flags not in (0, DELETED):
        raise DataError("commit: unknown flags")
    if deleted != (record.payload == NO_HASH) or deleted != (record.payload_size == 0):
        raise DataError("commit: payload of a tombstone, or none of a live object")


def _records_root(records: list[bytes]) -> Hash:
    return tree_root([records_leaf(record) for record in records])

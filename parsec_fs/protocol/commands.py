"""Requests and answers between device and server (rule 33): `POST /v1/<noun>/<verb>`.

Data flow: remote -> request record -> server/http -> decisions -> answer record -> remote.

Both bodies are canonical records. Every answer is an `Answer`: an outcome, and if that is OK the
encoded answer record of the command. Refusals of commits are signed (rule 15) and travel in it.
Requests are signed by the device: see `Authorization`.
"""

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Annotated, Final

from parsec_fs.protocol.certificates import KeyBox
from parsec_fs.protocol.codec import (
    U8,
    U16,
    U32,
    U64,
    Bytes32,
    Bytes64,
    Label,
    Size,
    decode,
    encode,
    encode_trusted,
)
from parsec_fs.protocol.errors import SignatureError
from parsec_fs.protocol.hashing import tag
from parsec_fs.protocol.ids import DeviceId, Hash, LogId, OrgId, RealmId, ServerLogId, UserId
from parsec_fs.protocol.keys import SigningKey, VerifyKey
from parsec_fs.protocol.limits import COMMIT_MAX_OBJECTS, ENTRY_MAX_SIZE, MANIFEST_MAX_SIZE
from parsec_fs.protocol.prefix_map import MapProof
from parsec_fs.protocol.records import EpochOpening, Leaf, LogState, Signed
from parsec_fs.protocol.statements import ServerRegistration, SignedStatement

_REQUEST_SIGN: Final = tag("request-signature")
AUTH_HEADER: Final = "parsec-authorization"
"""HTTP header: hex of an encoded `Authorization`."""

Body = Annotated[bytes, Size(1, ENTRY_MAX_SIZE)]
Payload = Annotated[bytes, Size(1, MANIFEST_MAX_SIZE)]


class Outcome(IntEnum):
    """Every documented result of a command, and reason of a refusal."""

    OK = 0
    BAD_REQUEST = 1
    NOT_AUTHENTICATED = 2
    NOT_ALLOWED = 3
    NOT_FOUND = 4
    EXISTS = 5
    CONFLICT = 6
    STALE_KEY = 7
    BAD_CHAIN = 8
    AFTER_REFUSED = 9
    INVALID = 10
    TOO_LARGE = 11
    QUOTA = 12
    UNAVAILABLE = 13
    MISSING_PAYLOAD = 14
    REVOKED = 15


STORAGE_FULL: Final = 507
"""HTTP status of QUOTA where bytes, not requests, are too many: waiting does not help (rule 19)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Body of every answer. `body` is the encoded answer record if `outcome` is OK."""

    outcome: U16
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestToSign:
    """What a request's signature covers beside its tag; `counter` strictly grows in a session."""

    server_log: ServerLogId
    org: OrgId
    session: Annotated[bytes, Size(16, 16)]
    nonce: Bytes32
    counter: U64
    method: Label
    path: Label
    body: Hash


@dataclass(frozen=True, slots=True, kw_only=True)
class Authorization:
    """Proof that a device sends this request, now, to this server."""

    session: Annotated[bytes, Size(16, 16)]
    counter: U64
    signature: Bytes64


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenSession:
    """session/open (not signed): a device asks for a nonce to sign its requests with."""

    org: OrgId
    device: DeviceId


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionOpened:
    """A session lasts ten minutes."""

    session: Annotated[bytes, Size(16, 16)]
    nonce: Bytes32


@dataclass(frozen=True, slots=True, kw_only=True)
class Nothing:
    """An empty request or answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerInfo:
    """server/info (not signed): what the server says of itself; trusted only if pinned."""

    registration: ServerRegistration
    chain_id: Label
    time_ms: U64


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateOrg:
    """org/create (not signed): one-time token of the server's operator (secret, hidden in repr),
    bodies of genesis, first user, first device."""

    token: Bytes32 = field(repr=False)
    genesis: Body
    user: Body
    device: Body


@dataclass(frozen=True, slots=True, kw_only=True)
class AppendCertificate:
    """org/append, realm/append: one certificate; `boxes` go with a key rotation."""

    log: LogId
    body: Body
    boxes: Annotated[tuple[KeyBox, ...], Size(0, 1000)]


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateRealm:
    """realm/create, one step: registration (org log), creation and first rotation (realm log)."""

    realm: RealmId
    registered: Body
    created: Body
    rotation: Body
    boxes: Annotated[tuple[KeyBox, ...], Size(1, 1000)]


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadAnswer:
    """A signed head, alone."""

    head: Signed


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadLeaves:
    """log/leaves: leaves from `start`, as many as fit; `nonce` is answered by the head."""

    log: LogId
    start: U64
    most: U32
    nonce: Bytes32


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaves:
    """Leaves and a head; there is more to read while start + len(leaves) < size of the head."""

    leaves: Annotated[tuple[Leaf, ...], Size(0, 10000)]
    head: Signed


@dataclass(frozen=True, slots=True, kw_only=True)
class RealmList:
    """realm/list: realms in which the user has a role, a hint that the logs confirm."""

    realms: Annotated[tuple[RealmId, ...], Size(0, 10000)]


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitBatch:
    """realm/commit: commit bodies in the device's order, and the payloads that they name."""

    realm: RealmId
    commits: Annotated[tuple[Body, ...], Size(1, 1000)]
    payloads: Annotated[tuple[Payload, ...], Size(0, 20000)]
    nonce: Bytes32


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitResult:
    """One commit's fate: its leaf index (one item), or a signed refusal (one item)."""

    index: Annotated[tuple[U64, ...], Size(0, 1)]
    refusal: Annotated[tuple[Signed, ...], Size(0, 1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitAnswer:
    """Results in the order of the commits, and a head that contains all accepted ones."""

    results: Annotated[tuple[CommitResult, ...], Size(1, 1000)]
    head: Signed


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadPayloads:
    """realm/payloads: sealed manifests by payload hash."""

    realm: RealmId
    hashes: Annotated[tuple[Hash, ...], Size(1, 4 * COMMIT_MAX_OBJECTS)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Payloads:
    """The first payloads that fit, in the order asked for; ask again for the rest."""

    payloads: Annotated[tuple[Payload, ...], Size(0, 4 * COMMIT_MAX_OBJECTS)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Observe:
    """realm/observe: a blinded read; answered once the stamp is in a leaf."""

    realm: RealmId
    stamp: Bytes32
    nonce: Bytes32


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """Index of the leaf that holds the stamp, and a head that contains it."""

    index: U64
    head: Signed


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadBox:
    """realm/box: a user's box of a key rotation."""

    realm: RealmId
    index: U32
    user: UserId


@dataclass(frozen=True, slots=True, kw_only=True)
class BoxAnswer:
    """The box and its place under the rotation's boxes root."""

    box: KeyBox
    position: U32
    count: U32
    proof: Annotated[tuple[Hash, ...], Size(0, 64)]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadEpochs:
    """epoch/read: openings of consecutive epochs from `start` for the org log and these realms."""

    start: U64
    most: U32
    logs: Annotated[tuple[LogId, ...], Size(1, 100)]


@dataclass(frozen=True, slots=True, kw_only=True)
class LogOpening:
    """A log's state in the map of its organization at an epoch, or its absence (no state)."""

    state: Annotated[tuple[LogState, ...], Size(0, 1)]
    proof: MapProof


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochProof:
    """One epoch opened: statement, what its leaf commits to, organization, logs as asked."""

    statement: SignedStatement
    opening: EpochOpening
    org_root: Hash
    org_proof: MapProof
    logs: Annotated[tuple[LogOpening, ...], Size(1, 100)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Epochs:
    """Openings in order; `final`: how many epochs are final on the chain as the server knows."""

    epochs: Annotated[tuple[EpochProof, ...], Size(0, 1000)]
    final: U64


@dataclass(frozen=True, slots=True, kw_only=True)
class PutMail:
    """mailbox/put (not signed): a sealed message under an address both sides derive from a code."""

    address: Bytes32
    slot: U8
    data: Annotated[bytes, Size(1, 64 * 1024)]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadMail:
    """mailbox/read (not signed): NOT_FOUND until it is there; kept for ten minutes."""

    address: Bytes32
    slot: U8


@dataclass(frozen=True, slots=True, kw_only=True)
class Mail:
    """A sealed message."""

    data: bytes


def sign_request(request: RequestToSign, key: SigningKey) -> str:
    """Value of the authorization header."""
    signature = key.sign(_REQUEST_SIGN + encode_trusted(request))
    return encode(
        Authorization(session=request.session, counter=request.counter, signature=signature)
    ).hex()


def request_to_sign(
    *,
    server_log: ServerLogId,
    org: OrgId,
    session: bytes,
    nonce: bytes,
    counter: int,
    method: str,
    path: str,
    body_hash: Hash,
) -> RequestToSign:
    """What both sides compute over a request. `path` starts with /v1/ and has no query;
    `body_hash` is the SHA-256 of the body."""
    return RequestToSign(
        server_log=server_log,
        org=org,
        session=session,
        nonce=nonce,
        counter=counter,
        method=method.encode(),
        path=path.encode(),
        body=body_hash,
    )


def parse_authorization(header: str) -> Authorization:
    """Raises DataError, SignatureError."""
    try:
        return decode(Authorization, bytes.fromhex(header), max_size=256)
    except ValueError as error:
        raise SignatureError("malformed authorization") from error


def verify_request(request: RequestToSign, signature: bytes, *, key: VerifyKey) -> RequestToSign:
    """The request, if the device signed it. Raises SignatureError."""
    key.verify(_REQUEST_SIGN + encode_trusted(request), signature)
    return request


def ok(record: object) -> bytes:
    """Encoded answer of a command that went well."""
    return encode_trusted(Answer(outcome=Outcome.OK, body=encode_trusted(record)))


def refused(outcome: Outcome) -> bytes:
    """Encoded answer of a command that was refused."""
    return encode_trusted(Answer(outcome=int(outcome), body=b""))

"""Every command of the metadata server, one method each; heads and refusals come back verified.

Data flow: replicas, sync, audit, enrolment -> this -> sessions -> transport -> server/http.

What is signed by the server (heads, refusals) is checked here for signature, context and nonce
before anyone sees it, so that a caller cannot forget it. What a head *says* is judged by the
replicas (`workspace/promises.py`). Leaves, payloads, boxes and openings are unverified: their
proofs are the business of whoever asked for them, and they are named so.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from parsec_fs.protocol.certificates import KeyBox
from parsec_fs.protocol.codec import decode, encode, encode_trusted
from parsec_fs.protocol.commands import (
    AppendCertificate,
    BoxAnswer,
    CommitAnswer,
    CommitBatch,
    CreateOrg,
    CreateRealm,
    Epochs,
    HeadAnswer,
    Leaves,
    Mail,
    Nothing,
    Observe,
    Observed,
    Payloads,
    PutMail,
    ReadBox,
    ReadEpochs,
    ReadLeaves,
    ReadMail,
    ReadPayloads,
    RealmList,
    ServerInfo,
)
from parsec_fs.protocol.errors import DataError
from parsec_fs.protocol.ids import DeviceId, Hash, LogId, ObjectId, RealmId, UserId
from parsec_fs.protocol.keys import VerifyKey
from parsec_fs.protocol.proofs import (
    LogProof,
    Opening,
    ReadOpening,
    ReadProof,
    verify_log_proof,
    verify_map_opening,
)
from parsec_fs.protocol.records import (
    Context,
    Head,
    Leaf,
    LeafHeader,
    Refusal,
    Signed,
    verify_head,
    verify_refusal,
)
from parsec_fs.protocol.recoveries import PutRecovery, ReadRecovery, Recovery
from parsec_fs.protocol.snapshots import (
    ReadSnapshot,
    ReadSnapshotPage,
    SnapshotPage,
    SnapshotStart,
)
from parsec_fs.remote.sessions import Signer, body_of
from parsec_fs.remote.transport import Transport

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedHead:
    """A head that the server signed for the log in question, and the exact bytes."""

    head: Head
    raw: Signed


@dataclass(frozen=True, slots=True, kw_only=True)
class UnverifiedLeaves:
    """Leaves as the server sent them, and a verified head that says where they must lead."""

    leaves: tuple[Leaf, ...]
    head: VerifiedHead


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitFate:
    """What became of one commit: the leaf index that the server claims, or its signed refusal."""

    index: int | None
    refusal: Refusal | None
    raw: Signed | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitReport:
    """Fates in the order of the commits, and a head that must contain the accepted ones."""

    fates: tuple[CommitFate, ...]
    head: VerifiedHead


@dataclass(frozen=True, slots=True, kw_only=True)
class ObserveReport:
    """The leaf index that is claimed for a read stamp, and a head that must contain it."""

    index: int
    head: VerifiedHead


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvenLeaf:
    """A leaf's header, the root of the prefix that it was asked in, and the head that has both."""

    leaf: LeafHeader
    root: Hash
    head: VerifiedHead


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvenValue:
    """Value hash of a key in the map of the head's log, None if it is absent."""

    value: Hash | None
    head: VerifiedHead


class PublicClient:
    """The commands that need no device: server info, founding an organization, the mailbox."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def info(self) -> ServerInfo:
        """What the server says of itself. Trusted only where it is pinned."""
        return await self._ask("/v1/server/info", Nothing(), ServerInfo)

    async def create_org(self, request: CreateOrg) -> Signed:
        """Found an organization; the head is to be checked by pulling the org log."""
        return (await self._ask("/v1/org/create", request, HeadAnswer)).head

    async def put_mail(self, request: PutMail) -> None:
        """Leave a sealed message for the other side of an invitation."""
        await self._ask("/v1/mailbox/put", request, Nothing)

    async def read_mail(self, request: ReadMail) -> bytes:
        """The sealed message. Raises RefusedError NOT_FOUND until it is there."""
        return (await self._ask("/v1/mailbox/read", request, Mail)).data

    async def read_recovery(self, device: DeviceId) -> bytes:
        """What a paper device begins with, unverified. Raises RefusedError NOT_FOUND."""
        request = ReadRecovery(device=device)
        return (await self._ask("/v1/recovery/read", request, Recovery)).data

    async def _ask(self, path: str, request: object, cls: type[T]) -> T:
        answer = await self._transport.send("POST", path, encode(request), {})
        return decode(cls, body_of(answer))


class ServerClient:
    """The commands of a device of an organization.

    `context` is that of the org log; `head_key` is pinned by the genesis; `random` gives nonces.
    Every method raises OfflineError, RefusedError, DataError; those with heads SignatureError.
    """

    def __init__(
        self,
        signer: Signer,
        *,
        context: Context,
        head_key: VerifyKey,
        random: Callable[[int], bytes],
    ) -> None:
        self._signer = signer
        self._context = context
        self._head_key = head_key
        self._random = random

    def context(self, log: LogId) -> Context:
        """Context of everything signed in a log of this organization."""
        return replace(self._context, log=log)

    async def append_certificate(
        self, log: LogId, body: bytes, boxes: tuple[KeyBox, ...] = ()
    ) -> VerifiedHead:
        """Append to the org log or a realm log; the head contains the certificate."""
        noun = "org" if bytes(log) == bytes(self._context.org) else "realm"
        request = AppendCertificate(log=log, body=body, boxes=boxes)
        answer = await self._ask(f"/v1/{noun}/append", request, HeadAnswer)
        return self._verified(answer.head, log, None)

    async def put_recovery(self, device: DeviceId, data: bytes) -> None:
        """Keep what a paper device begins with."""
        await self._ask("/v1/recovery/put", PutRecovery(device=device, data=data), Nothing)

    async def create_realm(self, request: CreateRealm) -> VerifiedHead:
        """Register and create a realm; the head is that of its log."""
        answer = await self._ask("/v1/realm/create", request, HeadAnswer)
        return self._verified(answer.head, LogId(request.realm), None)

    async def list_realms(self) -> tuple[RealmId, ...]:
        """Realms in which the user has a role; a hint that the logs confirm."""
        return (await self._ask("/v1/realm/list", Nothing(), RealmList)).realms

    async def read_leaves(self, log: LogId, start: int, most: int) -> UnverifiedLeaves:
        """Leaves from `start` on, as many as fit."""
        nonce = self._random(32)
        request = ReadLeaves(log=log, start=start, most=most, nonce=nonce)
        answer = await self._ask("/v1/log/leaves", request, Leaves)
        head = self._verified(answer.head, log, nonce)
        return UnverifiedLeaves(leaves=answer.leaves, head=head)

    async def read_proof(self, log: LogId, index: int, size: int) -> ProvenLeaf:
        """A leaf that is proven to be in the first `size` leaves of the log, and these to be a
        prefix of a fresh head's. Raises ProofError."""
        nonce = self._random(32)
        request = ReadProof(log=log, index=index, size=size, nonce=nonce)
        answer = await self._ask("/v1/log/proof", request, LogProof)
        head = self._verified(answer.head, log, nonce)
        leaf = verify_log_proof(answer, index=index, size=size, head=head.head)
        return ProvenLeaf(leaf=leaf, root=answer.root, head=head)

    async def read_opening(self, log: LogId, key: Hash) -> ProvenValue:
        """What the map of a log proves of a key under a fresh head. Raises ProofError."""
        nonce = self._random(32)
        answer = await self._ask(
            "/v1/log/opening", ReadOpening(log=log, key=key, nonce=nonce), Opening
        )
        head = self._verified(answer.head, log, nonce)
        return ProvenValue(value=verify_map_opening(answer, key=key, head=head.head), head=head)

    async def commit(
        self,
        realm: RealmId,
        commits: Sequence[tuple[bytes, Hash]],
        payloads: Sequence[bytes],
    ) -> CommitReport:
        """Send commits (body, hash) in the device's order, with the payloads that they name."""
        nonce = self._random(32)
        bodies = tuple(body for body, _ in commits)
        request = encode_trusted(
            CommitBatch(realm=realm, commits=bodies, payloads=tuple(payloads), nonce=nonce)
        )
        http = await self._signer.send("POST", "/v1/realm/commit", request)
        answer = decode(CommitAnswer, body_of(http))
        if len(answer.results) != len(commits):
            raise DataError("commit answer: one result per commit is due")
        log = LogId(realm)
        pairs = zip(answer.results, commits, strict=True)
        fates = tuple(self._fate(one.index, one.refusal, log, hash) for one, (_, hash) in pairs)
        return CommitReport(fates=fates, head=self._verified(answer.head, log, nonce))

    def _fate(
        self, index: tuple[int, ...], refusal: tuple[Signed, ...], log: LogId, hash: Hash
    ) -> CommitFate:
        if len(index) + len(refusal) != 1:
            raise DataError("commit result: either an index or a refusal")
        if index:
            return CommitFate(index=index[0], refusal=None, raw=None)
        verified = verify_refusal(
            refusal[0],
            head_key=self._head_key,
            expected_context=self.context(log),
            expected_record=hash,
        )
        return CommitFate(index=None, refusal=verified, raw=refusal[0])

    async def read_payloads(self, realm: RealmId, hashes: tuple[Hash, ...]) -> tuple[bytes, ...]:
        """The first payloads that fit, in the order asked for; unverified."""
        request = ReadPayloads(realm=realm, hashes=hashes)
        return (await self._ask("/v1/realm/payloads", request, Payloads)).payloads

    async def observe(self, realm: RealmId, stamp: Hash) -> ObserveReport:
        """Log a blinded read; answered once the stamp is in a leaf."""
        nonce = self._random(32)
        request = Observe(realm=realm, stamp=stamp, nonce=nonce)
        answer = await self._ask("/v1/realm/observe", request, Observed)
        head = self._verified(answer.head, LogId(realm), nonce)
        return ObserveReport(index=answer.index, head=head)

    async def read_box(self, realm: RealmId, index: int, user: UserId) -> BoxAnswer:
        """A user's box of a key rotation; unverified, see `workspace/realm_keys.py`."""
        return await self._ask(
            "/v1/realm/box", ReadBox(realm=realm, index=index, user=user), BoxAnswer
        )

    async def read_snapshot(self, realm: RealmId, vouchers: tuple[DeviceId, ...]) -> SnapshotStart:
        """The realm as the newest record of one of these devices has seen it; unverified, see
        `protocol/snapshots.py`. Raises RefusedError NOT_FOUND if none of them vouches."""
        request = ReadSnapshot(realm=realm, vouchers=tuple(sorted(vouchers)))
        return await self._ask("/v1/realm/snapshot", request, SnapshotStart)

    async def read_snapshot_page(
        self, realm: RealmId, size: int, after: tuple[ObjectId, ...], most: int
    ) -> SnapshotPage:
        """The first objects after one of them (none: of all) at a size of the log; unverified."""
        request = ReadSnapshotPage(realm=realm, size=size, after=after, most=most)
        return await self._ask("/v1/realm/objects", request, SnapshotPage)

    async def read_epochs(self, start: int, most: int, logs: tuple[LogId, ...]) -> Epochs:
        """Openings of consecutive epochs; unverified, see `audit/trusted_state.py`."""
        return await self._ask(
            "/v1/epoch/read", ReadEpochs(start=start, most=most, logs=logs), Epochs
        )

    def _verified(self, unverified: Signed, log: LogId, nonce: bytes | None) -> VerifiedHead:
        head = verify_head(
            unverified,
            head_key=self._head_key,
            expected_context=self.context(log),
            expected_nonce=nonce,
        )
        return VerifiedHead(head=head, raw=unverified)

    async def _ask(self, path: str, request: object, cls: type[T]) -> T:
        answer = await self._signer.send("POST", path, encode(request))
        return decode(cls, body_of(answer))

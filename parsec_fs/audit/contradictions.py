"""Evidence made of the server's own signatures alone: P1, P2, P3, P6, P7.

Data flow: auditor, trusted_state -> record -> evidence file -> `check_*` with the own anchor.

Each check answers one question: can these signed values all be true of an honest server? If they
can, NotProvenError; if a part does not verify, the accuser is wrong and the error says where.
P1 and P2 compare log root and map root (rule 31). P3 accuses only by what is anchored, so a server
that was restored from a backup and refuses to publish is never convicted by it (rule 32).
"""

from dataclasses import dataclass
from typing import Annotated

from parsec_fs.audit.commitments import (
    AnchoredState,
    Commitment,
    Committed,
    LeafPlace,
    Path,
    verify_anchored,
    verify_commitment,
    verify_own_head,
    verify_own_refusal,
    verify_own_statement,
    verify_place,
)
from parsec_fs.audit.verdict import Kind, NotProvenError, Verdict, fingerprint
from parsec_fs.identity import TrustAnchor
from parsec_fs.plain_text import plain_name
from parsec_fs.protocol.certificates import peek_certificate
from parsec_fs.protocol.codec import Size, decode
from parsec_fs.protocol.commits import CommitBody, commit_hash, peek_commit
from parsec_fs.protocol.errors import DataError
from parsec_fs.protocol.hashing import body_hash, signed_hash
from parsec_fs.protocol.ids import Hash, LogId
from parsec_fs.protocol.limits import ENTRY_MAX_SIZE
from parsec_fs.protocol.merkle import verify_consistency
from parsec_fs.protocol.records import CERTIFICATE, COMMIT, DeviceHeader, Signed
from parsec_fs.protocol.statements import SignedStatement


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitView:
    """P1. `first` is not longer than `second`. Same size: the roots differ. Otherwise `root` is the
    root of the second tree at the first size, with its consistency proof, or `leaf` is the second
    tree's leaf at that index, which names the map root there."""

    first: Commitment
    second: Commitment
    root: Annotated[tuple[Hash, ...], Size(0, 1)] = ()
    consistency: Path = ()
    leaf: Annotated[tuple[LeafPlace, ...], Size(0, 1)] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokenPromise:
    """P2. A head due by the epoch, or an earlier epoch's state; and the epoch that is smaller."""

    promise: Commitment
    anchored: AnchoredState


@dataclass(frozen=True, slots=True, kw_only=True)
class StaleAnswer:
    """P3. A head that promises a later epoch than `anchored` and yet has fewer leaves, although a
    cut is durable before any head promises the next (rule 16). Compares epochs, never times: the
    clocks of two processes of one honest server may differ."""

    log: LogId
    head: Signed
    anchored: AnchoredState


@dataclass(frozen=True, slots=True, kw_only=True)
class FalseRefusal:
    """P6. A final refusal, and a leaf that holds the refused record or one chained right behind."""

    log: LogId
    refusal: Signed
    commitment: Commitment
    leaf: LeafPlace
    body: Annotated[bytes, Size(1, ENTRY_MAX_SIZE)]


@dataclass(frozen=True, slots=True, kw_only=True)
class OutdatedLeaf:
    """P4, rule 9. A leaf behind what an epoch anchors of the realm, which names a smaller org log
    than the same epoch anchors: revocations below that size would not bind it."""

    commitment: Commitment
    leaf: LeafPlace
    realm: AnchoredState
    org: AnchoredState


@dataclass(frozen=True, slots=True, kw_only=True)
class TwoStatements:
    """P7. Compares what was signed, not signatures: ML-DSA is randomised (rule 31)."""

    first: SignedStatement
    second: SignedStatement


def of_head(log: LogId, head: Signed) -> Commitment:
    """A head as a commitment."""
    return Commitment(log=log, head=(head,))


def of_anchored(anchored: AnchoredState) -> Commitment:
    """An anchored state as a commitment."""
    return Commitment(log=anchored.log, anchored=(anchored,))


def blame(anchor: TrustAnchor) -> str:
    """The server as evidence names it."""
    name = plain_name(anchor.server.name)
    return f"server {name} ({fingerprint(anchor.server.server_log)})"


def check_split_view(unverified: SplitView, anchor: TrustAnchor) -> Verdict:
    """Raises DataError, VerificationError; NotProvenError if both can be true."""
    first = verify_commitment(unverified.first, anchor)
    second = verify_commitment(unverified.second, anchor)
    if first.state.log != second.state.log or first.size > second.size:
        raise DataError("split view: not two states of one log in order of size")
    if first.size == second.size:
        differing = _same_size(first, second)
    elif unverified.root:
        differing = _other_prefix(unverified, first, second)
    else:
        differing = _other_map(unverified, first, second)
    details = (
        _size(first),
        _size(second),
        f"they differ in the {differing} at {first.size} leaves",
    )
    return Verdict(kind=Kind.SPLIT_VIEW, blamed=blame(anchor), details=details)


def _same_size(first: Committed, second: Committed) -> str:
    if first.state.log_root != second.state.log_root:
        return "log root"
    if first.state.map_root != second.state.map_root:
        return "map root"
    raise NotProvenError("both states are the same")


def _other_prefix(unverified: SplitView, first: Committed, second: Committed) -> str:
    root = unverified.root[0]
    verify_consistency(first.size, root, second.size, second.state.log_root, unverified.consistency)
    if root == first.state.log_root:
        raise NotProvenError("the first state is a prefix of the second")
    return "log root"


def _other_map(unverified: SplitView, first: Committed, second: Committed) -> str:
    if not unverified.leaf or unverified.leaf[0].index != first.size:
        raise DataError("split view: neither a root nor the leaf at the first size")
    header = verify_place(unverified.leaf[0], second)
    if header.map_root == first.state.map_root:
        raise NotProvenError("both states name the same map")
    return "map root"


def check_broken_promise(unverified: BrokenPromise, anchor: TrustAnchor) -> Verdict:
    """Raises DataError, VerificationError; NotProvenError if the promise was kept or is not due."""
    promise = verify_commitment(unverified.promise, anchor)
    anchored = verify_anchored(unverified.anchored, anchor)
    if promise.state.log != anchored.state.log:
        raise DataError("broken promise: states of two logs")
    if promise.promised is None or anchored.epoch is None or promise.promised > anchored.epoch:
        raise NotProvenError("the promise is not due at this epoch")
    if anchored.size >= promise.size:
        raise NotProvenError("the epoch covers the promised size")
    details = (
        f"promised: {promise.size} leaves, due in epoch {promise.promised}",
        f"signed for epoch {anchored.epoch}: {anchored.size} leaves",
    )
    return Verdict(kind=Kind.BROKEN_PROMISE, blamed=blame(anchor), details=details)


def check_stale_answer(unverified: StaleAnswer, anchor: TrustAnchor) -> Verdict:
    """Raises DataError, VerificationError; NotProvenError if the head could be honest."""
    head = verify_own_head(unverified.head, unverified.log, anchor)
    anchored = verify_anchored(unverified.anchored, anchor)
    if unverified.anchored.log != unverified.log or anchored.epoch is None:
        raise DataError("stale answer: states of two logs")
    if anchored.size <= head.size:
        raise NotProvenError("the head hides nothing of this epoch")
    if head.due_epoch <= anchored.epoch:
        raise NotProvenError("the head may have been signed before the epoch was cut")
    details = (
        f"head of {head.size} leaves, due in epoch {head.due_epoch}",
        f"epoch {anchored.epoch} was cut before it, with {anchored.size} leaves",
    )
    return Verdict(kind=Kind.STALE_ANSWER, blamed=blame(anchor), details=details)


def check_false_refusal(unverified: FalseRefusal, anchor: TrustAnchor) -> Verdict:
    """Raises DataError, VerificationError; NotProvenError if the leaf is another record."""
    refusal = verify_own_refusal(unverified.refusal, unverified.log, anchor)
    committed = verify_commitment(unverified.commitment, anchor)
    header = verify_place(unverified.leaf, committed)
    if committed.state.log != unverified.log or body_hash(unverified.body) != header.body:
        raise DataError("false refusal: body or commitment of another log")
    record, author = _record(header.kind, unverified.body)
    if refusal.record not in (record, author.previous):
        raise NotProvenError("the leaf does not hold the refused record")
    details = (
        f"refused: record {refusal.sequence} of device {refusal.device.hex()}",
        f"used as leaf {unverified.leaf.index}, or by the record right behind it",
    )
    return Verdict(kind=Kind.FALSE_REFUSAL, blamed=blame(anchor), details=details)


def _record(kind: int, body: bytes) -> tuple[Hash, DeviceHeader]:
    """Name and header of the record in a leaf."""
    if kind == COMMIT:
        return commit_hash(decode(CommitBody, body)), peek_commit(body).header
    if kind == CERTIFICATE:
        return signed_hash(body), peek_certificate(body).header
    raise DataError("this kind of leaf holds no device's record")


def check_outdated_leaf(unverified: OutdatedLeaf, anchor: TrustAnchor) -> Verdict:
    """Raises DataError, VerificationError; NotProvenError if the leaf is current."""
    committed = verify_commitment(unverified.commitment, anchor)
    header = verify_place(unverified.leaf, committed)
    realm = verify_anchored(unverified.realm, anchor)
    org = verify_anchored(unverified.org, anchor)
    if org.state.log != LogId(anchor.org) or realm.state.log != committed.state.log:
        raise DataError("outdated leaf: states of other logs")
    if realm.epoch != org.epoch or unverified.leaf.index < realm.size:
        raise NotProvenError("the leaf may be older than the epoch")
    if header.org_size >= org.size:
        raise NotProvenError("the leaf knows the organization of that epoch")
    details = (
        f"leaf {unverified.leaf.index}, behind the {realm.size} leaves of epoch {realm.epoch}",
        f"it knows {header.org_size} leaves of the org log, that epoch has {org.size}",
    )
    return Verdict(kind=Kind.INVALID_LEAF, blamed=blame(anchor), details=details)


def check_two_statements(unverified: TwoStatements, anchor: TrustAnchor) -> Verdict:
    """Raises DataError, SignatureError; NotProvenError if they say the same."""
    first = verify_own_statement(unverified.first, anchor)
    second = verify_own_statement(unverified.second, anchor)
    if first.epoch != second.epoch:
        raise NotProvenError("statements of two epochs")
    if first == second:
        raise NotProvenError("one statement, signed again")
    details = (
        f"epoch {first.epoch}: leaves {fingerprint(first.epoch_leaf)} and "
        f"{fingerprint(second.epoch_leaf)}",
    )
    return Verdict(kind=Kind.TWO_STATEMENTS, blamed=blame(anchor), details=details)


def _size(committed: Committed) -> str:
    source = "head" if committed.epoch is None else f"epoch {committed.epoch}"
    root = fingerprint(committed.state.log_root)
    return f"{source}: {committed.size} leaves, root {root}"

"""What a server has committed itself to, in a form that anyone can check from the anchor alone.

Data flow: signed heads, refusals, opened statements -> `verify_commitment` -> evidence.

A commitment is a state of one log under the server's own signature. Two that cannot both be true
convict the server; who signed is all that matters, so nothing here asks a chain node or a clock.
The anchor is the caller's own and never comes from the file that is checked (rule 32).
"""

from dataclasses import dataclass
from typing import Annotated

from parsec_fs.identity import TrustAnchor
from parsec_fs.protocol.codec import U64, Size
from parsec_fs.protocol.commands import EpochProof, LogOpening
from parsec_fs.protocol.epochs import log_state_hash, opening_leaf
from parsec_fs.protocol.errors import DataError, ProofError
from parsec_fs.protocol.hashing import EMPTY_MAP, EMPTY_TREE, log_map_key, org_map_key
from parsec_fs.protocol.ids import Hash, LogId, ServerLogId
from parsec_fs.protocol.keys import CoVerifyKey, VerifyKey
from parsec_fs.protocol.limits import PROOF_MAX_HASHES
from parsec_fs.protocol.merkle import verify_inclusion
from parsec_fs.protocol.prefix_map import MapProof, verify_opening
from parsec_fs.protocol.records import (
    EpochOpening,
    Head,
    LeafHeader,
    LogState,
    Refusal,
    Signed,
    peek_refusal,
    verify_head,
    verify_refusal,
)
from parsec_fs.protocol.statements import SignedStatement, Statement, verify_statement

Path = Annotated[tuple[Hash, ...], Size(0, PROOF_MAX_HASHES)]


@dataclass(frozen=True, slots=True, kw_only=True)
class AnchoredState:
    """One log, opened in one signed statement of the server; not yet checked."""

    log: LogId
    statement: SignedStatement
    opening: EpochOpening
    org_root: Hash
    org_proof: MapProof
    state: LogOpening


@dataclass(frozen=True, slots=True, kw_only=True)
class Commitment:
    """Exactly one of three: a signed head, a signed refusal, a state opened in a statement."""

    log: LogId
    head: Annotated[tuple[Signed, ...], Size(0, 1)] = ()
    refusal: Annotated[tuple[Signed, ...], Size(0, 1)] = ()
    anchored: Annotated[tuple[AnchoredState, ...], Size(0, 1)] = ()

    def __post_init__(self) -> None:
        if len(self.head) + len(self.refusal) + len(self.anchored) != 1:
            raise DataError("a commitment is a head, a refusal or an anchored state")


@dataclass(frozen=True, slots=True, kw_only=True)
class LeafPlace:
    """A leaf header and its audit path in the tree of a commitment; not yet checked."""

    index: U64
    header: LeafHeader
    path: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Committed:
    """A checked commitment. `promised` is the epoch that must contain it at the latest, `epoch`
    the one whose statement it was opened in; None where the commitment says nothing of it."""

    state: LogState
    time_ms: int
    promised: int | None
    epoch: int | None

    @property
    def size(self) -> int:
        """Leaves of the log."""
        return self.state.size


def absent(log: LogId) -> LogState:
    """State of a log that an epoch does not know yet: empty."""
    return LogState(log=log, size=0, log_root=EMPTY_TREE, map_root=EMPTY_MAP, org_size=0)


def verify_commitment(unverified: Commitment, anchor: TrustAnchor) -> Committed:
    """Under the pinned keys of the server. Raises DataError, SignatureError, ProofError."""
    if unverified.anchored:
        if unverified.anchored[0].log != unverified.log:
            raise DataError("commitment: anchored state of another log")
        return verify_anchored(unverified.anchored[0], anchor)
    if unverified.head:
        return _of_head(verify_own_head(unverified.head[0], unverified.log, anchor))
    return _of_refusal(verify_own_refusal(unverified.refusal[0], unverified.log, anchor))


def verify_own_head(unverified: Signed, log: LogId, anchor: TrustAnchor) -> Head:
    """A head of this log by the anchor's server. Raises DataError, SignatureError."""
    key = VerifyKey(anchor.server.head_key)
    return verify_head(unverified, head_key=key, expected_context=anchor.context(log))


def verify_own_refusal(unverified: Signed, log: LogId, anchor: TrustAnchor) -> Refusal:
    """A refusal in this log by the anchor's server. Raises DataError, SignatureError."""
    return verify_refusal(
        unverified,
        head_key=VerifyKey(anchor.server.head_key),
        expected_context=anchor.context(log),
        expected_record=peek_refusal(unverified).record,
    )


def verify_own_statement(unverified: SignedStatement, anchor: TrustAnchor) -> Statement:
    """A statement by the anchor's server. Raises DataError, SignatureError."""
    return verify_statement(
        unverified,
        expected_chain_id=anchor.chain.chain_id,
        expected_server_log=ServerLogId(anchor.server.server_log),
        head_key=VerifyKey(anchor.server.head_key),
        co_key=CoVerifyKey(anchor.server.co_key),
    )


def verify_anchored(unverified: AnchoredState, anchor: TrustAnchor) -> Committed:
    """What the statement says of this log. Raises DataError, SignatureError, ProofError."""
    statement = verify_own_statement(unverified.statement, anchor)
    opening = unverified.opening
    if opening_leaf(opening) != statement.epoch_leaf or opening.epoch != statement.epoch:
        raise ProofError("epoch opening is not the one of the statement")
    return Committed(
        state=_open(unverified, anchor),
        time_ms=statement.time_ms,
        promised=statement.epoch,
        epoch=statement.epoch,
    )


def _open(unverified: AnchoredState, anchor: TrustAnchor) -> LogState:
    root = unverified.opening.map_root
    org_root = verify_opening(org_map_key(anchor.org), unverified.org_proof, expected_root=root)
    if org_root is None:
        return absent(unverified.log)
    if org_root != unverified.org_root:
        raise ProofError("organization's root is not the anchored one")
    key = log_map_key(anchor.org, unverified.log)
    value = verify_opening(key, unverified.state.proof, expected_root=org_root)
    if value is None:
        return absent(unverified.log)
    if len(unverified.state.state) != 1 or log_state_hash(unverified.state.state[0]) != value:
        raise ProofError("log state is not the anchored one")
    return unverified.state.state[0]


def _of_head(head: Head) -> Committed:
    state = LogState(
        log=head.context.log,
        size=head.size,
        log_root=head.log_root,
        map_root=head.map_root,
        org_size=head.org_size,
    )
    return Committed(state=state, time_ms=head.time_ms, promised=head.due_epoch, epoch=None)


def _of_refusal(refusal: Refusal) -> Committed:
    state = LogState(
        log=refusal.context.log,
        size=refusal.size,
        log_root=refusal.log_root,
        map_root=refusal.map_root,
        org_size=0,
    )
    return Committed(state=state, time_ms=refusal.time_ms, promised=None, epoch=None)


def verify_place(unverified: LeafPlace, committed: Committed) -> LeafHeader:
    """The leaf header, if the committed tree holds it at that index. Raises ProofError."""
    verify_inclusion(
        unverified.header.hash(),
        unverified.index,
        committed.size,
        unverified.path,
        expected_root=committed.state.log_root,
    )
    return unverified.header


def anchored_states(proof: EpochProof, logs: tuple[LogId, ...]) -> tuple[AnchoredState, ...]:
    """The openings of an epoch, one log each, as evidence and proofs carry them."""
    return tuple(
        AnchoredState(
            log=log,
            statement=proof.statement,
            opening=proof.opening,
            org_root=proof.org_root,
            org_proof=proof.org_proof,
            state=opening,
        )
        for log, opening in zip(logs, proof.logs, strict=True)
    )

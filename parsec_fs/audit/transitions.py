"""Evidence that a leaf breaks the rules (P4) or that a state does not follow from it (P5).

Data flow: replica's mismatch -> record -> evidence file -> `check_transition` with the own anchor.

The judge runs the very rules of `protocol.membership` and `protocol.realm_state` that server and
replicas run; what they refuse can never be in an honest log. It needs the organization's log, the
leaf and its place in the tree, and openings of every map key that the leaf touches, under the map
root that the leaf itself names (rule 31): no content keys, no server, no other leaf.
What the accuser leaves out is an error, never a reason to convict.
"""

from dataclasses import dataclass, replace
from typing import Annotated

from parsec_fs.audit.commitments import (
    Commitment,
    Committed,
    LeafPlace,
    verify_commitment,
    verify_place,
)
from parsec_fs.audit.contradictions import blame
from parsec_fs.audit.partial_realm import MapOpening, author_of, realm_before, touched
from parsec_fs.audit.verdict import Kind, NotProvenError, Verdict
from parsec_fs.identity import TrustAnchor
from parsec_fs.protocol.codec import Size
from parsec_fs.protocol.errors import (
    DataError,
    OutdatedError,
    ProofError,
    TrustchainError,
    VerificationError,
)
from parsec_fs.protocol.hashing import body_hash
from parsec_fs.protocol.ids import NO_HASH, Hash, LogId
from parsec_fs.protocol.limits import ENTRY_MAX_SIZE
from parsec_fs.protocol.log_state import LogPosition
from parsec_fs.protocol.membership import OrgState, append, found
from parsec_fs.protocol.merkle import Frontier, tree_root
from parsec_fs.protocol.realm_state import verify_leaf
from parsec_fs.protocol.records import Leaf, LeafHeader

Body = Annotated[bytes, Size(1, ENTRY_MAX_SIZE)]


@dataclass(frozen=True, slots=True, kw_only=True)
class OrgLog:
    """The whole org log under a commitment: all leaves, in order."""

    commitment: Commitment
    leaves: Annotated[tuple[Leaf, ...], Size(1, 20_000)]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedLeaf:
    """A leaf with its body, and its place in a tree."""

    place: LeafPlace
    body: Body


@dataclass(frozen=True, slots=True, kw_only=True)
class RealmTransition:
    """P4 and P5 in a realm. `earlier` is an earlier leaf of the same device (broken chain),
    `before` the header right before (order of times), `after` the one right behind (map root);
    without `after` the commitment itself must be the state right behind the leaf for P5."""

    org: OrgLog
    commitment: Commitment
    leaf: PlacedLeaf
    openings: Annotated[tuple[MapOpening, ...], Size(0, 4096)]
    earlier: Annotated[tuple[PlacedLeaf, ...], Size(0, 1)] = ()
    before: Annotated[tuple[LeafPlace, ...], Size(0, 1)] = ()
    after: Annotated[tuple[LeafPlace, ...], Size(0, 1)] = ()


class _GuiltyError(Exception):
    """A rule of the log is broken; never leaves this module."""


def check_org_log(unverified: OrgLog, anchor: TrustAnchor) -> Verdict:
    """P4 (or P5) in the org log. NotProvenError if every leaf obeys the rules."""
    try:
        state = org_at(unverified, anchor, size=len(unverified.leaves))
        committed = verify_commitment(unverified.commitment, anchor)
    except _GuiltyError as error:
        details = (f"organization's log, leaf {error.args[0]}", str(error.args[1]))
        return Verdict(kind=Kind.INVALID_LEAF, blamed=blame(anchor), details=details)
    if state.map.root() != committed.state.map_root:
        text = f"organization's log: not the map that follows from its {committed.size} leaves"
        return Verdict(kind=Kind.WRONG_TRANSITION, blamed=blame(anchor), details=(text,))
    raise NotProvenError("the organization's log obeys its rules")


def org_at(unverified: OrgLog, anchor: TrustAnchor, *, size: int) -> OrgState:
    """The organization after `size` leaves. Raises DataError, VerificationError if the leaves are
    not the committed ones, and _GuiltyError if they are and break the rules."""
    committed = verify_commitment(unverified.commitment, anchor)
    leaves = unverified.leaves
    if committed.state.log != LogId(anchor.org) or len(leaves) != committed.size:
        raise DataError("organization's log: not all leaves of the commitment")
    if tree_root([one.header.hash() for one in leaves]) != committed.state.log_root:
        raise ProofError("organization's log: leaves are not the committed ones")
    if any(body_hash(one.body) != one.header.body for one in leaves):
        raise DataError("organization's log: a body is not the one of its header")
    if size < 1:
        raise _GuiltyError(0, "a leaf that knows no organization")
    return _replay(leaves[:size], anchor)


def valid_org(unverified: OrgLog, anchor: TrustAnchor) -> OrgState:
    """The organization, if its log obeys the rules. Raises DataError, VerificationError."""
    try:
        return org_at(unverified, anchor, size=len(unverified.leaves))
    except _GuiltyError as error:
        raise TrustchainError("the organization's log breaks its rules: prove that") from error


def replay_org(leaves: tuple[Leaf, ...], anchor: TrustAnchor) -> OrgState:
    """The organization after these leaves. Raises TrustchainError if they break the rules, or hold
    what this program does not know."""
    if not leaves:
        raise TrustchainError("a leaf that knows no organization")
    try:
        return _replay(leaves, anchor)
    except (_GuiltyError, OutdatedError) as error:
        raise TrustchainError("the organization's log breaks the known rules") from error


def _replay(leaves: tuple[Leaf, ...], anchor: TrustAnchor) -> OrgState:
    try:
        state = found(leaves[0], expected_genesis=anchor.genesis)
    except (DataError, VerificationError) as error:
        raise _GuiltyError(0, error) from error
    for leaf in leaves[1:]:
        try:
            state = append(state, leaf)
        except (DataError, VerificationError) as error:
            raise _GuiltyError(state.position.size, error) from error
    return state


def check_transition(unverified: RealmTransition, anchor: TrustAnchor) -> Verdict:
    """P4 or P5 in a realm. Raises DataError, VerificationError; NotProvenError if all is well."""
    committed = verify_commitment(unverified.commitment, anchor)
    leaf = _placed(unverified.leaf, committed)
    where = f"leaf {unverified.leaf.place.index}"
    org_size = leaf.header.org_size
    if org_size > len(unverified.org.leaves):
        raise DataError("transition: the organization's log is too short for this leaf")
    try:
        org = org_at(unverified.org, anchor, size=org_size)
        computed = _judge(unverified, leaf, org, committed, anchor)
    except _GuiltyError as error:
        details = (where, str(error.args[-1]))
        return Verdict(kind=Kind.INVALID_LEAF, blamed=blame(anchor), details=details)
    if computed == _claimed(unverified, committed):
        raise NotProvenError("the leaf obeys the rules, and the state follows from it")
    text = f"{where}: the map after it is not the signed one"
    return Verdict(kind=Kind.WRONG_TRANSITION, blamed=blame(anchor), details=(text,))


def _placed(unverified: PlacedLeaf, committed: Committed) -> Leaf:
    header = verify_place(unverified.place, committed)
    if body_hash(unverified.body) != header.body:
        raise DataError("transition: body is not the one of the leaf")
    return Leaf(header=header, body=unverified.body)


def _judge(
    unverified: RealmTransition,
    leaf: Leaf,
    org: OrgState,
    committed: Committed,
    anchor: TrustAnchor,
) -> Hash:
    """Map root after the leaf. Raises _GuiltyError if the rules forbid the leaf."""
    context = anchor.context(committed.state.log)
    try:
        keys = touched(leaf, org=org, context=context)
    except (DataError, VerificationError) as error:
        raise _GuiltyError(error) from error
    _check_earlier(unverified, leaf, committed)
    position = _position(unverified, committed)
    before = realm_before(leaf, keys, unverified.openings, context=context, org=org)
    state = replace(before.state, position=position)
    try:
        transition = verify_leaf(state, leaf, org=org, objects=before.objects.get)
    except (DataError, VerificationError) as error:
        raise _GuiltyError(error) from error
    return transition.state.map.root()


def _check_earlier(unverified: RealmTransition, leaf: Leaf, committed: Committed) -> None:
    """A device's records in one log are numbered and chained (A31, A32)."""
    for one in unverified.earlier:
        earlier = _placed(one, committed)
        if one.place.index >= unverified.leaf.place.index:
            raise DataError("transition: the earlier leaf is not earlier")
        name, header = author_of(earlier)
        _, current = author_of(leaf)
        if header.device != current.device:
            raise DataError("transition: the earlier leaf is another device's")
        if current.sequence <= header.sequence:
            raise _GuiltyError("the device's records are out of order, or one is there twice")
        if current.sequence == header.sequence + 1 and current.previous != name:
            raise _GuiltyError("the record does not chain to the device's one before")


def _position(unverified: RealmTransition, committed: Committed) -> LogPosition:
    """The log right before the leaf, as far as it matters here: size, time, org size. The nodes
    of its frontier stay unknown, and nothing asks for the root."""
    index = unverified.leaf.place.index
    frontier = Frontier(size=index, nodes=(NO_HASH,) * index.bit_count())
    for place in unverified.before:
        header = verify_place(place, committed)
        if place.index + 1 != index:
            raise DataError("transition: not the leaf right before")
        return LogPosition(frontier=frontier, time_ms=header.time_ms, org_size=header.org_size)
    return LogPosition(frontier=frontier)


def _claimed(unverified: RealmTransition, committed: Committed) -> Hash:
    """Map root that the server signed for the state right behind the leaf."""
    index = unverified.leaf.place.index
    for place in unverified.after:
        header: LeafHeader = verify_place(place, committed)
        if place.index != index + 1:
            raise DataError("transition: not the leaf right behind")
        return header.map_root
    if committed.size != index + 1:
        raise NotProvenError("nothing says what the server claims for the state behind the leaf")
    return committed.state.map_root

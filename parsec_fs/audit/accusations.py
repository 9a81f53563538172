"""From a failed comparison to the evidence that proves it, as far as signatures allow.

Data flow: auditor (opening, own heads, own or foreign leaves) -> candidates -> `first_proven`.

Pure. Every candidate goes through the same offline check that a stranger would run; what does not
prove anything is dropped, so a mistake here can never convict an honest server (rules 30, 32).
"""

from collections.abc import Iterable, Sequence

from parsec_fs.audit.commitments import AnchoredState, Commitment, LeafPlace
from parsec_fs.audit.contradictions import (
    BrokenPromise,
    OutdatedLeaf,
    SplitView,
    StaleAnswer,
    of_anchored,
    of_head,
)
from parsec_fs.audit.evidence import FORMAT, Record, check_offline, encode_evidence
from parsec_fs.audit.partial_realm import author_of, open_touched
from parsec_fs.audit.transitions import OrgLog, PlacedLeaf, RealmTransition, replay_org
from parsec_fs.audit.verdict import Verdict
from parsec_fs.identity import TrustAnchor
from parsec_fs.protocol.chain_types import ChainForkEvidence
from parsec_fs.protocol.codec import decode
from parsec_fs.protocol.errors import DataError, VerificationError
from parsec_fs.protocol.ids import Hash, LogId
from parsec_fs.protocol.merkle import (
    NodeSource,
    consistency_proof,
    inclusion_proof,
    tree_root,
)
from parsec_fs.protocol.records import STAMPS, Head, Leaf, LeafHeader, Signed
from parsec_fs.workspace.refused_leaf import RefusedLeaf

HeadPair = tuple[Head, Signed]


def first_proven(files: Iterable[bytes], anchor: TrustAnchor) -> tuple[bytes, Verdict] | None:
    """The first file that proves something, with its verdict."""
    for file in files:
        try:
            return file, check_offline(file, anchor)
        except (DataError, VerificationError):
            continue
    return None


def files_of(error: VerificationError) -> list[bytes]:
    """Evidence that an error carries: whole files, or two blocks of one height (P8)."""
    files = [one for one in error.evidence if one.startswith(FORMAT)]
    for one in error.evidence:
        try:
            files.append(encode_evidence(decode(ChainForkEvidence, one)))
        except DataError:
            continue
    return files


def heads_of(error: VerificationError) -> list[HeadPair]:
    """Signed heads that an error carries as evidence; they are checked later."""
    found = []
    for one in error.evidence:
        try:
            signed = decode(Signed, one)
            found.append((decode(Head, signed.record), signed))
        except DataError:
            continue
    return found


def against_epoch(
    heads: Sequence[HeadPair], opening: AnchoredState, leaves: Sequence[LeafHeader]
) -> list[bytes]:
    """Candidates: signed heads against one anchored state. `leaves` are of this device's replica,
    or of the anchored branch."""
    records: list[Record] = []
    for head, signed in heads:
        promise = of_head(opening.log, signed)
        records.append(BrokenPromise(promise=promise, anchored=opening))
        records.append(StaleAnswer(log=opening.log, head=signed, anchored=opening))
        records += split_views(promise, head.size, of_anchored(opening), _size(opening), leaves)
    return [encode_evidence(one) for one in records]


def outdated(
    before: Sequence[AnchoredState], opening: AnchoredState, leaves: Sequence[LeafHeader]
) -> list[bytes]:
    """Candidates: the first leaf behind the epoch before, judged by an older organization.

    `before` are the openings of the epoch before, the org log's first."""
    realm = next((one for one in before[1:] if one.log == opening.log), None)
    if realm is None or not _size(realm) < _size(opening) <= len(leaves):
        return []
    place = place_of(leaves, _size(realm), _size(opening))
    commitment = of_anchored(opening)
    record = OutdatedLeaf(commitment=commitment, leaf=place, realm=realm, org=before[0])
    return [encode_evidence(record)]


def against_leaf(
    refused: RefusedLeaf,
    own: Sequence[LeafHeader],
    org_leaves: Sequence[Leaf],
    org_head: HeadPair | None,
    anchor: TrustAnchor,
) -> list[bytes]:
    """Candidates for P4: a leaf that the rules refuse, in a tree that the server signed. `own` are
    the headers of the replica of that log."""
    headers = [*own[: refused.start], *(leaf.header for leaf in refused.served)]
    head, signed = refused.head
    if head.size > len(headers):
        return []
    if refused.before is None:
        leaves = (*org_leaves[: refused.start], *refused.served)[: head.size]
        return _encoded(OrgLog(commitment=of_head(refused.log, signed), leaves=tuple(leaves)))
    if org_head is None:
        return []
    org_log = LogId(anchor.org)
    known = tuple(org_leaves[: org_head[0].size])
    org = OrgLog(commitment=of_head(org_log, org_head[1]), leaves=known)
    try:
        record = _transition(refused, headers[: head.size], org, anchor)
    except (DataError, VerificationError):
        return []
    return _encoded(record)


def _encoded(record: OrgLog | RealmTransition) -> list[bytes]:
    """A file, unless it were larger than anybody would read: then nobody is convicted by it."""
    try:
        return [encode_evidence(record)]
    except DataError:
        return []


def _transition(
    refused: RefusedLeaf, headers: list[LeafHeader], org: OrgLog, anchor: TrustAnchor
) -> RealmTransition:
    assert refused.before is not None
    index, size = refused.start + refused.place, len(headers)
    known = replay_org(org.leaves[: refused.leaf.header.org_size], anchor)
    openings = open_touched(refused.leaf, refused.before, refused.objects.get, org=known)
    return RealmTransition(
        org=org,
        commitment=of_head(refused.log, refused.head[1]),
        leaf=PlacedLeaf(place=place_of(headers, index, size), body=refused.leaf.body),
        openings=openings,
        earlier=_earlier(refused, headers),
        before=(place_of(headers, index - 1, size),) if index else (),
        after=(place_of(headers, index + 1, size),) if index + 1 < size else (),
    )


def _earlier(refused: RefusedLeaf, headers: list[LeafHeader]) -> tuple[PlacedLeaf, ...]:
    """The last record of the same device that came with it, for a broken chain (A31, A32)."""
    try:
        device = author_of(refused.leaf)[1].device
    except DataError:
        return ()
    for place in reversed(range(refused.place)):
        leaf = refused.served[place]
        if leaf.header.kind != STAMPS and author_of(leaf)[1].device == device:
            index = refused.start + place
            where = place_of(headers, index, len(headers))
            return (PlacedLeaf(place=where, body=leaf.body),)
    return ()


def against_each_other(
    log: LogId, heads: Sequence[HeadPair], leaves: Sequence[LeafHeader]
) -> list[bytes]:
    """Candidates: every two signed heads of one log."""
    records: list[Record] = []
    for place, (head, signed) in enumerate(heads):
        for other, other_signed in heads[place + 1 :]:
            one, two = of_head(log, signed), of_head(log, other_signed)
            records += split_views(one, head.size, two, other.size, leaves)
    return [encode_evidence(one) for one in records]


def split_views(
    one: Commitment, one_size: int, two: Commitment, two_size: int, leaves: Sequence[LeafHeader]
) -> list[SplitView]:
    """Candidates for P1 between two commitments of one log; `leaves` are of the longer one."""
    if one_size > two_size:
        one, one_size, two, two_size = two, two_size, one, one_size
    if one_size == two_size:
        return [SplitView(first=one, second=two)]
    if not 0 < one_size < two_size <= len(leaves):
        return []
    hashes = [leaf.hash() for leaf in leaves[:two_size]]
    by_tree = SplitView(
        first=one,
        second=two,
        root=(tree_root(hashes[:one_size]),),
        consistency=consistency_proof(_nodes(hashes), one_size, two_size),
    )
    place = place_of(leaves, one_size, two_size)
    return [by_tree, SplitView(first=one, second=two, leaf=(place,))]


def place_of(leaves: Sequence[LeafHeader], index: int, size: int) -> LeafPlace:
    """A leaf and its audit path in the tree of the first `size` leaves."""
    hashes = [leaf.hash() for leaf in leaves[:size]]
    path = inclusion_proof(_nodes(hashes), index, size)
    return LeafPlace(index=index, header=leaves[index], path=path)


def _nodes(hashes: Sequence[Hash]) -> NodeSource:
    return lambda start, end: tree_root(hashes[start:end])


def _size(opening: AnchoredState) -> int:
    """Claimed size; whether it is the anchored one is for the offline check."""
    return opening.state.state[0].size if opening.state.state else 0

"""Evidence files: canonical, self-contained, checked offline against one's own anchor.

Data flow: auditor, replicas, light client -> `encode_evidence` -> file -> `check_offline`.

A file is a line that names the format, a line of JSON for people, and the canonical record. The
JSON follows from the record and is compared, so it can say nothing else. Only what `check_offline`
accepts convicts anybody (rule 30), and it never takes an anchor from the file (rule 32).
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from parsec_fs.audit.chain_evidence import check_chain_fork
from parsec_fs.audit.commitments import AnchoredState
from parsec_fs.audit.contradictions import (
    BrokenPromise,
    FalseRefusal,
    OutdatedLeaf,
    SplitView,
    StaleAnswer,
    TwoStatements,
    check_broken_promise,
    check_false_refusal,
    check_outdated_leaf,
    check_split_view,
    check_stale_answer,
    check_two_statements,
    of_anchored,
)
from parsec_fs.audit.equivocation import DeviceEquivocation, check_equivocation
from parsec_fs.audit.transitions import OrgLog, RealmTransition, check_org_log, check_transition
from parsec_fs.audit.verdict import MEANINGS, Kind, NotProvenError, Verdict
from parsec_fs.identity import TrustAnchor
from parsec_fs.plain_text import plain_name
from parsec_fs.protocol.chain_types import ChainForkEvidence
from parsec_fs.protocol.codec import U8, decode, encode
from parsec_fs.protocol.errors import DataError, OutdatedError
from parsec_fs.protocol.hashing import sha256
from parsec_fs.protocol.limits import BATCH_MAX_SIZE
from parsec_fs.protocol.statements import SignedStatement

Record = (
    SplitView
    | BrokenPromise
    | StaleAnswer
    | OrgLog
    | RealmTransition
    | OutdatedLeaf
    | FalseRefusal
    | TwoStatements
    | ChainForkEvidence
    | DeviceEquivocation
)

FORMAT: Final = b"parsec-fs evidence 1\n"
MAX_SIZE: Final = 4 * BATCH_MAX_SIZE
_ORG_LOG: Final = 10
_OUTDATED: Final = 11
"""Numbers in the file of other forms of P4 and P5; those in a realm share number 4."""

_TYPES: Final[dict[int, type]] = {
    Kind.SPLIT_VIEW: SplitView,
    Kind.BROKEN_PROMISE: BrokenPromise,
    Kind.STALE_ANSWER: StaleAnswer,
    Kind.INVALID_LEAF: RealmTransition,
    Kind.FALSE_REFUSAL: FalseRefusal,
    Kind.TWO_STATEMENTS: TwoStatements,
    Kind.CHAIN_FORK: ChainForkEvidence,
    Kind.DEVICE_EQUIVOCATION: DeviceEquivocation,
    _ORG_LOG: OrgLog,
    _OUTDATED: OutdatedLeaf,
}
_NUMBERS: Final = {cls: int(number) for number, cls in _TYPES.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Envelope:
    number: U8
    record: bytes


def encode_evidence(record: Record) -> bytes:
    """The evidence file."""
    number = _NUMBERS[type(record)]
    binary = encode(_Envelope(number=number, record=encode(record)))
    return FORMAT + _for_people(number) + binary


def decode_evidence(data: bytes) -> Record:
    """The record in a file; proves nothing yet. Raises DataError."""
    if len(data) > MAX_SIZE:
        raise DataError("evidence: too large")
    if not data.startswith(FORMAT):
        raise DataError("not an evidence file")
    text, line_end, binary = data[len(FORMAT) :].partition(b"\n")
    envelope = decode(_Envelope, binary, max_size=MAX_SIZE)
    if envelope.number not in _TYPES or text + line_end != _for_people(envelope.number):
        raise DataError("evidence: unknown type, or the text is not the one of its type")
    record: Record = decode(_TYPES[envelope.number], envelope.record, max_size=MAX_SIZE)
    return record


def _for_people(number: int) -> bytes:
    if number == _OUTDATED:
        kinds = [Kind.INVALID_LEAF]
    elif number in (_ORG_LOG, Kind.INVALID_LEAF):
        kinds = [Kind.INVALID_LEAF, Kind.WRONG_TRANSITION]
    else:
        kinds = [Kind(number)]
    text = {
        "types": [kind.code for kind in kinds],
        "claims": [MEANINGS[kind] for kind in kinds],
        "check": "parsec-fs proof --check FILE --anchor FILE",
    }
    return json.dumps(text, sort_keys=True).encode() + b"\n"


def check_offline(unverified_file: bytes, anchor: TrustAnchor) -> Verdict:
    """What the file proves under this anchor, without network, server or keys.

    Raises DataError if it is no evidence file, NotProvenError if its contents can all be true of
    honest parties, and another VerificationError if a part of it does not verify."""
    record = decode_evidence(unverified_file)
    check: Callable[[Any, TrustAnchor], Verdict] = _CHECKS[type(record)]
    try:
        return check(record, anchor)
    except OutdatedError as error:
        # Whether a rule is broken is for those to say who know it.
        raise NotProvenError(str(error)) from error


def _check_chain_fork(record: ChainForkEvidence, anchor: TrustAnchor) -> Verdict:
    finding = check_chain_fork(encode(record), anchor.chain)
    voters = ", ".join(one.hex() for one in finding.double_voters)
    return Verdict(
        kind=Kind.CHAIN_FORK,
        blamed=f"validators {voters}" if voters else "a third of this set of validators",
        details=(
            f"chain {plain_name(finding.chain_id)}, height {finding.height}",
            f"headers {finding.header_hashes[0].hex()} and {finding.header_hashes[1].hex()}",
        ),
    )


_CHECKS: Final[dict[type, Callable[[Any, TrustAnchor], Verdict]]] = {
    SplitView: check_split_view,
    BrokenPromise: check_broken_promise,
    StaleAnswer: check_stale_answer,
    RealmTransition: check_transition,
    OrgLog: check_org_log,
    OutdatedLeaf: check_outdated_leaf,
    FalseRefusal: check_false_refusal,
    TwoStatements: check_two_statements,
    ChainForkEvidence: _check_chain_fork,
    DeviceEquivocation: check_equivocation,
}


def broken_promise(earlier: AnchoredState, later: AnchoredState) -> BrokenPromise:
    """Two epochs, the later one smaller."""
    return BrokenPromise(promise=of_anchored(earlier), anchored=later)


def split_view(first: AnchoredState, second: AnchoredState) -> SplitView:
    """Two epochs, one size, two roots."""
    return SplitView(first=of_anchored(first), second=of_anchored(second))


def two_statements(first: SignedStatement, second: SignedStatement) -> TwoStatements:
    """Two statements for one epoch, in a fixed order so that equal findings are equal files."""
    ordered = sorted((first, second), key=lambda one: one.statement)
    return TwoStatements(first=ordered[0], second=ordered[1])


def file_name(file: bytes, verdict: Verdict) -> str:
    """Name of the file in the evidence folder: type and digest of the content."""
    return f"{verdict.kind.code.lower()}-{content_id(file)[:16]}.evidence"


def content_id(file: bytes) -> str:
    """SHA-256 of the file in hex."""
    return sha256(file).hex()

"""What the auditor needs from the rest of the device, as interfaces.

Data flow: replicas, server client, light client, stores, clocks -> these -> auditor.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Protocol

from parsec_fs.audit.chain_head import VerifiedChainHead
from parsec_fs.audit.headers import trust_anchor
from parsec_fs.audit.trusted_state import AnchoredRange, TrustedState
from parsec_fs.identity import TrustAnchor
from parsec_fs.protocol.chain_types import TrustState
from parsec_fs.protocol.codec import Label, Size, decode
from parsec_fs.protocol.commands import Epochs
from parsec_fs.protocol.ids import LogId
from parsec_fs.protocol.records import Head, Leaf, LeafHeader, LogState, Signed

HeadPair = tuple[Head, Signed]
Histories = tuple["OrgHistory", *tuple["LogHistory", ...]]
"""Replicas of the followed logs, the org log's first."""


class LogHistory(Protocol):
    """A replica of one log: everything in it was replayed and verified here."""

    log: LogId

    def size(self) -> int:
        """Number of verified leaves."""

    def base(self) -> int:
        """Leaves below this one are not here: another device vouched for them (rule 25). 0 once
        the whole log was replayed."""

    def check_past(self) -> None:
        """Raises VerificationError while what lies below the base is known to be another
        history."""

    async def ensure(self, size: int) -> None:
        """At least `size` leaves are verified. Raises OfflineError, VerificationError."""

    def roots_at(self, size: int) -> LogState:
        """State after `size` leaves, at least `base()` and at most `size()`."""

    def leaf_header(self, index: int) -> LeafHeader:
        """A verified leaf's header. Raises LookupError below the base."""

    def newest_head(self) -> HeadPair | None:
        """The longest signed head that was relied upon."""

    def heads_due(self, epoch: int) -> list[HeadPair]:
        """Heads relied upon whose promise was for this epoch or before, not settled yet."""

    async def settle(self, epoch: int, size: int) -> None:
        """The epoch is verified and anchors `size` leaves."""


class OrgHistory(LogHistory, Protocol):
    """The replica of the org log, which is small enough to be kept whole."""

    def leaves(self) -> Sequence[Leaf]:
        """All verified leaves."""


class EpochServer(Protocol):
    """The metadata server as the audit uses it. Answers are unverified."""

    async def read_epochs(self, start: int, most: int, logs: tuple[LogId, ...]) -> Epochs:
        """Openings of consecutive epochs. Raises OfflineError, RefusedError, DataError."""

    async def read_headers(self, log: LogId, size: int) -> Sequence[LeafHeader]:
        """The first `size` leaves as the server shows them now, to prove a fork. Raises the same,
        VerificationError."""


class HeadSource(Protocol):
    """The light client."""

    @property
    def trust(self) -> TrustState:
        """Trust in the chain after the last answer."""

    async def newest_head(self) -> VerifiedChainHead:
        """Raises OfflineError, StaleError, ExpiredError, ForkError, ProofError, SignatureError."""


class Clock(Protocol):
    """Two clocks. The monotonic one counts through suspend and is never set (T12)."""

    def monotonic_ns(self) -> int:
        """Since some start."""

    def now_ns(self) -> int:
        """Unix time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRecord:
    """What survives a restart: the floor, and the names of evidence files that convict."""

    state: TrustedState
    convictions: Annotated[tuple[Label, ...], Size(0, 1000)]


class AuditStore(Protocol):
    """Where it survives."""

    def load(self) -> bytes | None:
        """The last saved record."""

    async def save(self, record: bytes, anchored: Sequence[AnchoredRange] = ()) -> None:
        """Durable when this returns, with the leaves that the epochs since the last record are the
        first ones to anchor."""

    async def keep_evidence(self, name: str, file: bytes) -> None:
        """Durable when this returns; writing the same again is fine."""


def stored_trust(store: AuditStore, anchor: TrustAnchor) -> TrustState:
    """Where the light client goes on: the stored trust in the chain, or the anchor's. DataError."""
    stored = store.load()
    if stored is None:
        return trust_anchor(anchor.chain)
    return decode(AuditRecord, stored).state.chain

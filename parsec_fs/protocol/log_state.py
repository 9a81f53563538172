"""Position in a log and device chains: what org and realm logs have in common.

Data flow: leaf -> `LogPosition.check` -> membership or realm_state -> `LogPosition.after`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from parsec_fs.protocol.codec import encode_trusted
from parsec_fs.protocol.errors import ProofError, TrustchainError
from parsec_fs.protocol.hashing import body_hash
from parsec_fs.protocol.ids import NO_HASH, DeviceId, Hash
from parsec_fs.protocol.merkle import Frontier
from parsec_fs.protocol.prefix_map import PrefixMap
from parsec_fs.protocol.records import Context, DeviceHeader, Leaf, LogState


class DeviceChainError(TrustchainError):
    """A record that is not the device's next one in this log (A31, A32, rule 1)."""


class ReplacedError(TrustchainError):
    """A certificate names a map value that is not there (rule 8)."""


class NotAllowedError(TrustchainError):
    """The author's role or profile does not allow this."""


class RevokedError(TrustchainError):
    """The author, or the subject, was revoked before this position of the org log (A17, rule 9)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceChain:
    """A device's records in one log so far: how many, and the hash of the last."""

    sequence: int = 0
    last: Hash = NO_HASH


@dataclass(frozen=True, slots=True, kw_only=True)
class LogPosition:
    """A verified prefix of a log: its frontier and what the last leaf said."""

    frontier: Frontier = field(default_factory=Frontier)
    time_ms: int = 0
    org_size: int = 0

    @property
    def size(self) -> int:
        """Number of leaves."""
        return self.frontier.size

    def root(self) -> Hash:
        """Log root of this prefix."""
        return self.frontier.root()

    def check(self, leaf: Leaf, *, expected_map_root: Hash) -> Leaf:
        """Is this the next leaf? Raises ProofError, TrustchainError, with the leaf as evidence."""
        header = leaf.header
        raw = (encode_trusted(leaf),)
        if header.index != self.size:
            raise ProofError(f"leaf {header.index} where {self.size} was due", evidence=raw)
        if body_hash(leaf.body) != header.body:
            raise ProofError("leaf body is not the one its header names", evidence=raw)
        if header.map_root != expected_map_root:
            raise ProofError("leaf names a wrong state map (P5)", evidence=raw)
        if header.time_ms <= self.time_ms or header.org_size < self.org_size:
            raise TrustchainError("time or org size of a log went back (rule 14)", evidence=raw)
        return leaf

    def after(self, leaf: Leaf) -> "LogPosition":
        """The position with this leaf appended."""
        return LogPosition(
            frontier=self.frontier.append(leaf.header.hash()),
            time_ms=leaf.header.time_ms,
            org_size=leaf.header.org_size,
        )


class ReplayedLog(Protocol):
    """An org log or a realm log after some leaves, with its whole map."""

    @property
    def context(self) -> Context:
        """Which log."""

    @property
    def position(self) -> LogPosition:
        """How much of it."""

    @property
    def map(self) -> PrefixMap:
        """What it comes to."""


def log_state(state: ReplayedLog) -> LogState:
    """Size and roots, as heads and epochs name them."""
    return LogState(
        log=state.context.log,
        size=state.position.size,
        log_root=state.position.root(),
        map_root=state.map.root(),
        org_size=state.position.org_size,
    )


def check_chain(
    chains: Mapping[DeviceId, DeviceChain],
    header: DeviceHeader,
    *,
    expected_size: int,
    base: int = 0,
) -> DeviceHeader:
    """Is this the device's next record in this log? Raises DeviceChainError.

    After a snapshot of the first `base` leaves, a device is adopted at its first record, whatever
    came before: who replays the whole log judges it (rule 25)."""
    unknown = DeviceChain(sequence=header.sequence, last=header.previous) if base else DeviceChain()
    chain = chains.get(header.device, unknown)
    if header.sequence != chain.sequence or header.previous != chain.last:
        raise DeviceChainError("record does not follow the device's last one in this log")
    if header.seen.size > expected_size:
        raise DeviceChainError("record has seen more of the log than there is (A27)")
    return header

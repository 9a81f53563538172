"""Chain headers, commits and validator sets as values (CometBFT block protocol 11).

Data flow: node's JSON -> `chain_rpc` -> these -> `audit.headers` checks them.

Being a value says nothing about truth: a header is a claim until its commit was verified. The
records use the project's codec, so that a light block can be stored and shown as evidence.
Times are integer nanoseconds since 1970, because a header's hash covers all nine digits.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Final

from parsec_fs.protocol.codec import Bytes32, IntRange, Label, Size
from parsec_fs.protocol.hashing import sha256
from parsec_fs.protocol.ids import Hash

MAX_VALIDATORS: Final = 100
"""Largest set that is looked at: one page of the RPC; we expect at most 50."""

MAX_TOTAL_POWER: Final = 2**60 - 1
"""CometBFT's own bound: sums of powers stay far below 2^63."""

OptionalHash = Annotated[bytes, Size(0, 32)]
"""32 bytes, or none where block 1 has no predecessor."""
Height = Annotated[int, IntRange(0, 2**63 - 1)]
TimeNs = Annotated[int, IntRange(0, 2**63 - 1)]
Power = Annotated[int, IntRange(1, MAX_TOTAL_POWER)]

FLAG_ABSENT: Final = 1
FLAG_COMMIT: Final = 2
FLAG_NIL: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockReference:
    """Hash of a header and of the parts that the chain block travels in."""

    hash: OptionalHash
    parts_total: Annotated[int, IntRange(0, 2**32 - 1)]
    parts_hash: OptionalHash


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """A chain block's header. `app_hash` is the state after the block before it."""

    block_version: Annotated[int, IntRange(0, 2**63 - 1)]
    app_version: Annotated[int, IntRange(0, 2**63 - 1)]
    chain_id: Label
    height: Height
    time_ns: TimeNs
    last_block: BlockReference
    last_commit_hash: OptionalHash
    data_hash: OptionalHash
    validators_hash: Bytes32
    next_validators_hash: Bytes32
    consensus_hash: OptionalHash
    app_hash: OptionalHash
    last_results_hash: OptionalHash
    evidence_hash: OptionalHash
    proposer_address: Annotated[bytes, Size(20, 20)]


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitSignature:
    """One validator's precommit. For an absent vote address and signature are empty, time is 0."""

    flag: Annotated[int, IntRange(FLAG_ABSENT, FLAG_NIL)]
    address: Annotated[bytes, Size(0, 20)]
    time_ns: TimeNs
    signature: Annotated[bytes, Size(0, 64)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """Precommits for one block, in the order of the validator set."""

    height: Height
    round: Annotated[int, IntRange(0, 2**31 - 1)]
    block: BlockReference
    signatures: Annotated[tuple[CommitSignature, ...], Size(1, MAX_VALIDATORS)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Validator:
    """Ed25519 key and voting power."""

    public_key: Bytes32
    power: Power

    @property
    def address(self) -> bytes:
        """First 20 bytes of SHA-256 of the public key."""
        return sha256(self.public_key)[:20]


ValidatorSet = Annotated[tuple[Validator, ...], Size(1, MAX_VALIDATORS)]
"""In the set's own order, which its hash covers; see `in_set_order`."""


def in_set_order(validators: Iterable[Validator]) -> tuple[Validator, ...]:
    """Power descending, then address ascending, as CometBFT orders a set."""
    return tuple(sorted(validators, key=lambda one: (-one.power, one.address)))


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedHeader:
    """What a node says was decided at one height."""

    header: Header
    commit: Commit


@dataclass(frozen=True, slots=True, kw_only=True)
class LightBlock:
    """All that is needed to verify one height."""

    header: Header
    commit: Commit
    validators: ValidatorSet


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainAnchor:
    """What a member is given, over an authenticated channel, to start trusting a chain from.

    `trusted_from_ns` is when the giver vouched for it; the trusting period counts from there.
    `operators`: how many independent operators share the validators, as the genesis declares
    (rule 29); 0 if it declares nothing.
    """

    chain_id: Label
    validators: ValidatorSet
    operators: Annotated[int, IntRange(0, MAX_VALIDATORS)]
    trusted_from_ns: TimeNs


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustState:
    """The newest header that this device verified, with the set that decided it.

    Height 0 stands for the anchor itself: no header yet, the genesis set is trusted for height 1.
    """

    chain_id: Label
    height: Height
    header_hash: Hash
    time_ns: TimeNs
    validators: ValidatorSet
    next_validators_hash: Bytes32


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainForkEvidence:
    """P8: two light blocks of one height. Whoever checks it brings the anchor (rule 32)."""

    blocks: Annotated[tuple[LightBlock, ...], Size(2, 2)]

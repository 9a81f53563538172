"""Proofs on request: a leaf in a log, one size of a log in another, a key in its map (R-35).

Data flow: server -> proof and signed head -> `verify_*` -> the leaf, the root, the value.

What every device recomputes anyway from all leaves, and what somebody without the leaves (light
devices, auditors, people comparing notes) needs: O(log n) hashes up to a head that the server has
signed. A wrong proof is a wrong answer; two signed heads that contradict each other are evidence.
"""

from dataclasses import dataclass
from typing import Annotated

from parsec_fs.protocol.codec import U64, Bytes32, Size
from parsec_fs.protocol.errors import ProofError
from parsec_fs.protocol.ids import Hash, LogId
from parsec_fs.protocol.limits import PROOF_MAX_HASHES
from parsec_fs.protocol.merkle import verify_consistency, verify_inclusion
from parsec_fs.protocol.prefix_map import MapProof, verify_opening
from parsec_fs.protocol.records import Head, LeafHeader, Signed

Path = Annotated[tuple[Hash, ...], Size(0, PROOF_MAX_HASHES)]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadProof:
    """log/proof: leaf `index` in the first `size` leaves, and those in the newest head."""

    log: LogId
    index: U64
    size: U64
    nonce: Bytes32


@dataclass(frozen=True, slots=True, kw_only=True)
class LogProof:
    """Header of the leaf, its audit path at the size asked for, and that size's consistency with
    the head (RFC 6962, 2.1.1 and 2.1.2)."""

    leaf: LeafHeader
    inclusion: Path
    root: Hash
    consistency: Path
    head: Signed


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadOpening:
    """log/opening: a key of the map at the newest head."""

    log: LogId
    key: Hash
    nonce: Bytes32


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """Presence or absence of the key under the head's map root."""

    proof: MapProof
    head: Signed


def verify_log_proof(unverified: LogProof, *, index: int, size: int, head: Head) -> LeafHeader:
    """The leaf's header, which is at `index` of the log of this verified head, whose first `size`
    leaves have the root `unverified.root`. Raises ProofError."""
    if unverified.leaf.index != index:
        raise ProofError("proof of another leaf")
    verify_inclusion(
        unverified.leaf.hash(), index, size, unverified.inclusion, expected_root=unverified.root
    )
    verify_consistency(size, unverified.root, head.size, head.log_root, unverified.consistency)
    return unverified.leaf


def verify_map_opening(unverified: Opening, *, key: Hash, head: Head) -> Hash | None:
    """Value hash of the key in the map of this verified head, None if it is provably absent.
    Raises ProofError."""
    return verify_opening(key, unverified.proof, expected_root=head.map_root)

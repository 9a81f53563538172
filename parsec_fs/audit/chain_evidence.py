"""P8: proof that validators decided two different blocks at one height.

Data flow: light_client finds it -> evidence file -> `check_chain_fork`, offline, by anyone.

Two valid commits for one height mean that at least a third of the power signed twice. Validators
are named only for two votes in one round; otherwise the finding is "a third of this set"
(rule 31). The anchor never comes from the file that is checked (rule 32).
"""

from dataclasses import dataclass

from parsec_fs.audit.headers import (
    has_signed,
    header_hash,
    trust_anchor,
    verify_at_any_time,
)
from parsec_fs.protocol.chain_types import ChainAnchor, ChainForkEvidence, LightBlock
from parsec_fs.protocol.codec import decode, encode
from parsec_fs.protocol.errors import ProofError
from parsec_fs.protocol.ids import Hash


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainForkFinding:
    """What the evidence proves. `double_voters` are validator addresses; empty means that the
    commits are of different rounds, and only "a third of this set" can be said."""

    chain_id: bytes
    height: int
    header_hashes: tuple[Hash, Hash]
    double_voters: tuple[bytes, ...]


def encode_chain_fork(first: LightBlock, second: LightBlock) -> bytes:
    """Evidence bytes, in a fixed order so that equal findings are equal files."""
    ordered = sorted((first, second), key=lambda one: header_hash(one.header))
    return encode(ChainForkEvidence(blocks=tuple(ordered)))


def check_chain_fork(unverified_evidence: bytes, anchor: ChainAnchor) -> ChainForkFinding:
    """Verify evidence against one's own anchor. Raises DataError or VerificationError."""
    first, second = decode(ChainForkEvidence, unverified_evidence).blocks
    hashes = header_hash(first.header), header_hash(second.header)
    if first.header.height != second.header.height or hashes[0] == hashes[1]:
        raise ProofError("not two different headers of one height")
    for block in (first, second):
        verify_at_any_time(trust_anchor(anchor), block)
    return ChainForkFinding(
        chain_id=anchor.chain_id,
        height=first.header.height,
        header_hashes=hashes,
        double_voters=_double_voters(first, second),
    )


def _double_voters(first: LightBlock, second: LightBlock) -> tuple[bytes, ...]:
    if first.commit.round != second.commit.round:
        return ()
    return tuple(sorted(_signers(first) & _signers(second)))


def _signers(block: LightBlock) -> set[bytes]:
    pairs = zip(block.validators, block.commit.signatures, strict=True)
    return {
        validator.address
        for validator, signature in pairs
        if has_signed(block.header.chain_id, block.commit, validator, signature)
    }

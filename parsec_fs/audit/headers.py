"""Verification of chain headers: what makes a header of a CometBFT chain believable.

Data flow: light_client -> unverified light block + trust state -> `verify` -> newer trust state.

Order of checks, cheapest and most selective first, so that a lying node costs us little:
1. our own trust has not expired; 2. chain id, height and time move forward, not into the future;
3. the commit is for this header; 4. the validator set is the one the header names;
5. continuity: the next set as announced, or more than a third of the trusted power signed;
6. more than two thirds of the block's own power signed.

One bad signature is skipped, not fatal: only good ones count, and a faulty validator cannot make
honest headers unverifiable. `now_ns` is a parameter. Rules: chain design 5.1 and 5.2, rule 29.
"""

from collections.abc import Iterable
from typing import Final

from parsec_fs.protocol.chain_types import (
    FLAG_COMMIT,
    MAX_TOTAL_POWER,
    BlockReference,
    ChainAnchor,
    Commit,
    CommitSignature,
    Header,
    LightBlock,
    TrustState,
    Validator,
)
from parsec_fs.protocol.errors import (
    DataError,
    ExpiredError,
    ProofError,
    SignatureError,
    VerificationError,
)
from parsec_fs.protocol.hashing import rfc6962_leaf
from parsec_fs.protocol.ids import NO_HASH, Hash, ServerLogId
from parsec_fs.protocol.keys import VerifyKey
from parsec_fs.protocol.merkle import tree_root
from parsec_fs.protocol.protobuf_fields import (
    fixed64,
    integer,
    message,
    octets,
    timestamp,
    varint,
)
from parsec_fs.protocol.simple_map import ProofOperation, verify_head

SECOND_NS: Final = 1_000_000_000
TRUSTING_PERIOD_NS: Final = 30 * 86_400 * SECOND_NS
"""How long keys of a past validator set are trusted not to be abused (rule 29)."""
CLOCK_DRIFT_NS: Final = 10 * SECOND_NS
"""A header may be this far ahead of our clock."""
_PRECOMMIT: Final = 2


class TooFarError(VerificationError):
    """Not a third of the trusted power signed: a header in between must be verified first."""


def trust_anchor(anchor: ChainAnchor) -> TrustState:
    """Trust at height 0: the pinned set decides block 1 and is trusted for jumps."""
    return TrustState(
        chain_id=anchor.chain_id,
        height=0,
        header_hash=NO_HASH,
        time_ns=anchor.trusted_from_ns,
        validators=anchor.validators,
        next_validators_hash=validators_hash(anchor.validators),
    )


class HeaderChecks:
    """What a lying node meets, one method per lie. Programs use `HEADER_CHECKS`; the attack tests
    hand in a subclass that leaves one out. Stateless."""

    def commit_is_for(self, header: Header, commit: Commit) -> Header:
        """The validators voted for exactly this header (A41). Raises ProofError."""
        if commit.height != header.height or commit.block.hash != header_hash(header):
            raise ProofError("commit is not for this chain header")
        return header

    def has_signed(
        self, chain_id: bytes, commit: Commit, validator: Validator, signature: CommitSignature
    ) -> bool:
        """A vote counts if its validator made it (A41, A42)."""
        return has_signed(chain_id, commit, validator, signature)

    def state_proof(
        self,
        unverified_value: bytes,
        unverified_operations: tuple[ProofOperation, ...],
        *,
        app_hash: Hash,
        server_log: ServerLogId,
    ) -> bytes:
        """The value is in the state below the header (A41). Raises DataError, ProofError."""
        return verify_head(app_hash, server_log, unverified_value, unverified_operations)


HEADER_CHECKS: Final = HeaderChecks()
"""What every program uses."""


def verify(
    trust: TrustState,
    unverified: LightBlock,
    *,
    now_ns: int,
    checks: HeaderChecks = HEADER_CHECKS,
) -> TrustState:
    """Trust in a newer header. Raises ExpiredError, ProofError, SignatureError, TooFarError."""
    if trust.time_ns + TRUSTING_PERIOD_NS <= now_ns:
        raise ExpiredError("the trusted chain header is too old; it must be renewed")
    if unverified.header.time_ns >= now_ns + CLOCK_DRIFT_NS:
        raise ProofError("chain header is from the future")
    return verify_at_any_time(trust, unverified, checks=checks)


def verify_at_any_time(
    trust: TrustState, unverified: LightBlock, *, checks: HeaderChecks = HEADER_CHECKS
) -> TrustState:
    """As `verify` without the clock: for evidence, which stays true. Raises the same."""
    header = unverified.header
    _check_progress(trust, header)
    _check_coherence(unverified, checks)
    if header.height == trust.height + 1:
        if header.validators_hash != trust.next_validators_hash:
            raise ProofError("validator set is not the announced one")
    else:
        _check_trusted_third(trust, unverified, checks)
    _check_two_thirds(unverified, checks)
    return TrustState(
        chain_id=trust.chain_id,
        height=header.height,
        header_hash=header_hash(header),
        time_ns=header.time_ns,
        validators=unverified.validators,
        next_validators_hash=header.next_validators_hash,
    )


def verify_rival(trust: TrustState, unverified: LightBlock) -> LightBlock:
    """Another block of the trusted height, decided by the same set: a fork, beside the trusted one.

    Returns the block, or raises ProofError, SignatureError if it proves nothing.
    """
    header = unverified.header
    if header.chain_id != trust.chain_id or header.height != trust.height:
        raise ProofError("not a block of the trusted height")
    _check_coherence(unverified, HEADER_CHECKS)
    if header_hash(header) == trust.header_hash or unverified.validators != trust.validators:
        raise ProofError("not another block by the trusted set")
    _check_two_thirds(unverified, HEADER_CHECKS)
    return unverified


def _check_progress(trust: TrustState, header: Header) -> None:
    if header.chain_id != trust.chain_id:
        raise ProofError("chain header is of another chain")
    if header.height <= trust.height:
        raise ProofError("chain header is not newer than the trusted one")
    # The anchor's time is when a member vouched for it, not a header's time.
    if trust.height and header.time_ns <= trust.time_ns:
        raise ProofError("chain header is not later than the trusted one")


def _check_coherence(unverified: LightBlock, checks: HeaderChecks) -> None:
    """Header, commit and set belong together, and the set is a possible one."""
    header, commit, validators = unverified.header, unverified.commit, unverified.validators
    checks.commit_is_for(header, commit)
    if validators_hash(validators) != header.validators_hash:
        raise ProofError("validator set is not the one of the chain header")
    if len({one.public_key for one in validators}) != len(validators):
        raise ProofError("validator set names a key twice")
    if total_power(validators) > MAX_TOTAL_POWER:
        raise ProofError("validator set has too much power")
    if len(commit.signatures) != len(validators):
        raise ProofError("commit does not fit the validator set")


def _check_trusted_third(trust: TrustState, unverified: LightBlock, checks: HeaderChecks) -> None:
    """More than a third of the trusted set signed: at least one honest validator did."""
    commit = unverified.commit
    trusted = {one.address: one for one in trust.validators}
    pairs = [
        (trusted.pop(signature.address), signature)
        for signature in commit.signatures
        if signature.address in trusted
    ]
    if not _enough(trust.chain_id, commit, pairs, total_power(trust.validators) // 3, checks):
        # A block that its own set did not sign is a lie, and not worth a search for headers.
        _check_two_thirds(unverified, checks)
        raise TooFarError("less than a third of the trusted power signed this chain header")


def _check_two_thirds(unverified: LightBlock, checks: HeaderChecks) -> None:
    validators, commit = unverified.validators, unverified.commit
    pairs = list(zip(validators, commit.signatures, strict=True))
    for validator, signature in pairs:
        if signature.flag == FLAG_COMMIT and signature.address != validator.address:
            raise ProofError("commit names another validator at this place")
    needed = total_power(validators) * 2 // 3
    if not _enough(unverified.header.chain_id, commit, pairs, needed, checks):
        raise SignatureError("not more than two thirds of the power signed this chain header")


def _enough(
    chain_id: bytes,
    commit: Commit,
    pairs: Iterable[tuple[Validator, CommitSignature]],
    threshold: int,
    checks: HeaderChecks,
) -> bool:
    """Power of good signatures exceeds the threshold; stops as soon as it does."""
    power = 0
    for validator, signature in pairs:
        if checks.has_signed(chain_id, commit, validator, signature):
            power += validator.power
        if power > threshold:
            return True
    return False


def has_signed(
    chain_id: bytes, commit: Commit, validator: Validator, signature: CommitSignature
) -> bool:
    """This validator's precommit for the commit's block is good.

    A bool, against the rule for verifiers, because a bad one is skipped when power is counted.
    """
    if signature.flag != FLAG_COMMIT or signature.address != validator.address:
        return False
    try:
        sign_bytes = vote_sign_bytes(chain_id, commit, signature)
        VerifyKey(validator.public_key).verify(sign_bytes, signature.signature)
    except (SignatureError, DataError):
        return False
    return True


def total_power(validators: Iterable[Validator]) -> int:
    """Sum of voting powers."""
    return sum(one.power for one in validators)


def validators_hash(validators: Iterable[Validator]) -> Hash:
    """Root over (key, power) in set order."""
    encoded = [message(1, message(1, one.public_key)) + integer(2, one.power) for one in validators]
    return tree_root([rfc6962_leaf(one) for one in encoded])


def header_hash(header: Header) -> Hash:
    """Root over the fourteen encoded fields."""
    version = integer(1, header.block_version) + integer(2, header.app_version)
    fields = [
        version,
        octets(1, header.chain_id),
        integer(1, header.height),
        timestamp(header.time_ns),
        _block_id(header.last_block),
        octets(1, header.last_commit_hash),
        octets(1, header.data_hash),
        octets(1, header.validators_hash),
        octets(1, header.next_validators_hash),
        octets(1, header.consensus_hash),
        octets(1, header.app_hash),
        octets(1, header.last_results_hash),
        octets(1, header.evidence_hash),
        octets(1, header.proposer_address),
    ]
    return tree_root([rfc6962_leaf(one) for one in fields])


def _block_id(reference: BlockReference) -> bytes:
    """The nested part set header is written even when empty, as in block 1."""
    parts = integer(1, reference.parts_total) + octets(2, reference.parts_hash)
    return octets(1, reference.hash) + message(2, parts)


def vote_sign_bytes(chain_id: bytes, commit: Commit, signature: CommitSignature) -> bytes:
    """What a validator signed when it precommitted the commit's block."""
    vote = (
        integer(1, _PRECOMMIT)
        + fixed64(2, commit.height)
        + fixed64(3, commit.round)
        + message(4, _block_id(commit.block))
        + message(5, timestamp(signature.time_ns))
        + octets(6, chain_id)
    )
    return varint(len(vote)) + vote

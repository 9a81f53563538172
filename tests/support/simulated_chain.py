"""Light blocks of a chain whose validators are keys in this process."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from parsec_fs.audit.headers import (
    SECOND_NS,
    header_hash,
    validators_hash,
    vote_sign_bytes,
)
from parsec_fs.protocol.chain_types import (
    FLAG_ABSENT,
    FLAG_COMMIT,
    BlockReference,
    ChainAnchor,
    Commit,
    CommitSignature,
    Header,
    LightBlock,
    Validator,
)
from parsec_fs.protocol.hashing import sha256
from parsec_fs.protocol.keys import SigningKey
from tests.support.servers import CHAIN_ID

GENESIS_NS = 1_700_000_000 * SECOND_NS
NOTHING = BlockReference(hash=b"", parts_total=0, parts_hash=b"")


@dataclass(frozen=True, kw_only=True)
class Operators:
    """Some validators with their keys, in set order."""

    keys: tuple[SigningKey, ...]
    powers: tuple[int, ...]
    operators: int | None = None
    """As the genesis declares; None: each validator has its own."""

    @property
    def validators(self) -> tuple[Validator, ...]:
        pairs = zip(self.keys, self.powers, strict=True)
        return tuple(Validator(public_key=key.verify_key.raw, power=one) for key, one in pairs)

    def anchor(self, trusted_from_ns: int = GENESIS_NS) -> ChainAnchor:
        return ChainAnchor(
            chain_id=CHAIN_ID,
            validators=self.validators,
            operators=len(self.keys) if self.operators is None else self.operators,
            trusted_from_ns=trusted_from_ns,
        )


def operators(*names: int, power: int = 10) -> Operators:
    """Validators by number, each with the same power; numbers shared by two sets share the key."""
    keys = [SigningKey(sha256(b"validator" + bytes([name]))) for name in names]
    keys.sort(key=lambda key: sha256(key.verify_key.raw)[:20])
    return Operators(keys=tuple(keys), powers=(power,) * len(keys))


def make_header(
    height: int,
    current: Operators,
    following: Operators | None = None,
    *,
    time_ns: int | None = None,
    app_hash: bytes = bytes(32),
    data: bytes = b"",
) -> Header:
    """A header one second after the one below; other `data` makes another block."""
    return Header(
        block_version=11,
        app_version=1,
        chain_id=CHAIN_ID,
        height=height,
        time_ns=GENESIS_NS + height * SECOND_NS if time_ns is None else time_ns,
        last_block=NOTHING,
        last_commit_hash=sha256(b"last commit"),
        data_hash=sha256(data),
        validators_hash=validators_hash(current.validators),
        next_validators_hash=validators_hash((following or current).validators),
        consensus_hash=sha256(b"params"),
        app_hash=app_hash,
        last_results_hash=sha256(b"results"),
        evidence_hash=sha256(b""),
        proposer_address=current.validators[0].address,
    )


def sign_header(
    header: Header, current: Operators, *, signers: Sequence[int] | None = None, round: int = 0
) -> LightBlock:
    """Commit the header with the votes of some validators (by place in the set)."""
    block = BlockReference(
        hash=header_hash(header), parts_total=1, parts_hash=sha256(b"parts of the block")
    )
    unsigned = Commit(height=header.height, round=round, block=block, signatures=())
    votes = [
        _vote(header.chain_id, unsigned, key, header.time_ns + SECOND_NS)
        if signers is None or place in signers
        else CommitSignature(flag=FLAG_ABSENT, address=b"", time_ns=0, signature=b"")
        for place, key in enumerate(current.keys)
    ]
    commit = replace(unsigned, signatures=tuple(votes))
    return LightBlock(header=header, commit=commit, validators=current.validators)


def _vote(chain_id: bytes, commit: Commit, key: SigningKey, time_ns: int) -> CommitSignature:
    unsigned = CommitSignature(
        flag=FLAG_COMMIT,
        address=sha256(key.verify_key.raw)[:20],
        time_ns=time_ns,
        signature=b"",
    )
    return replace(unsigned, signature=key.sign(vote_sign_bytes(chain_id, commit, unsigned)))

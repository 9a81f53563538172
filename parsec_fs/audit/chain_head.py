"""The head of a server's log as the validators agreed on it, and its proof for anyone's anchor.

Data flow: light client -> VerifiedChainHead -> audit; its `proof` -> proof files -> `verify_proof`.

A chain proof is a light block and a state proof: whoever holds the anchor can check it offline, at
any time (evidence and proofs stay true, so the trusting period of live verification is not asked).
"""

from dataclasses import dataclass
from typing import Annotated

from parsec_fs.audit.headers import header_hash, trust_anchor, verify_at_any_time
from parsec_fs.protocol.chain_types import ChainAnchor, LightBlock
from parsec_fs.protocol.codec import Size, decode, encode_trusted
from parsec_fs.protocol.ids import Hash
from parsec_fs.protocol.keys import CoVerifyKey, VerifyKey
from parsec_fs.protocol.simple_map import OPERATION_TYPE, ProofOperation, verify_head
from parsec_fs.protocol.statements import (
    ServerRegistration,
    SignedStatement,
    Statement,
    verify_statement,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class StateStep:
    """One operation of a state proof."""

    key: Annotated[bytes, Size(1, 255)]
    data: Annotated[bytes, Size(1, 4096)]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainProof:
    """Light block whose app hash covers `statement`, and the way from there to it; unchecked."""

    block: LightBlock
    statement: SignedStatement
    steps: Annotated[tuple[StateStep, ...], Size(2, 2)]


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedChainHead:
    """The newest statement of a server that more than two thirds of the validators agreed on.

    `statement_bytes` is the encoded SignedStatement as the chain holds it. `height` and
    `header_time_ns` are of the header that carries the state; freshness is judged by that time
    (rule 24). `confirmed_by` names the nodes that showed the same header.
    """

    statement: Statement
    statement_bytes: bytes
    header_hash: Hash
    header_time_ns: int
    height: int
    validator_count: int
    confirmed_by: tuple[str, ...]
    proof: ChainProof


def chain_proof(
    block: LightBlock, value: bytes, operations: tuple[ProofOperation, ...]
) -> ChainProof:
    """Portable form of what a node answered. Raises DataError."""
    steps = tuple(StateStep(key=one.key, data=one.data) for one in operations)
    return ChainProof(block=block, statement=decode(SignedStatement, value), steps=steps)


def verify_proof(
    unverified: ChainProof, *, anchor: ChainAnchor, server: ServerRegistration
) -> VerifiedChainHead:
    """Consensus over the header, the state under its app hash, both signatures of the server.

    Raises DataError, ProofError, SignatureError, and TooFarError if the validators of the anchor
    are no longer those of the block."""
    value = encode_trusted(unverified.statement)
    trust = verify_at_any_time(trust_anchor(anchor), unverified.block)
    operations = tuple(
        ProofOperation(kind=OPERATION_TYPE, key=one.key, data=one.data) for one in unverified.steps
    )
    app_hash = Hash(unverified.block.header.app_hash)
    verify_head(app_hash, server.server_log, value, operations)
    statement = verify_statement(
        unverified.statement,
        expected_chain_id=anchor.chain_id,
        expected_server_log=server.server_log,
        head_key=VerifyKey(server.head_key),
        co_key=CoVerifyKey(server.co_key),
    )
    return VerifiedChainHead(
        statement=statement,
        statement_bytes=value,
        header_hash=header_hash(unverified.block.header),
        header_time_ns=trust.time_ns,
        height=trust.height,
        validator_count=len(trust.validators),
        confirmed_by=(),
        proof=unverified,
    )

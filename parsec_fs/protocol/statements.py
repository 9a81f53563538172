"""What a server publishes on the chain: one constant-size statement per epoch (rules 16, 17).

Data flow: server/log/publisher -> SignedStatement -> chain -> abci_app/rules and audit.

E is the RFC 6962 tree of the server's epoch leaves; `epoch_leaf` already is a leaf hash (see
`hashing.epoch_leaf`), and the statement of epoch e signs the root of E at size e + 1.
"""

from dataclasses import dataclass
from typing import Annotated

from parsec_fs.protocol.codec import U32, U64, Bytes32, Bytes64, Label, Size, decode, encode
from parsec_fs.protocol.errors import DataError, SignatureError
from parsec_fs.protocol.hashing import server_log_id, tag
from parsec_fs.protocol.ids import Hash, ServerLogId
from parsec_fs.protocol.keys import CoSigningKey, CoVerifyKey, SigningKey, VerifyKey

_SIGN = tag("statement-signature")
CoKey = Annotated[bytes, Size(1312, 1312)]
CoSignature = Annotated[bytes, Size(2420, 2420)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """Epoch `epoch` (from 0, consecutive) of server log `server_log`; time in Unix milliseconds."""

    chain_id: Label
    server_log: ServerLogId
    epoch: U64
    epoch_leaf: Hash
    root: Hash
    time_ms: U64


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedStatement:
    """The exact bytes that were signed, and both signatures over them (rule 4)."""

    statement: Annotated[bytes, Size(1, 512)]
    signature: Bytes64
    co_signature: CoSignature


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerRegistration:
    """A server as the chain's genesis knows it. Times in milliseconds."""

    name: Label
    server_log: ServerLogId
    head_key: Bytes32
    co_key: CoKey
    epoch_ms: U32
    heartbeat_ms: U32

    def __post_init__(self) -> None:
        if bytes(self.server_log) != server_log_id(self.name, self.head_key, self.co_key):
            raise DataError("server registration: id does not follow from name and keys")


def sign_statement(statement: Statement, key: SigningKey, co_key: CoSigningKey) -> SignedStatement:
    """Both signatures over identical bytes. ML-DSA is randomised: sign once, store, resend."""
    data = encode(statement)
    return SignedStatement(
        statement=data, signature=key.sign(_SIGN + data), co_signature=co_key.sign(_SIGN + data)
    )


def verify_statement(
    unverified: SignedStatement,
    *,
    expected_chain_id: bytes,
    expected_server_log: ServerLogId,
    head_key: VerifyKey,
    co_key: CoVerifyKey,
) -> Statement:
    """The statement, if both signatures and the context hold. Raises DataError, SignatureError."""
    statement = decode(Statement, unverified.statement)
    if statement.chain_id != expected_chain_id or statement.server_log != expected_server_log:
        raise SignatureError("statement is for another chain or server")
    head_key.verify(_SIGN + unverified.statement, unverified.signature)
    co_key.verify(_SIGN + unverified.statement, unverified.co_signature)
    return statement

"""What a server publishes on the chain: one constant-size statement per epoch (rules 16, 17).

Data flow: server/log/publisher -> SignedStatement -> chain -> abci_app/rules and audit.

E is the RFC 6962 tree of the server's epoch leaves; `epoch_leaf` already is a leaf hash (see
`hashing.epoch_leaf`), and the statement of epoch e signs the root of E at size e + 1.
The keys that sign statements can change: both pairs, old and new, sign the change, and every later
statement carries all changes. So whoever has pinned the first keys needs nothing else to verify
any statement, and evidence and proofs stay complete (rules 17, 31).
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated

from parsec_fs.protocol.codec import U32, U64, Bytes32, Bytes64, Label, Size, decode, encode
from parsec_fs.protocol.errors import DataError, SignatureError
from parsec_fs.protocol.hashing import server_log_id, tag
from parsec_fs.protocol.ids import Hash, ServerLogId
from parsec_fs.protocol.keys import CoSigningKey, CoVerifyKey, SigningKey, VerifyKey
from parsec_fs.protocol.limits import KEY_CHANGES_MAX

_SIGN = tag("statement-signature")
_CHANGE_SIGN = tag("key-change-signature")
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
class KeyChange:
    """Change `number` (from 0) of the pair of keys that signs a server's statements."""

    chain_id: Label
    server_log: ServerLogId
    number: U32
    statement_key: Bytes32
    co_key: CoKey


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedKeyChange:
    """Signed by the pair before and by the pair that it names: nobody else's key can be named, and
    who has only a new key changes nothing."""

    change: Annotated[bytes, Size(1, 2048)]
    signature: Bytes64
    co_signature: CoSignature
    new_signature: Bytes64
    new_co_signature: CoSignature


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedStatement:
    """The exact bytes that were signed, and both signatures over them (rule 4), by the keys of the
    last of `changes`, or by those of the registration."""

    statement: Annotated[bytes, Size(1, 512)]
    signature: Bytes64
    co_signature: CoSignature
    changes: Annotated[tuple[SignedKeyChange, ...], Size(0, KEY_CHANGES_MAX)] = ()


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


def sign_statement(
    statement: Statement,
    key: SigningKey,
    co_key: CoSigningKey,
    *,
    changes: tuple[SignedKeyChange, ...] = (),
) -> SignedStatement:
    """Both signatures over identical bytes. ML-DSA is randomised: sign once, store, resend.
    `changes` lead from the registered keys to these."""
    data = encode(statement)
    return SignedStatement(
        statement=data,
        signature=key.sign(_SIGN + data),
        co_signature=co_key.sign(_SIGN + data),
        changes=changes,
    )


def sign_key_change(
    *,
    chain_id: bytes,
    server_log: ServerLogId,
    number: int,
    before: tuple[SigningKey, CoSigningKey],
    after: tuple[SigningKey, CoSigningKey],
) -> SignedKeyChange:
    """The change from one pair of keys to the next, signed by both (rule 17)."""
    change = KeyChange(
        chain_id=chain_id,
        server_log=server_log,
        number=number,
        statement_key=after[0].verify_key.raw,
        co_key=after[1].verify_key.raw,
    )
    data = encode(change)
    return SignedKeyChange(
        change=data,
        signature=before[0].sign(_CHANGE_SIGN + data),
        co_signature=before[1].sign(_CHANGE_SIGN + data),
        new_signature=after[0].sign(_CHANGE_SIGN + data),
        new_co_signature=after[1].sign(_CHANGE_SIGN + data),
    )


@lru_cache(maxsize=64)
def statement_keys(
    unverified_changes: tuple[SignedKeyChange, ...],
    *,
    chain_id: bytes,
    server_log: ServerLogId,
    head_key: bytes,
    co_key: bytes,
) -> tuple[VerifyKey, CoVerifyKey]:
    """The pair that signs after these changes; `head_key`, `co_key`: the registered ones, which
    sign without any. Raises DataError, SignatureError."""
    keys = VerifyKey(head_key), CoVerifyKey(co_key)
    used = {head_key, co_key}
    for number, one in enumerate(unverified_changes):
        change = decode(KeyChange, one.change)
        if (change.chain_id, change.server_log, change.number) != (chain_id, server_log, number):
            raise SignatureError("key change is for another chain, server or place")
        if not used.isdisjoint((change.statement_key, change.co_key)):
            raise SignatureError("key change: a key never comes back")
        after = VerifyKey(change.statement_key), CoVerifyKey(change.co_key)
        _verify_pair(one.change, one.signature, one.co_signature, keys)
        _verify_pair(one.change, one.new_signature, one.new_co_signature, after)
        used |= {change.statement_key, change.co_key}
        keys = after
    return keys


def _verify_pair(
    change: bytes, signature: bytes, co_signature: bytes, keys: tuple[VerifyKey, CoVerifyKey]
) -> None:
    keys[0].verify(_CHANGE_SIGN + change, signature)
    keys[1].verify(_CHANGE_SIGN + change, co_signature)


def verify_statement(
    unverified: SignedStatement,
    *,
    expected_chain_id: bytes,
    expected_server_log: ServerLogId,
    head_key: VerifyKey,
    co_key: CoVerifyKey,
) -> Statement:
    """The statement, if its context holds, and both signatures under the keys to which its changes
    lead from these, the registered ones. Raises DataError, SignatureError."""
    statement = decode(Statement, unverified.statement)
    if statement.chain_id != expected_chain_id or statement.server_log != expected_server_log:
        raise SignatureError("statement is for another chain or server")
    key, other = head_key, co_key
    if unverified.changes:
        key, other = statement_keys(
            unverified.changes,
            chain_id=expected_chain_id,
            server_log=expected_server_log,
            head_key=head_key.raw,
            co_key=co_key.raw,
        )
    key.verify(_SIGN + unverified.statement, unverified.signature)
    other.verify(_SIGN + unverified.statement, unverified.co_signature)
    return statement

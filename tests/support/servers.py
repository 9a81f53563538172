"""A metadata server reduced to what the chain sees of it: keys, epochs, statements."""

from copy import copy
from dataclasses import dataclass, field, replace
from typing import Any

from parsec_fs.protocol.codec import encode
from parsec_fs.protocol.hashing import epoch_leaf, server_log_id
from parsec_fs.protocol.ids import Hash, ServerLogId
from parsec_fs.protocol.keys import CoSigningKey, SigningKey
from parsec_fs.protocol.merkle import Frontier
from parsec_fs.protocol.statements import (
    ServerRegistration,
    SignedKeyChange,
    Statement,
    sign_key_change,
    sign_statement,
)

CHAIN_ID = b"parsec-test"


@dataclass(kw_only=True)
class FakePublisher:
    """Signs statements like a server; `accept` moves to the next epoch."""

    name: bytes = b"server"
    seed: bytes = bytes(range(32))
    chain_id: bytes = CHAIN_ID
    epoch_ms: int = 2_000
    heartbeat_ms: int = 2_000
    tree: Frontier = field(default_factory=Frontier)
    last_ms: int = 0

    def __post_init__(self) -> None:
        self.key = SigningKey(self.seed)
        self.co_key = CoSigningKey(self.seed)
        self.changes: tuple[SignedKeyChange, ...] = ()
        head_key, co_key = self.key.verify_key.raw, self.co_key.verify_key.raw
        self.registration = ServerRegistration(
            name=self.name,
            server_log=ServerLogId(server_log_id(self.name, head_key, co_key)),
            head_key=head_key,
            co_key=co_key,
            epoch_ms=self.epoch_ms,
            heartbeat_ms=self.heartbeat_ms,
        )

    def leaf(self, content: bytes = b"") -> Hash:
        """Leaf of the next epoch; other content makes a fork."""
        return epoch_leaf(self.tree.size.to_bytes(8, "big") + content)

    def statement(self, time_ms: int, *, content: bytes = b"") -> Statement:
        """The statement of the next epoch."""
        leaf = self.leaf(content)
        return Statement(
            chain_id=self.chain_id,
            server_log=self.registration.server_log,
            epoch=self.tree.size,
            epoch_leaf=leaf,
            root=self.tree.append(leaf).root(),
            time_ms=time_ms,
        )

    def sign(self, statement: Statement) -> bytes:
        """Transaction bytes."""
        return encode(sign_statement(statement, self.key, self.co_key, changes=self.changes))

    def changed(self, seed: bytes, **lies: Any) -> "FakePublisher":
        """The same server with the next pair of keys; `lies` replace parts of the change."""
        other = copy(self)
        other.key, other.co_key = SigningKey(seed), CoSigningKey(seed)
        change = sign_key_change(
            chain_id=self.chain_id,
            server_log=self.registration.server_log,
            number=len(self.changes),
            before=lies.pop("before", (self.key, self.co_key)),
            after=(other.key, other.co_key),
        )
        other.changes = (*self.changes, replace(change, **lies))
        return other

    def next_tx(self, time_ms: int, *, content: bytes = b"") -> bytes:
        """Transaction of the next epoch, taken as accepted."""
        statement = self.statement(time_ms, content=content)
        self.tree = self.tree.append(statement.epoch_leaf)
        self.last_ms = time_ms
        return self.sign(statement)

    def earliest_ms(self) -> int:
        """The chain takes the next epoch from this time on."""
        return self.last_ms + (self.epoch_ms + 1) // 2

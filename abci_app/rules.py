"""The rule that every validator applies to a statement (rule 17).

Data flow: transaction bytes -> `decide` -> next state | refusal -> application.

Accepted is only: a registered server, exactly its next epoch, exactly the leaf whose appending to
the accepted ones gives the signed root, in time, under both signatures. There is no overwriting
and no skipping, so a server can neither fork nor roll back what was once accepted. It carries the
accepted changes of its keys, and at most one more, which old and new keys signed: a retired key
signs nothing, and nobody goes back to it.

Deterministic: no clock, no randomness, no float, no order of a set. Any bytes give a decision;
nothing is raised. The signatures come after the cheap checks, so junk costs little.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from abci_app.codes import Code
from abci_app.state import STATEMENT_MAX_SIZE, ChainState, ServerState, with_statement
from parsec_fs.protocol.codec import decode
from parsec_fs.protocol.errors import DataError, SignatureError
from parsec_fs.protocol.ids import ServerLogId
from parsec_fs.protocol.keys import CoVerifyKey, VerifyKey
from parsec_fs.protocol.statements import (
    ServerRegistration,
    SignedKeyChange,
    SignedStatement,
    Statement,
    verify_statement,
)

CLOCK_SLACK_MS: Final = 10_000
"""Allowed difference of honest clocks, on top of how far a block's time can lie behind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """The state with the statement in it, and what the database files the bytes under."""

    state: ChainState
    server_log: ServerLogId
    epoch: int
    tx: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why the state stays as it was."""

    code: Code
    reason: str
    data: bytes = b""


Decision = Accepted | Refusal


def decide(
    state: ChainState, tx: bytes, *, block_time_ms: int, check_signatures: bool = True
) -> Decision:
    """Apply one transaction. Never raises.

    `check_signatures=False` is for a mempool that already checked these very bytes.
    """
    parsed = _parse(tx)
    if isinstance(parsed, Refusal):
        return parsed
    unverified_signed, unverified = parsed
    if unverified.chain_id != state.chain_id:
        return Refusal(code=Code.WRONG_CHAIN, reason="statement is for another chain")
    server = state.server(unverified.server_log)
    if server is None:
        return Refusal(code=Code.UNKNOWN_LOG, reason="server is not registered")
    refusal = _check_position(server, unverified, tx) or _check_changes(server, unverified_signed)
    if refusal is None and check_signatures:
        refusal = _check_signatures(state, server.registration, unverified_signed)
    if refusal is None:
        refusal = _check_not_ahead(server.registration, unverified, block_time_ms)
    if refusal is not None:
        return refusal
    return Accepted(
        state=with_statement(
            state, server, server.tree.append(unverified.epoch_leaf), tx, unverified.time_ms
        ),
        server_log=server.registration.server_log,
        epoch=unverified.epoch,
        tx=tx,
    )


def _parse(tx: bytes) -> tuple[SignedStatement, Statement] | Refusal:
    try:
        signed = decode(SignedStatement, tx, max_size=STATEMENT_MAX_SIZE)
        return signed, decode(Statement, signed.statement)
    except DataError as error:
        return Refusal(code=Code.MALFORMED, reason=str(error))


def _check_position(server: ServerState, statement: Statement, tx: bytes) -> Refusal | None:
    if tx == server.newest:
        return Refusal(code=Code.ALREADY_ACCEPTED, reason="already the newest statement")
    if statement.epoch != server.next_epoch:
        expected = str(server.next_epoch)
        return Refusal(
            code=Code.WRONG_EPOCH, reason=f"next epoch is {expected}", data=expected.encode()
        )
    if server.tree.append(statement.epoch_leaf).root() != statement.root:
        return Refusal(code=Code.WRONG_ROOT, reason="root does not extend the accepted leaves")
    # Doubled, because half of an odd number of milliseconds is not an integer.
    if server.newest and 2 * (statement.time_ms - server.time_ms) < server.registration.epoch_ms:
        return Refusal(code=Code.TOO_EARLY, reason="less than half an epoch after the last one")
    return None


def _check_changes(server: ServerState, unverified: SignedStatement) -> Refusal | None:
    """The newest statement carries what was accepted so far."""
    accepted: tuple[SignedKeyChange, ...] = ()
    if server.newest:
        accepted = decode(SignedStatement, server.newest, max_size=STATEMENT_MAX_SIZE).changes
    known = len(accepted)
    if unverified.changes[:known] != accepted or len(unverified.changes) > known + 1:
        reason = f"does not carry the {known} accepted key changes and at most one more"
        return Refusal(code=Code.WRONG_KEYS, reason=reason)
    return None


def _check_signatures(
    state: ChainState, registration: ServerRegistration, unverified: SignedStatement
) -> Refusal | None:
    head_key, co_key = registered_keys(registration.head_key, registration.co_key)
    try:
        verify_statement(
            unverified,
            expected_chain_id=state.chain_id,
            expected_server_log=registration.server_log,
            head_key=head_key,
            co_key=co_key,
        )
    except (DataError, SignatureError) as error:
        return Refusal(code=Code.BAD_SIGNATURE, reason=str(error))
    return None


def _check_not_ahead(
    registration: ServerRegistration, statement: Statement, block_time_ms: int
) -> Refusal | None:
    # A block carries the time of the one before it, which on an idle chain is a heartbeat old.
    slack = registration.heartbeat_ms + 2 * registration.epoch_ms + CLOCK_SLACK_MS
    if statement.time_ms > block_time_ms + slack:
        return Refusal(code=Code.AHEAD_OF_TIME, reason="statement is ahead of the chain's time")
    return None


@lru_cache(maxsize=1024)
def registered_keys(head_key: bytes, co_key: bytes) -> tuple[VerifyKey, CoVerifyKey]:
    """Key objects of a registration. Raises DataError; genesis has checked every key (rule 4)."""
    return VerifyKey(head_key), CoVerifyKey(co_key)

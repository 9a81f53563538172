"""What can be asked of the application, with proofs where the answer must not be believed.

Data flow: Query request -> `answer` over a committed state -> value, proof -> any client.

- `/store/heads/key`, data = lower-case hex of a server log id: its newest signed statement and a
  proof of two operations against the app hash in header `height` + 1. `height` is the last height
  that changed the state: the header after it exists as soon as a proof can, even on an idle chain.
- `/store/statement/<hex id>/<epoch>`: the statement of an epoch. No proof is needed; whoever asks
  checks it against the tree E of a newer statement.
"""

import re
from typing import Protocol

from abci_app import abci_pb2 as pb
from abci_app.codes import CODESPACE, Code
from abci_app.state import ChainState, heads, outer_entries
from parsec_fs.protocol.ids import ServerLogId
from parsec_fs.protocol.simple_map import (
    HEADS_KEY,
    HEADS_PATH,
    ProofOperation,
    encode_operation,
    prove,
)

_STATEMENT_PATH = re.compile(r"/store/statement/([0-9a-f]{64})/(0|[1-9]\d{0,18})", re.ASCII)


class StatementReader(Protocol):
    """Where accepted statements are kept."""

    def statement(self, server_log: ServerLogId, epoch: int) -> bytes | None:
        """Signed statement of a committed epoch."""


def answer(
    state: ChainState | None, request: pb.QueryRequest, statements: StatementReader
) -> pb.QueryResponse:
    """Answer from committed state alone. Never raises for any request."""
    if state is None:
        return _failure(Code.NOT_READY, "the chain has not begun", 0)
    if request.height and not state.changed_at <= request.height <= state.height:
        return _failure(Code.HEIGHT_NOT_KEPT, "only the newest state is kept", state.changed_at)
    if request.path == HEADS_PATH:
        return _head(state, request.data, prove_it=request.prove)
    match = _STATEMENT_PATH.fullmatch(request.path)
    if match is None:
        return _failure(Code.NO_SUCH_PATH, "no such path", state.changed_at)
    return _statement(state, ServerLogId(bytes.fromhex(match[1])), int(match[2]), statements)


def _head(state: ChainState, key: bytes, *, prove_it: bool) -> pb.QueryResponse:
    entries = heads(state)
    if key not in entries:
        return _failure(Code.NOT_FOUND, "no statement of this server yet", state.changed_at)
    response = _success(state, key, entries[key])
    if prove_it:
        operations = [
            encode_operation(key, prove(entries, key)),
            encode_operation(HEADS_KEY, prove(outer_entries(state), HEADS_KEY)),
        ]
        response.proof_ops.ops.extend([_operation(one) for one in operations])
    return response


def _operation(operation: ProofOperation) -> pb.ProofOp:
    return pb.ProofOp(type=operation.kind, key=operation.key, data=operation.data)


def _statement(
    state: ChainState, server_log: ServerLogId, epoch: int, statements: StatementReader
) -> pb.QueryResponse:
    value = statements.statement(server_log, epoch)
    if value is None:
        return _failure(Code.NOT_FOUND, "no statement of this epoch", state.changed_at)
    return _success(state, server_log.hex().encode(), value)


def _success(state: ChainState, key: bytes, value: bytes) -> pb.QueryResponse:
    return pb.QueryResponse(key=key, value=value, height=state.changed_at)


def _failure(code: Code, text: str, height: int) -> pb.QueryResponse:
    return pb.QueryResponse(code=code, log=text, height=height, codespace=CODESPACE)

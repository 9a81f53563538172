"""Drives an Application like a node does: genesis, blocks, queries."""

import json
from collections.abc import Sequence

from abci_app import abci_pb2 as pb
from abci_app.application import Application
from abci_app.genesis import app_state
from abci_app.rules import Accepted
from abci_app.state import ChainState
from parsec_fs.protocol.codec import decode
from parsec_fs.protocol.ids import ServerLogId
from parsec_fs.protocol.statements import SignedStatement, Statement
from tests.support.servers import CHAIN_ID, FakePublisher

START_MS = 1_700_000_000_000


class MemoryStore:
    """A StateStore whose disk is a dictionary; it outlives the Application."""

    def __init__(self) -> None:
        self.state: ChainState | None = None
        self.statements: dict[tuple[ServerLogId, int], bytes] = {}

    def load(self) -> ChainState | None:
        return self.state

    def commit(self, state: ChainState, accepted: Sequence[Accepted]) -> None:
        self.state = state
        self.statements.update({(one.server_log, one.epoch): one.tx for one in accepted})

    def statement(self, server_log: ServerLogId, epoch: int) -> bytes | None:
        return self.statements.get((server_log, epoch))


def timestamp(time_ms: int) -> pb.Timestamp:
    return pb.Timestamp(seconds=time_ms // 1000, nanos=time_ms % 1000 * 1_000_000)


def init_chain(*publishers: FakePublisher) -> pb.Request:
    registrations = [one.registration for one in publishers]
    return pb.Request(
        init_chain=pb.InitChainRequest(
            time=timestamp(START_MS),
            chain_id=CHAIN_ID.decode(),
            app_state_bytes=json.dumps(app_state(registrations)).encode(),
            initial_height=1,
        )
    )


def block(height: int, txs: Sequence[bytes] = (), *, time_ms: int | None = None) -> pb.Request:
    at = START_MS + height * 1_000 if time_ms is None else time_ms
    return pb.Request(
        finalize_block=pb.FinalizeBlockRequest(txs=txs, height=height, time=timestamp(at))
    )


def check(tx: bytes, *, again: bool = False) -> pb.Request:
    kind = pb.CheckTxRequest.RECHECK if again else pb.CheckTxRequest.NEW
    return pb.Request(check_tx=pb.CheckTxRequest(tx=tx, type=kind))


def head_query(publisher: FakePublisher) -> pb.Request:
    key = publisher.registration.server_log.hex().encode()
    return pb.Request(query=pb.QueryRequest(path="/store/heads/key", data=key, prove=True))


COMMIT = pb.Request(commit=pb.CommitRequest())
INFO = pb.Request(info=pb.InfoRequest())


def run_block(
    app: Application, height: int, txs: Sequence[bytes] = (), *, time_ms: int | None = None
) -> pb.FinalizeBlockResponse:
    """FinalizeBlock and Commit."""
    result = app.handle(block(height, txs, time_ms=time_ms)).finalize_block
    app.handle(COMMIT)
    return result


def parse(tx: bytes) -> Statement:
    return decode(Statement, decode(SignedStatement, tx).statement)

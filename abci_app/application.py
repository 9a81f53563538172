"""The ABCI application: one method per request, no I/O but the injected store.

Data flow: server -> `Application.handle` -> rules over the state -> response;
           FinalizeBlock computes a candidate, Commit makes it durable and current.

- Nothing is persisted before Commit, so the database is never ahead of the chain.
- FinalizeBlock may come twice for one height (the node restarted): the old candidate is dropped.
- A height at or below the committed one, or a gap, is refused: something is badly wrong.
- The mempool's view (`_checked`) starts from the committed state after every Commit.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from google.protobuf.message import Message

from abci_app import abci_pb2 as pb
from abci_app import proposals, queries
from abci_app.codes import CODESPACE, Code
from abci_app.genesis import parse_app_state
from abci_app.rules import Accepted, Decision, Refusal, decide
from abci_app.state import ChainState, app_hash, at_block, genesis_state
from parsec_fs.protocol.hashing import sha256
from parsec_fs.protocol.ids import ServerLogId

APP_VERSION: Final = 1
"""Goes into every header. A change of the rules is a new version."""

RECHECKS_WHILE_AHEAD: Final = 3
"""After a standstill blocks carry an old time, and a fresh statement seems ahead of it. It may wait
this many blocks in the mempool; after that its server's clock is wrong, and waiting would make
the chain produce blocks for ever."""
WAITING_MAX: Final = 64
"""Statements that may wait so at a time: a server with a wrong clock does not fill the mempool."""


class StateStore(Protocol):
    """Durable side of the application."""

    def load(self) -> ChainState | None:
        """State of the last Commit."""

    def commit(self, state: ChainState, accepted: Sequence[Accepted]) -> None:
        """One durable transaction."""

    def statement(self, server_log: ServerLogId, epoch: int) -> bytes | None:
        """Signed statement of a committed epoch."""


class Application:
    """State machine behind one CometBFT node. Every method is synchronous, so requests of several
    connections never interleave."""

    def __init__(self, store: StateStore, *, version: str, retain_blocks: int = 0) -> None:
        """`retain_blocks` = 0 keeps every chain block, otherwise the node may prune older ones."""
        self._store = store
        self._version = version
        self._retain_blocks = retain_blocks
        self._durable = store.load()
        self._current = self._durable
        """The committed state, or that of genesis until the first Commit."""
        self._checked = self._current
        self._candidate: tuple[ChainState, list[Accepted]] | None = None
        self._rechecks: dict[bytes, int] = {}

    def handle(self, request: pb.Request) -> pb.Response:
        """Dispatch by an explicit table. An exception means a bug or a broken node: stop."""
        name = request.WhichOneof("value")
        if name is None:
            raise RuntimeError("abci: request of an unknown kind")
        method: Callable[[Any], Message] = self._methods()[name]
        response = pb.Response()
        getattr(response, name).CopyFrom(method(getattr(request, name)))
        return response

    def _methods(self) -> dict[str, Callable[[Any], Message]]:
        return {
            "echo": self.echo,
            "flush": self.flush,
            "info": self.info,
            "init_chain": self.init_chain,
            "query": self.query,
            "check_tx": self.check_tx,
            "commit": self.commit,
            "list_snapshots": self.list_snapshots,
            "offer_snapshot": self.offer_snapshot,
            "load_snapshot_chunk": self.load_snapshot_chunk,
            "apply_snapshot_chunk": self.apply_snapshot_chunk,
            "prepare_proposal": self.prepare_proposal,
            "process_proposal": self.process_proposal,
            "extend_vote": self.extend_vote,
            "verify_vote_extension": self.verify_vote_extension,
            "finalize_block": self.finalize_block,
        }

    def echo(self, request: pb.EchoRequest) -> pb.EchoResponse:
        """Connection test."""
        return pb.EchoResponse(message=request.message)

    def flush(self, _request: pb.FlushRequest) -> pb.FlushResponse:
        """Everything before it was answered already; the server sends it out in order."""
        return pb.FlushResponse()

    def info(self, _request: pb.InfoRequest) -> pb.InfoResponse:
        """Where the node must start replaying: only what is durable counts."""
        response = pb.InfoResponse(
            data="parsec-abci", version=self._version, app_version=APP_VERSION
        )
        if self._durable is not None:
            response.last_block_height = self._durable.height
            response.last_block_app_hash = app_hash(self._durable)
        return response

    def init_chain(self, request: pb.InitChainRequest) -> pb.InitChainResponse:
        """Genesis; comes again if the node restarts before its first block."""
        if self._durable is not None:
            raise RuntimeError("abci: InitChain on a chain that has blocks")
        registrations, _ = parse_app_state(request.app_state_bytes)
        self._current = self._checked = genesis_state(
            request.chain_id.encode(),
            registrations,
            height=request.initial_height - 1,
            time_ms=_milliseconds(request.time),
        )
        return pb.InitChainResponse(app_hash=app_hash(self._current))

    def query(self, request: pb.QueryRequest) -> pb.QueryResponse:
        """From durable state alone."""
        return queries.answer(self._durable, request, self._store)

    def check_tx(self, request: pb.CheckTxRequest) -> pb.CheckTxResponse:
        """Mempool filter. Several queued epochs of one server pass, each on top of the other."""
        state = self._begun(self._checked)
        again = request.type == pb.CheckTxRequest.RECHECK
        decision = decide(
            state, request.tx, block_time_ms=state.block_time_ms, check_signatures=not again
        )
        if isinstance(decision, Accepted):
            self._checked = decision.state
            self._rechecks.pop(sha256(request.tx), None)
            return pb.CheckTxResponse()
        if decision.code is Code.AHEAD_OF_TIME and self._may_wait(request.tx, again=again):
            return pb.CheckTxResponse()
        return pb.CheckTxResponse(
            code=decision.code, data=decision.data, log=decision.reason, codespace=CODESPACE
        )

    def _may_wait(self, tx: bytes, *, again: bool) -> bool:
        key = sha256(tx)
        count = self._rechecks.pop(key, 0) + 1 if again else 0
        if count >= RECHECKS_WHILE_AHEAD or len(self._rechecks) >= WAITING_MAX:
            return False
        self._rechecks[key] = count
        return True

    def prepare_proposal(self, request: pb.PrepareProposalRequest) -> pb.PrepareProposalResponse:
        """Only what will be accepted enters a block that this node proposes."""
        chosen = proposals.choose(
            self._begun(self._current),
            request.txs,
            block_time_ms=_milliseconds(request.time),
            max_size=request.max_tx_bytes,
        )
        return pb.PrepareProposalResponse(txs=chosen)

    def process_proposal(self, request: pb.ProcessProposalRequest) -> pb.ProcessProposalResponse:
        """Vote."""
        verdict = pb.ProcessProposalResponse.REJECT
        if proposals.is_acceptable(request.txs):
            verdict = pb.ProcessProposalResponse.ACCEPT
        return pb.ProcessProposalResponse(status=verdict)

    def finalize_block(self, request: pb.FinalizeBlockRequest) -> pb.FinalizeBlockResponse:
        """Run the block on a candidate state. One result per transaction."""
        previous = self._begun(self._current)
        if request.height != previous.height + 1:
            raise RuntimeError(f"abci: block {request.height} after {previous.height}")
        time_ms = _milliseconds(request.time)
        state, accepted, results = previous, list[Accepted](), list[pb.TxResult]()
        for tx in request.txs:
            decision = decide(state, tx, block_time_ms=time_ms)
            results.append(_result(decision))
            self._rechecks.pop(sha256(tx), None)
            if isinstance(decision, Accepted):
                state = decision.state
                accepted.append(decision)
        state = at_block(state, previous=previous, height=request.height, time_ms=time_ms)
        self._candidate = state, accepted
        return pb.FinalizeBlockResponse(tx_results=results, app_hash=app_hash(state))

    def commit(self, _request: pb.CommitRequest) -> pb.CommitResponse:
        """The candidate becomes durable, then current."""
        if self._candidate is None:
            raise RuntimeError("abci: Commit without FinalizeBlock")
        state, accepted = self._candidate
        self._store.commit(state, accepted)
        self._durable = self._current = self._checked = state
        self._candidate = None
        if not self._retain_blocks:
            return pb.CommitResponse()
        return pb.CommitResponse(retain_height=max(0, state.height - self._retain_blocks))

    def extend_vote(self, _request: pb.ExtendVoteRequest) -> pb.ExtendVoteResponse:
        """Vote extensions are not enabled; an empty one is valid."""
        return pb.ExtendVoteResponse()

    def verify_vote_extension(
        self, request: pb.VerifyVoteExtensionRequest
    ) -> pb.VerifyVoteExtensionResponse:
        """Only the empty extension."""
        verdict = pb.VerifyVoteExtensionResponse.ACCEPT
        if request.vote_extension:
            verdict = pb.VerifyVoteExtensionResponse.REJECT
        return pb.VerifyVoteExtensionResponse(status=verdict)

    def list_snapshots(self, _request: pb.ListSnapshotsRequest) -> pb.ListSnapshotsResponse:
        """None: a new validator replays the blocks, which hold one small statement per epoch."""
        return pb.ListSnapshotsResponse()

    def offer_snapshot(self, _request: pb.OfferSnapshotRequest) -> pb.OfferSnapshotResponse:
        """Refused, as none of ours exists."""
        return pb.OfferSnapshotResponse(result=pb.OfferSnapshotResponse.REJECT)

    def load_snapshot_chunk(
        self, _request: pb.LoadSnapshotChunkRequest
    ) -> pb.LoadSnapshotChunkResponse:
        """Nothing to load."""
        return pb.LoadSnapshotChunkResponse()

    def apply_snapshot_chunk(
        self, _request: pb.ApplySnapshotChunkRequest
    ) -> pb.ApplySnapshotChunkResponse:
        """Never reached after a refused offer."""
        return pb.ApplySnapshotChunkResponse(result=pb.ApplySnapshotChunkResponse.ABORT)

    def _begun(self, state: ChainState | None) -> ChainState:
        if state is None:
            raise RuntimeError("abci: request before InitChain")
        return state


def _result(decision: Decision) -> pb.TxResult:
    match decision:
        case Accepted():
            return pb.TxResult()
        case Refusal(code=code, reason=reason, data=data):
            return pb.TxResult(code=code, log=reason, data=data, codespace=CODESPACE)


def _milliseconds(time: pb.Timestamp) -> int:
    """Rounded down; a time before 1970 counts as 1970."""
    return max(0, time.seconds * 1000 + time.nanos // 1_000_000)

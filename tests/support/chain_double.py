"""A chain node in this process: CometBFT's RPC over the real application and its rules.

Data flow: publisher -> `ChainDouble.call` -> CheckTx, blocks of abci_app.Application -> JSON.

A block is made as soon as a statement is there, unless the chain is `paused`, and as CometBFT does
another one, whose header carries the new state, unless the chain has `halted` in between; `offline`
loses every call. The store keeps the state, so a chain can be copied and gone back to.
"""

import base64
import json
from collections.abc import Callable
from copy import deepcopy
from datetime import UTC, datetime
from typing import Any

from abci_app import abci_pb2 as pb
from abci_app.application import Application
from abci_app.genesis import app_state
from parsec_fs.protocol.chain_rpc import Params
from parsec_fs.protocol.errors import OfflineError
from parsec_fs.protocol.statements import ServerRegistration
from tests.support.abci import COMMIT, MemoryStore, timestamp
from tests.support.servers import CHAIN_ID


class ChainDouble:
    """One node. `wall_ms` is the time of its blocks."""

    def __init__(
        self,
        *registrations: ServerRegistration,
        wall_ms: Callable[[], int],
        chain_id: bytes = CHAIN_ID,
    ) -> None:
        self.chain_id = chain_id
        self.paused = self.halted = self.offline = False
        self.catching_up = False
        self.sent: list[bytes] = []
        self.looks = 0
        self._wall_ms = wall_ms
        self._mempool: list[bytes] = []
        self._store = MemoryStore()
        self._height = 0
        self._app = self._start(registrations)
        self.make_block()

    def _start(self, registrations: tuple[ServerRegistration, ...]) -> Application:
        app = Application(self._store, version="double")
        app.handle(
            pb.Request(
                init_chain=pb.InitChainRequest(
                    time=timestamp(self._wall_ms()),
                    chain_id=self.chain_id.decode(),
                    app_state_bytes=json.dumps(app_state(registrations)).encode(),
                    initial_height=1,
                )
            )
        )
        return app

    @property
    def name(self) -> str:
        """For messages of the publisher."""
        return "chain double"

    def make_block(self) -> None:
        """Everything in the mempool, in order, and the block that proves it."""
        txs, self._mempool = self._mempool, []
        self._block(txs)
        if txs and not self.halted:
            self._block([])

    def _block(self, txs: list[bytes]) -> None:
        self._height += 1
        request = pb.FinalizeBlockRequest(
            txs=txs, height=self._height, time=timestamp(self._wall_ms())
        )
        self._app.handle(pb.Request(finalize_block=request))
        self._app.handle(COMMIT)

    def statements(self) -> list[bytes]:
        """Accepted statements in the order of their epochs."""
        return [tx for _, tx in sorted(self._store.statements.items())]

    def saved(self) -> tuple[MemoryStore, int]:
        """What a backup of the chain holds."""
        return deepcopy(self._store), self._height

    async def call(self, method: str, params: Params) -> bytes:
        """See `server.chain.ChainNode.call`."""
        if self.offline:
            raise OfflineError("chain double: offline")
        answers: dict[str, Callable[[Params], Any]] = {
            "broadcast_tx_sync": self._broadcast,
            "abci_query": self._query,
            "status": self._status,
        }
        result = answers[method](params)
        return json.dumps({"jsonrpc": "2.0", "id": 1, "result": result}).encode()

    def _broadcast(self, params: Params) -> dict[str, object]:
        tx = base64.b64decode(str(params["tx"]))
        self.sent.append(tx)
        checked = self._app.handle(pb.Request(check_tx=pb.CheckTxRequest(tx=tx))).check_tx
        if not checked.code:
            self._mempool.append(tx)
            if not self.paused:
                self.make_block()
        return {"code": checked.code, "log": checked.log, "data": checked.data.hex(), "hash": ""}

    def _query(self, params: Params) -> dict[str, object]:
        self.looks += 1
        request = pb.QueryRequest(
            path=str(params["path"]), data=bytes.fromhex(str(params["data"])), prove=False
        )
        answer = self._app.handle(pb.Request(query=request)).query
        response = {
            "code": answer.code,
            "log": answer.log,
            "key": base64.b64encode(answer.key).decode(),
            "value": base64.b64encode(answer.value).decode(),
            "height": str(answer.height),
        }
        return {"response": response}

    def _status(self, _params: Params) -> dict[str, object]:
        now = datetime.fromtimestamp(self._wall_ms() // 1000, UTC)
        return {
            "node_info": {"network": self.chain_id.decode()},
            "sync_info": {
                "latest_block_height": str(self._height),
                "latest_block_time": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
                "catching_up": self.catching_up,
            },
        }

"""What the chain tests do again and again: publish, follow, lie."""

import json
import time
from collections.abc import Callable
from typing import Any

from parsec_fs.audit.headers import trust_anchor
from parsec_fs.audit.light_client import ChainNode, LightClient, VerifiedChainHead
from parsec_fs.protocol.chain_rpc import Params
from parsec_fs.protocol.errors import OfflineError, StaleError
from tests.support.chain import ChainNet
from tests.support.servers import FakePublisher
from tests.support.waiting import eventually


def now_ms() -> int:
    """Unix milliseconds."""
    return time.time_ns() // 1_000_000


def light_client(
    net: ChainNet, publisher: FakePublisher, nodes: list[ChainNode] | None = None
) -> LightClient:
    """A client that trusts the genesis set and asks these nodes, or all."""
    return LightClient(
        nodes or [node.rpc for node in net.nodes],
        publisher.registration,
        trust_anchor(net.anchor(trusted_from_ns=time.time_ns())),
        now_ns=time.time_ns,
    )


async def head_of_epoch(
    client: LightClient, epoch: int, *, timeout_s: float = 15
) -> VerifiedChainHead:
    """Verified head once it has reached the epoch."""

    async def probe() -> VerifiedChainHead | None:
        try:
            head = await client.newest_head()
        except (StaleError, OfflineError):
            return None
        return head if head.statement.epoch >= epoch else None

    return await eventually(probe, timeout_s=timeout_s)


async def publish(net: ChainNet, publisher: FakePublisher, *, node: int = 0) -> bytes:
    """Send the next epoch's statement as soon as its time allows. Returns the bytes."""
    tx = publisher.next_tx(max(now_ms(), publisher.earliest_ms()))
    answer = await net.nodes[node].broadcast(tx)
    assert answer.code == 0, answer
    return tx


class LyingNode:
    """An honest node behind someone who changes its answers."""

    def __init__(self, honest: ChainNode, spoil: Callable[[str, Any], None]) -> None:
        self.name = "liar"
        self._honest = honest
        self._spoil = spoil

    async def call(self, method: str, params: Params) -> bytes:
        """The honest answer, changed."""
        document = json.loads(await self._honest.call(method, params))
        if "result" in document:
            self._spoil(method, document["result"])
        return json.dumps(document).encode()

"""One real validator: from a signed statement to a head that the light client verified."""

import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from abci_app.codes import Code
from parsec_fs.audit.headers import trust_anchor
from parsec_fs.audit.light_client import LightClient, VerifiedChainHead
from parsec_fs.protocol.errors import StaleError
from tests.support.chain import ChainNet, running_chain
from tests.support.servers import FakePublisher
from tests.support.waiting import eventually


def now_ms() -> int:
    return time.time_ns() // 1_000_000


@pytest.fixture
def publisher() -> FakePublisher:
    return FakePublisher()


@pytest.fixture
async def net(tmp_path: Path, publisher: FakePublisher) -> AsyncIterator[ChainNet]:
    async with running_chain(tmp_path, [publisher.registration]) as running:
        yield running


def light_client(net: ChainNet, publisher: FakePublisher) -> LightClient:
    return LightClient(
        [node.rpc for node in net.nodes],
        publisher.registration,
        trust_anchor(net.anchor(trusted_from_ns=time.time_ns())),
        now_ns=time.time_ns,
    )


async def head_of_epoch(client: LightClient, epoch: int) -> VerifiedChainHead:
    async def probe() -> VerifiedChainHead | None:
        try:
            head = await client.newest_head()
        except StaleError:
            return None
        return head if head.statement.epoch >= epoch else None

    return await eventually(probe)


async def test_statement_accepted_and_verified(net: ChainNet, publisher: FakePublisher) -> None:
    tx = publisher.next_tx(now_ms())
    assert (await net.nodes[0].broadcast(tx)).code == Code.OK
    client = light_client(net, publisher)
    head = await head_of_epoch(client, 0)
    assert head.statement_bytes == tx
    assert head.statement.root == publisher.tree.root()
    assert head.validator_count == 1
    assert client.trust.height == head.height
    assert client.lying == {}

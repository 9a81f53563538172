"""Four real validators: loss of one, loss of two, and nodes that lie to the light client."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from parsec_fs.audit.light_client import ChainNode
from tests.support.chain import ChainNet, running_chain
from tests.support.chain_clients import LyingNode, head_of_epoch, light_client, publish
from tests.support.servers import FakePublisher


@pytest.fixture
def publisher() -> FakePublisher:
    return FakePublisher()


@pytest.fixture
async def net(tmp_path: Path, publisher: FakePublisher) -> AsyncIterator[ChainNet]:
    async with running_chain(tmp_path, [publisher.registration], validators=4) as running:
        yield running


async def test_all_nodes_confirm_one_header(net: ChainNet, publisher: FakePublisher) -> None:
    tx = await publish(net, publisher)
    client = light_client(net, publisher)
    head = await head_of_epoch(client, 0)
    assert (head.statement_bytes, head.validator_count) == (tx, 4)
    assert len(head.confirmed_by) == 4
    assert client.lying == {}


async def test_one_of_four_lost_two_of_four_halts_and_recovers(
    net: ChainNet, publisher: FakePublisher
) -> None:
    first, _, third, fourth = net.nodes
    fourth.freeze()
    await publish(net, publisher)
    client = light_client(net, publisher, [first.rpc])
    await head_of_epoch(client, 0, timeout_s=30)

    third.freeze()
    height = (await first.status()).latest_height
    await publish(net, publisher)
    with trio.move_on_after(4) as halted:
        await first.wait_above(height + 1)
    assert halted.cancelled_caught

    third.thaw()
    await head_of_epoch(client, 1, timeout_s=30)
    fourth.thaw()
    await publish(net, publisher)
    head = await head_of_epoch(light_client(net, publisher), 2, timeout_s=30)
    assert head.statement.root == publisher.tree.root()


async def test_killed_validator_catches_up(net: ChainNet, publisher: FakePublisher) -> None:
    last = net.nodes[3]
    await last.kill()
    await publish(net, publisher)
    await head_of_epoch(light_client(net, publisher, [net.nodes[0].rpc]), 0, timeout_s=30)
    await last.start()
    await last.wait_until_up()
    own_view = light_client(net, publisher, [last.rpc])
    assert (await head_of_epoch(own_view, 0, timeout_s=30)).statement.epoch == 0


def forge_value(method: str, result: Any) -> None:
    if method == "abci_query":
        result["response"]["value"] = "AAAA"


def forge_proof(method: str, result: Any) -> None:
    if method == "abci_query":
        operations = result["response"]["proofOps"]["ops"]
        operations[0]["data"], operations[1]["data"] = (
            operations[1]["data"],
            operations[0]["data"],
        )


def forge_header(method: str, result: Any) -> None:
    if method == "commit":
        result["signed_header"]["header"]["app_hash"] = "00" * 32


def forge_commit(method: str, result: Any) -> None:
    if method == "commit":
        signatures = result["signed_header"]["commit"]["signatures"]
        signatures[0]["signature"], signatures[1]["signature"] = (
            signatures[1]["signature"],
            signatures[0]["signature"],
        )
        signatures[2]["timestamp"] = "2020-01-01T00:00:00Z"


def forge_validators(method: str, result: Any) -> None:
    if method == "validators":
        result["validators"][0]["voting_power"] = "1000"


async def test_every_kind_of_lie_is_caught(net: ChainNet, publisher: FakePublisher) -> None:
    tx = await publish(net, publisher)
    await head_of_epoch(light_client(net, publisher), 0)
    lies: list[Callable[[str, Any], None]] = [
        forge_value,
        forge_proof,
        forge_header,
        forge_commit,
        forge_validators,
    ]
    for spoil in lies:
        nodes: list[ChainNode] = [LyingNode(net.nodes[0].rpc, spoil), net.nodes[1].rpc]
        client = light_client(net, publisher, nodes)
        head = await client.newest_head()
        assert head.statement_bytes == tx, spoil
        assert set(client.lying) == {"liar"}, spoil

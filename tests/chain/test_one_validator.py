"""One real validator: acceptance, refusal, and every way of losing one of its two processes."""

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from abci_app.codes import Code
from abci_app.devnet import free_ports, load_network
from parsec_fs.protocol import chain_rpc
from parsec_fs.protocol.errors import RefusedError
from tests.support.chain import ChainNet, RunningNode, running_chain
from tests.support.chain_clients import head_of_epoch, light_client, now_ms, publish
from tests.support.servers import FakePublisher
from tests.support.waiting import eventually


@pytest.fixture
def publisher() -> FakePublisher:
    return FakePublisher()


@pytest.fixture
async def net(tmp_path: Path, publisher: FakePublisher) -> AsyncIterator[ChainNet]:
    async with running_chain(tmp_path, [publisher.registration]) as running:
        yield running


async def ended(node: RunningNode) -> bool:
    return node.comet is not None and node.comet.poll() is not None


async def test_statement_accepted_and_verified(net: ChainNet, publisher: FakePublisher) -> None:
    tx = await publish(net, publisher)
    client = light_client(net, publisher)
    head = await head_of_epoch(client, 0)
    assert head.statement_bytes == tx
    assert head.statement.root == publisher.tree.root()
    assert head.validator_count == 1
    assert client.trust.height == head.height
    assert client.lying == {}


async def test_refused_statements_never_reach_a_block(
    net: ChainNet, publisher: FakePublisher
) -> None:
    fork = publisher.sign(publisher.statement(now_ms(), content=b"fork"))
    tx = await publish(net, publisher)
    await head_of_epoch(light_client(net, publisher), 0)
    answer = await net.nodes[0].broadcast(fork)
    assert (answer.code, answer.data) == (Code.WRONG_EPOCH, b"1")
    other = publisher.statement(publisher.earliest_ms())
    wrong_root = FakePublisher().statement(0).root
    wrong = replace(other, root=wrong_root)
    assert (await net.nodes[0].broadcast(publisher.sign(wrong))).code == Code.WRONG_ROOT
    assert (await net.nodes[0].broadcast(b"junk")).code == Code.MALFORMED
    with pytest.raises(RefusedError) as caught:
        await net.nodes[0].broadcast(tx)
    assert caught.value.outcome == chain_rpc.OUTCOME_DUPLICATE


async def test_statements_of_past_epochs_can_be_read(
    net: ChainNet, publisher: FakePublisher
) -> None:
    client = light_client(net, publisher)
    txs = []
    for epoch in range(3):
        txs.append(await publish(net, publisher))
        await head_of_epoch(client, epoch)
    log = publisher.registration.server_log.hex()
    for epoch, tx in enumerate(txs):
        params = chain_rpc.query_params(f"/store/statement/{log}/{epoch}", b"", prove=False)
        raw = await net.nodes[0].rpc.call("abci_query", params)
        assert chain_rpc.parse_query(raw).value == tx


async def test_idle_chain_makes_no_blocks_but_the_heartbeat(
    net: ChainNet, publisher: FakePublisher
) -> None:
    await publish(net, publisher)
    client = light_client(net, publisher)
    head = await head_of_epoch(client, 0)
    height = await net.nodes[0].wait_above(head.height)
    assert height == head.height + 1
    assert (await client.newest_head()).height == head.height


async def restarted_head(net: ChainNet, publisher: FakePublisher) -> None:
    """The chain goes on after whatever happened."""
    await net.nodes[0].wait_until_up()
    await publish(net, publisher)
    head = await head_of_epoch(light_client(net, publisher), publisher.tree.size - 1)
    assert head.statement.root == publisher.tree.root()


async def test_killed_app_is_restarted(net: ChainNet, publisher: FakePublisher) -> None:
    await publish(net, publisher)
    await head_of_epoch(light_client(net, publisher), 0)
    node = net.nodes[0]
    await node.kill_app()
    await eventually(lambda: ended(node))
    await node.start()
    await restarted_head(net, publisher)


async def test_killed_node_is_restarted_beside_the_same_app(
    net: ChainNet, publisher: FakePublisher
) -> None:
    await publish(net, publisher)
    await head_of_epoch(light_client(net, publisher), 0)
    await net.nodes[0].kill_comet()
    await net.nodes[0].start_comet()
    await restarted_head(net, publisher)


async def test_lost_database_is_replayed_from_the_chain(
    net: ChainNet, publisher: FakePublisher
) -> None:
    client = light_client(net, publisher)
    for epoch in range(2):
        await publish(net, publisher)
        await head_of_epoch(client, epoch)
    node = net.nodes[0]
    await node.kill()
    shutil.rmtree(Path(node.node.home) / "app")
    await node.start()
    await restarted_head(net, publisher)


async def test_rollback_of_node_and_app_goes_together(
    net: ChainNet, publisher: FakePublisher
) -> None:
    await publish(net, publisher)
    await head_of_epoch(light_client(net, publisher), 0)
    node = net.nodes[0]
    assert node.comet is not None
    node.comet.send_signal(signal.SIGTERM)
    await node.comet.wait()
    await node.kill_app()
    app_home = str(Path(node.node.home) / "app")
    before = inspect(app_home)["height"]
    parsec_abci("rollback", "--home", app_home)
    assert inspect(app_home)["height"] == before - 1
    node.run_cometbft("rollback")
    await node.start()
    await restarted_head(net, publisher)


def parsec_abci(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "abci_app", *arguments],
        check=True,
        capture_output=True,
        text=True,
        timeout=30,
    )
    return done.stdout


def inspect(app_home: str) -> dict[str, int]:
    report: dict[str, int] = json.loads(parsec_abci("inspect", "--home", app_home))
    return report


async def test_layout_is_found_again(net: ChainNet) -> None:
    root = Path(net.network.nodes[0].home).parent
    assert load_network(root) == net.network
    assert len(set(free_ports(5))) == 5

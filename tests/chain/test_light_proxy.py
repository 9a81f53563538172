"""CometBFT's own light proxy as the oracle of our state proofs."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import trio

from abci_app.devnet import find_cometbft, free_ports
from parsec_fs.audit.headers import header_hash
from parsec_fs.protocol import chain_rpc
from parsec_fs.protocol.chain_rpc import QueryAnswer
from parsec_fs.protocol.errors import OfflineError
from parsec_fs.protocol.simple_map import HEADS_PATH, log_key
from parsec_fs.remote.chain_node import HttpChainNode
from tests.support.chain import ChainNet, running_chain, start_process, stop_process
from tests.support.chain_clients import head_of_epoch, light_client, publish
from tests.support.servers import CHAIN_ID, FakePublisher
from tests.support.waiting import eventually


@asynccontextmanager
async def light_proxy(net: ChainNet, folder: Path) -> AsyncIterator[HttpChainNode]:
    """`cometbft light` that trusts block 1 and checks everything it passes on."""
    first = net.nodes[0].rpc
    raw = await first.call("commit", chain_rpc.height_params(1))
    trusted = header_hash(chain_rpc.parse_signed_header(raw).header).hex()
    (port,) = free_ports(1)
    command = [str(find_cometbft()), "light", CHAIN_ID.decode()]
    command += ["--primary", net.nodes[0].node.rpc_url, "--witnesses", net.nodes[1].node.rpc_url]
    command += ["--height", "1", "--hash", trusted, "--home-dir", str(folder)]
    command += ["--laddr", f"tcp://127.0.0.1:{port}", "--home", str(folder)]
    process = await start_process(command, folder / "light.log")
    try:
        async with httpx.AsyncClient(timeout=10, trust_env=False) as client:
            yield HttpChainNode(f"http://127.0.0.1:{port}", client)
    finally:
        with trio.CancelScope(shield=True):
            await stop_process(process)


async def test_light_proxy_accepts_our_proof(tmp_path: Path) -> None:
    publisher = FakePublisher()
    async with running_chain(tmp_path, [publisher.registration], validators=2) as net:
        tx = await publish(net, publisher)
        await head_of_epoch(light_client(net, publisher), 0)
        (tmp_path / "light").mkdir()
        async with light_proxy(net, tmp_path / "light") as proxy:
            key = log_key(publisher.registration.server_log)
            params = chain_rpc.query_params(HEADS_PATH, key, prove=True)

            async def probe() -> QueryAnswer | None:
                try:
                    return chain_rpc.parse_query(await proxy.call("abci_query", params))
                except OfflineError:
                    return None

            answer = await eventually(probe, timeout_s=15)
            assert (answer.code, answer.value) == (0, tx)

"""A real chain on loopback: CometBFT processes with our application, started and broken at will."""

import os
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
import trio

from abci_app.devnet import (
    TEST_TIMING,
    Network,
    Node,
    Timing,
    app_command,
    create_network,
    find_cometbft,
    free_ports,
    node_command,
    node_config,
)
from parsec_fs.protocol import chain_rpc
from parsec_fs.protocol.chain_rpc import BroadcastAnswer, NodeStatus
from parsec_fs.protocol.chain_types import ChainAnchor
from parsec_fs.protocol.errors import InputError, ParsecFSError
from parsec_fs.protocol.statements import ServerRegistration
from parsec_fs.remote.chain_node import HttpChainNode
from tests.support.servers import CHAIN_ID
from tests.support.waiting import eventually


def require_cometbft() -> Path:
    """Path of the pinned binary, or skip; an environment variable turns skipping off."""
    try:
        return find_cometbft()
    except InputError as error:
        if os.environ.get("PARSEC_REQUIRE_COMETBFT"):
            raise
        pytest.skip(str(error))


class RunningNode:
    """One validator: its application and its CometBFT process."""

    def __init__(self, node: Node, cometbft: Path, client: httpx.AsyncClient) -> None:
        self.node = node
        self.rpc = HttpChainNode(node.rpc_url, client)
        self._cometbft = cometbft
        self._client = client
        self.app: trio.Process | None = None
        self.comet: trio.Process | None = None

    async def start_app(self) -> None:
        """Start the application."""
        self.app = await start_process(app_command(self.node), Path(self.node.home) / "app.log")

    async def start_comet(self) -> None:
        """Start CometBFT."""
        log = Path(self.node.home) / "comet.log"
        self.comet = await start_process(node_command(self._cometbft, self.node), log)

    async def start(self) -> None:
        """Start both; CometBFT dials the application again until it listens."""
        await self.start_app()
        await eventually(self._app_listens)
        await self.start_comet()

    async def _app_listens(self) -> bool:
        address = self.node.app_address
        if not address.startswith("unix://"):
            return True
        try:
            stream = await trio.open_unix_socket(address.removeprefix("unix://"))
        except OSError:
            return False
        await stream.aclose()
        return True

    async def kill_app(self) -> None:
        """SIGKILL the application; CometBFT then ends by itself."""
        await stop_process(self.app)

    async def kill_comet(self) -> None:
        """SIGKILL CometBFT."""
        await stop_process(self.comet)

    async def kill(self) -> None:
        """SIGKILL both."""
        await self.kill_comet()
        await self.kill_app()

    def clone(self, home: Path, timing: Timing = TEST_TIMING) -> "RunningNode":
        """A second node with the same key and genesis: what a dishonest validator would run."""
        shutil.copytree(self.node.home, home, ignore=shutil.ignore_patterns("abci.sock"))
        rpc_port, p2p_port = free_ports(2)
        node = replace(
            self.node,
            home=str(home),
            rpc_port=rpc_port,
            p2p_port=p2p_port,
            app_address=f"unix://{home / 'abci.sock'}",
        )
        (home / "config/config.toml").write_text(node_config(node, [node], timing))
        return RunningNode(node, self._cometbft, self._client)

    def run_cometbft(self, command: str) -> None:
        """An offline command on this node's data."""
        subprocess.run(
            [str(self._cometbft), command, "--home", self.node.home],
            check=True,
            capture_output=True,
            timeout=60,
        )

    def freeze(self) -> None:
        """SIGSTOP both."""
        for process in (self.comet, self.app):
            if process is not None:
                process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT both."""
        for process in (self.comet, self.app):
            if process is not None:
                process.send_signal(signal.SIGCONT)

    async def status(self) -> NodeStatus:
        """Raises OfflineError while the node is down."""
        return chain_rpc.parse_status(await self.rpc.call("status", {}))

    async def is_up(self) -> bool:
        """The RPC answers and at least one block exists."""
        try:
            return (await self.status()).latest_height >= 1
        except ParsecFSError:
            return False

    async def broadcast(self, tx: bytes) -> BroadcastAnswer:
        """Hand a transaction to this node's mempool."""
        raw = await self.rpc.call("broadcast_tx_sync", chain_rpc.broadcast_params(tx))
        return chain_rpc.parse_broadcast(raw)

    async def wait_until_up(self) -> None:
        """Until the first block, or until it answers again."""
        await eventually(self.is_up, timeout_s=30)

    async def wait_above(self, height: int, *, timeout_s: float = 20) -> int:
        """Until a block above `height` exists."""

        async def probe() -> int | None:
            try:
                latest = (await self.status()).latest_height
            except ParsecFSError:
                return None
            return latest if latest > height else None

        return await eventually(probe, timeout_s=timeout_s)


class ChainNet:
    """A running network."""

    def __init__(self, network: Network, nodes: Sequence[RunningNode]) -> None:
        self.network = network
        self.nodes = list(nodes)

    def genesis(self) -> bytes:
        """The genesis file, which a test may know as an operator does."""
        return (Path(self.network.nodes[0].home) / "config/genesis.json").read_bytes()

    def anchor(self, *, trusted_from_ns: int) -> ChainAnchor:
        """What an invitation would carry."""
        parsed = chain_rpc.parse_genesis(self.genesis())
        return ChainAnchor(
            chain_id=parsed.chain_id,
            validators=parsed.validators,
            operators=parsed.operators,
            trusted_from_ns=trusted_from_ns,
        )


@asynccontextmanager
async def running_chain(
    root: Path,
    registrations: Sequence[ServerRegistration],
    *,
    validators: int = 1,
    timing: Timing = TEST_TIMING,
) -> AsyncIterator[ChainNet]:
    """A fresh network, up; every process is gone afterwards."""
    cometbft = require_cometbft()
    network = create_network(
        root,
        registrations,
        chain_id=CHAIN_ID.decode(),
        validators=validators,
        timing=timing,
        cometbft=cometbft,
        now=datetime.now(UTC),
    )
    async with httpx.AsyncClient(timeout=5, trust_env=False) as client:
        net = ChainNet(network, [RunningNode(one, cometbft, client) for one in network.nodes])
        try:
            for node in net.nodes:
                await node.start()
            for node in net.nodes:
                await node.wait_until_up()
            yield net
        finally:
            with trio.CancelScope(shield=True):
                for node in net.nodes:
                    await node.kill()


async def start_process(command: list[str], log: Path) -> trio.Process:
    """A process whose output goes to a file."""
    with log.open("ab") as output:
        return await trio.lowlevel.open_process(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )


async def stop_process(process: trio.Process | None) -> None:
    """SIGKILL, and wait until it is gone."""
    if process is not None and process.returncode is None:
        process.kill()
        await process.wait()

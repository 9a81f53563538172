"""The real metadata server for tests: in this process, or as a process of its own.

Data flow: test -> `in_process` (ASGI, any piece replaceable) or `server_process` (real socket).

    async with in_process(tmp_path) as running:            # no chain: epochs stay due
        http = running.http()                              # httpx client, base_url is set
    chain = ChainDouble(identity.registration, wall_ms=wall_ms)
    async with in_process(tmp_path, nodes=[chain]) as running: ...

    async with server_process(home, rpc_urls=[...]) as process:   # after make_home(home)
        process.url
    async with socket_server(home) as process: ...                # a socket, but no chain
"""

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import trio

from abci_app.devnet import free_ports
from parsec_fs.protocol.codec import decode, encode
from parsec_fs.protocol.commands import Answer, Nothing, Outcome, ServerInfo
from server.app import Outside, Server, running, wall_ms
from server.blocks.directory import DirectoryStore
from server.chain import ChainNode
from server.config import Config, Timing
from server.identity import ServerIdentity, create_identity, load_identity, make_identity
from server.store.database import Database
from tests.support.permits import operating
from tests.support.servers import CHAIN_ID
from tests.support.waiting import eventually

BASE_URL = "http://server.test"
FAST = Timing(stamp_window_ms=5, poll_s=0.01, resend_s=0.2)


def server_identity(
    *, seed: bytes = b"s" * 32, epoch_ms: int = 2_000, heartbeat_ms: int = 2_000
) -> ServerIdentity:
    """Keys that follow from a seed."""
    return make_identity(
        name=b"server",
        epoch_ms=epoch_ms,
        heartbeat_ms=heartbeat_ms,
        head_seed=seed,
        co_seed=seed,
    )


def config_for_tests(**changes: object) -> Config:
    """Short windows, everything else as in production."""
    base = Config(chain_id=CHAIN_ID, rpc_urls=(), timing=FAST)
    return replace(base, **changes)  # type: ignore[arg-type]


def outside(folder: Path, nodes: Sequence[ChainNode] = ()) -> Outside:
    """Database and blocks below a folder; running again over it is a restart."""
    folder.mkdir(parents=True, exist_ok=True)
    return Outside(
        database=Database(f"sqlite:///{folder / 'server.sqlite'}"),
        blocks=DirectoryStore(folder / "blocks"),
        nodes=nodes,
    )


@dataclass(frozen=True, kw_only=True)
class InProcess:
    """A server of this process."""

    server: Server
    identity: ServerIdentity
    config: Config

    def http(self) -> httpx.AsyncClient:
        """A client whose requests go straight into the application."""
        transport = httpx.ASGITransport(app=self.server.app, raise_app_exceptions=True)
        return httpx.AsyncClient(transport=transport, base_url=BASE_URL)


@asynccontextmanager
async def in_process(
    folder: Path,
    *,
    nodes: Sequence[ChainNode] = (),
    config: Config | None = None,
    identity: ServerIdentity | None = None,
    pieces: Outside | None = None,
) -> AsyncIterator[InProcess]:
    """A running server with its background tasks; `pieces` replace what it gets from outside."""
    config, identity = config or config_for_tests(), identity or server_identity()
    pieces = pieces or outside(folder, nodes)
    try:
        async with running(config, identity, pieces) as server:
            with operating(identity.server_log, pieces.database, folder):
                yield InProcess(server=server, identity=identity, config=config)
    finally:
        pieces.database.close()


@dataclass(kw_only=True)
class ServerProcess:
    """`parsec-server run`, on a port of its own."""

    home: Path
    url: str
    command: list[str]
    process: trio.Process | None = None

    async def start(self) -> None:
        """Start and wait until it answers."""
        with (self.home / "server.log").open("ab") as output:
            self.process = await trio.lowlevel.open_process(
                self.command, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        await eventually(self.info, timeout_s=60)

    async def info(self) -> ServerInfo | None:
        """What server/info answers; None while it does not."""
        try:
            async with httpx.AsyncClient(trust_env=False) as client:
                answer = await client.post(f"{self.url}/v1/server/info", content=encode(Nothing()))
        except httpx.HTTPError:
            return None
        decoded = decode(Answer, answer.content)
        return decode(ServerInfo, decoded.body) if decoded.outcome == Outcome.OK else None

    async def kill(self, number: int = signal.SIGKILL) -> int:
        """End it; the exit code."""
        assert self.process is not None
        if self.process.returncode is None:
            self.process.send_signal(number)
        return await self.process.wait()

    def output(self) -> str:
        """What it wrote."""
        return (self.home / "server.log").read_text()


def make_home(home: Path, *, epoch_ms: int = 2_000, heartbeat_ms: int = 2_000) -> ServerIdentity:
    """What `parsec-server init` makes; the registration is for the chain's genesis."""
    create_identity(home, name=b"server", epoch_ms=epoch_ms, heartbeat_ms=heartbeat_ms)
    return load_identity(home)


@asynccontextmanager
async def server_process(
    home: Path, *, rpc_urls: Sequence[str], chain_id: bytes = CHAIN_ID, extra: Sequence[str] = ()
) -> AsyncIterator[ServerProcess]:
    """A server process over a home that `make_home` made; gone afterwards."""
    (port,) = free_ports(1)
    parts = [part for url in rpc_urls for part in ("--rpc", url)]
    command = [
        *(os.path.join(os.path.dirname(sys.executable), "parsec-server"), "run"),
        *("--home", str(home), "--listen", f"127.0.0.1:{port}"),
        *("--chain-id", chain_id.decode(), *parts, *extra),
    ]
    async with _started(home, port, command) as process:
        yield process


@asynccontextmanager
async def socket_server(home: Path) -> AsyncIterator[ServerProcess]:
    """The real application on a real socket over a home that `make_home` made, without a chain:
    open at once, epochs stay due."""
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "tests.support.serve", str(home), str(port)]
    async with _started(home, port, command) as process:
        yield process


@asynccontextmanager
async def _started(home: Path, port: int, command: list[str]) -> AsyncIterator[ServerProcess]:
    process = ServerProcess(home=home, url=f"http://127.0.0.1:{port}", command=command)
    database = Database(f"sqlite:///{home / 'server.sqlite'}")
    try:
        await process.start()
        with operating(load_identity(home).server_log, database, home):
            yield process
    finally:
        database.close()
        with trio.CancelScope(shield=True):
            await process.kill()


__all__ = [
    "BASE_URL",
    "FAST",
    "InProcess",
    "ServerProcess",
    "in_process",
    "make_home",
    "outside",
    "server_identity",
    "server_process",
    "socket_server",
    "config_for_tests",
    "wall_ms",
]

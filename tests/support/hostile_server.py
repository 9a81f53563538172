"""The metadata server turned against its users: the real application, the real keys, and lies.

usage: python -m tests.support.hostile_server --home DIR --chain-id ID --rpc URL
           --listen HOST:PORT --control PORT --node PORT

Data flow: devices -> public port -> `World` -> branches; test -> control port -> which lie to tell;
devices -> node port -> `LyingNode` -> real chain node.

Control: a POST of one JSON object `{"do": command, ...}`; see `Control`.
"""

import argparse
import json
import logging
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from parsec_fs.protocol import chain_rpc
from parsec_fs.protocol.codec import encode
from parsec_fs.protocol.ids import BlockId, DeviceId, Hash, RealmId
from parsec_fs.protocol.statements import SignedStatement
from server import listener
from server.app import Outside, wall_ms
from server.chain import HttpChainNode, new_client
from server.config import Config
from server.identity import load_identity
from server.log.epochs import EpochCache
from server.store import epochs as stored_epochs
from tests.support.hostile_records import append_again
from tests.support.hostile_world import MAIN, TwoFacedPublisher, World, pad
from tests.support.lying_node import LyingNode

Json = dict[str, Any]


class Control:
    """What a test can tell the server to do."""

    def __init__(self, world: World, publisher: TwoFacedPublisher, node: LyingNode) -> None:
        self._world = world
        self._publisher = publisher
        self._node = node

    async def answer(self, request: Request) -> Response:
        """Dispatch by the name of the command."""
        order: Json = json.loads(await request.body())
        try:
            result = await getattr(self, f"do_{order.pop('do')}")(**order)
        except Exception as error:
            logging.exception("control")
            return JSONResponse({"error": repr(error)})
        return JSONResponse(result or {})

    async def do_fork(self, name: str, source: str = MAIN) -> None:
        """Copy a branch as it is now."""
        await self._world.fork(name, source)

    async def do_route(self, devices: list[str], branch: str) -> None:
        """Show a branch to some devices from now on."""
        self._world.route([DeviceId(bytes.fromhex(one)) for one in devices], branch)

    async def do_anchor(self, plan: list[str]) -> None:
        """Anchor these branches in turn, by epoch number."""
        async with self._world.changing:
            self._world.plan = plan

    async def do_pad(self, branches: list[str]) -> None:
        """Keep these branches at one length, by read stamps, now and at each cut."""
        async with self._world.changing:
            self._world.padded = branches
            await pad([self._world.branches[name] for name in branches])

    async def do_apart(self, branch: str) -> None:
        """Sign other statements for this branch; the chain never sees them."""
        async with self._world.changing:
            self._world.apart.add(branch)

    async def do_list_twice(self, branch: str) -> None:
        """List the organization a second time, as it is in this branch."""
        async with self._world.changing:
            self._world.twice = branch

    async def do_hold(self, held: bool) -> None:
        """Cut no more epochs, or go on."""
        async with self._world.changing:  # a cut that was under way is over
            if not held:
                self._world.may_cut.set()
            elif self._world.may_cut.is_set():
                self._world.may_cut = anyio.Event()

    async def do_block(self, id: str, data: str | None) -> None:
        """Give other bytes for a block; null: it is lost."""
        self._world.blocks.lies[BlockId(bytes.fromhex(id))] = (
            None if data is None else bytes.fromhex(data)
        )

    async def do_payload(self, hash: str, data: str) -> None:
        """Give another payload for a hash."""
        self._world.payloads[Hash(bytes.fromhex(hash))] = bytes.fromhex(data)

    async def do_append_again(self, branch: str, realm: str, number: int) -> None:
        """Append the realm's certificate of this number (0: its creation) once more."""
        async with self._world.changing:
            await append_again(
                self._world.branches[branch].database,
                RealmId(bytes.fromhex(realm)),
                number,
                context=self._world.context,
                now_ms=wall_ms(),
            )

    async def do_honest(self) -> None:
        """Tell no lies about blocks and payloads any more."""
        self._world.blocks.lies.clear()
        self._world.payloads.clear()

    async def do_node(self, lie: str) -> None:
        """What the chain node forges."""
        self._node.lie = lie

    async def do_epochs(self) -> Json:
        """How many are final."""
        database = self._world.branches[MAIN].database
        return {"final": await database.read(stored_epochs.count_final)}

    async def do_publish_again(self, other_root: bool) -> Json:
        """Send a second statement for the newest final epoch; what the chain says to it."""
        database = self._world.branches[MAIN].database
        newest = await database.read(stored_epochs.newest)
        assert newest is not None
        signed = newest.statement
        if other_root:
            before = await database.read(
                lambda tx: stored_epochs.range_of(tx, newest.epoch - 1, newest.epoch)
            )
            previous = before[0] if before else None
            signed = self._publisher.sign(newest.epoch, Hash(bytes(32)), previous).statement
        params = chain_rpc.broadcast_params(encode(signed))
        raw = await self._world.nodes[0].call("broadcast_tx_sync", params)
        return {"epoch": newest.epoch, "answer": json.loads(raw)}


class _Quiet(uvicorn.Server):
    """Leaves signals to the public listener."""

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


async def _serve_beside(app: Starlette, port: int) -> None:
    config = uvicorn.Config(app, port=port, log_level="warning", lifespan="off", access_log=False)
    await _Quiet(config).serve()


async def run(options: argparse.Namespace) -> None:
    """Until SIGTERM."""
    identity = load_identity(options.home)
    config = Config(chain_id=options.chain_id.encode(), rpc_urls=(options.rpc,))
    address = listener.parse_address(options.listen, None, None)
    async with new_client() as client, anyio.create_task_group() as tasks:
        real = HttpChainNode(options.rpc, client)
        world = World(
            home=options.home, config=config, identity=identity, nodes=[real], tasks=tasks
        )
        main = await world.open(MAIN)
        publisher = TwoFacedPublisher(
            database=main.database,
            cache=EpochCache(),
            nodes=[real],
            identity=identity,
            chain_id=config.chain_id,
            timing=config.timing,
            wall_ms=wall_ms,
            random=Outside.__dataclass_fields__["random"].default,  # type: ignore[arg-type]
        )
        publisher.world = world

        async def other_statement(epoch: int) -> SignedStatement:
            return await publisher.statement(next(iter(world.apart)), epoch)

        node = LyingNode(real, other_statement)
        control = Control(world, publisher, node)
        routes = [Route("/", control.answer, methods=["POST"])]
        tasks.start_soon(_serve_beside, Starlette(routes=routes), options.control)
        tasks.start_soon(_serve_beside, node.app, options.node)
        tasks.start_soon(publisher.run)

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await world.app(scope, receive, send)

        with listener.bind(address) as bound:
            await listener.serve(app, bound, address)  # type: ignore[arg-type]
        tasks.cancel_scope.cancel()


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--chain-id", required=True)
    parser.add_argument("--rpc", required=True)
    parser.add_argument("--listen", required=True)
    parser.add_argument("--control", type=int, required=True)
    parser.add_argument("--node", type=int, required=True)
    logging.basicConfig(level=logging.INFO)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    anyio.run(run, parser.parse_args())


if __name__ == "__main__":
    main()

"""Composition root: opens every part of the server and hands each what it needs.

Data flow: cli -> `running` -> Starlette application -> listener; tests call it in process, or put
pieces of their own in place of database, block store, chain nodes, clock and randomness.
"""

import os
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import anyio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response

from parsec_fs.protocol.commands import Outcome
from server.announcer import Announcer
from server.blocks.base import BlockStore
from server.chain import ChainNode
from server.config import Config
from server.founding import Founder
from server.http import block, epoch, events, mailbox, org, realm, recovery, session
from server.http import log as log_routes
from server.http import server as server_routes
from server.http.endpoint import answer
from server.http.services import Services
from server.identity import ServerIdentity
from server.limits import Buckets
from server.log.books import Books
from server.log.clock import LeasedClock
from server.log.epochs import EpochCache, EpochReader
from server.log.publisher import Publisher
from server.log.reader import Reader
from server.log.sequencer import Sequencer
from server.log.stamps import StampWindows
from server.log.transactor import Transactor
from server.sessions import Sessions
from server.store.database import Database
from server.store.server_row import open_server


def wall_ms() -> int:
    """Unix time in milliseconds."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Outside:
    """What the server gets from the world; a test puts its own here."""

    database: Database
    blocks: BlockStore
    nodes: Sequence[ChainNode]
    """Nodes of the chain. Without any, nothing is published and every epoch stays due."""
    wall_ms: Callable[[], int] = wall_ms
    monotonic: Callable[[], float] = time.monotonic
    random: Callable[[int], bytes] = os.urandom


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A running server."""

    app: Starlette
    services: Services
    publisher: Publisher | None


@asynccontextmanager
async def running(
    config: Config, identity: ServerIdentity, outside: Outside
) -> AsyncIterator[Server]:
    """The server with its background tasks, as long as the block lasts.

    Raises InputError for a database that is not this server's; OldCopyError ends the block as soon
    as the chain turns out to be ahead (rule 32)."""
    database = outside.database
    await anyio.to_thread.run_sync(database.migrate)
    lease_ms = await database.write(
        lambda transaction: open_server(transaction, identity.server_log, config.chain_id)
    )
    cache = EpochCache()
    publisher = _publisher(config, identity, outside, cache) if outside.nodes else None
    async with anyio.create_task_group() as tasks:
        services = _services(config, identity, outside, cache, lease_ms, tasks, publisher)
        if publisher is not None:
            tasks.start_soon(publisher.run)
        yield Server(app=application(services), services=services, publisher=publisher)
        tasks.cancel_scope.cancel()


def _publisher(
    config: Config, identity: ServerIdentity, outside: Outside, cache: EpochCache
) -> Publisher:
    return Publisher(
        database=outside.database,
        cache=cache,
        nodes=outside.nodes,
        identity=identity,
        chain_id=config.chain_id,
        timing=config.timing,
        wall_ms=outside.wall_ms,
        random=outside.random,
    )


def _services(
    config: Config,
    identity: ServerIdentity,
    outside: Outside,
    cache: EpochCache,
    lease_ms: int,
    tasks: anyio.abc.TaskGroup,
    publisher: Publisher | None,
) -> Services:
    database, quotas, timing = outside.database, config.quotas, config.timing
    announcer = Announcer()
    books = Books(
        database, chain_id=config.chain_id, server_log=identity.server_log, most=config.books
    )
    clock = LeasedClock(database, lease_ms=lease_ms, ahead_ms=timing.lease_ms, wall=outside.wall_ms)
    transactor = Transactor(database=database, books=books, clock=clock, identity=identity)
    sequencer = Sequencer(
        database=database,
        transactor=transactor,
        identity=identity,
        config=config,
        announce=announcer.announce,
    )
    reader = Reader(database=database, books=books, transactor=transactor)
    return Services(
        config=config,
        identity=identity,
        database=database,
        sessions=Sessions(
            server_log=identity.server_log,
            most=quotas.sessions,
            monotonic=outside.monotonic,
            random=outside.random,
        ),
        founder=Founder(
            database=database,
            transactor=transactor,
            clock=clock,
            identity=identity,
            config=config,
        ),
        sequencer=sequencer,
        reader=reader,
        stamps=StampWindows(
            sequencer=sequencer, reader=reader, tasks=tasks, window_ms=timing.stamp_window_ms
        ),
        epochs=EpochReader(database=database, reader=reader, cache=cache),
        announcer=announcer,
        blocks=outside.blocks,
        request_limits=Buckets(quotas.requests, outside.monotonic),
        unsigned_limits=Buckets(quotas.unsigned, outside.monotonic),
        stamp_limits=Buckets(quotas.stamps, outside.monotonic),
        wall_ms=outside.wall_ms,
        is_open=lambda: publisher is None or publisher.confirmed,
    )


def application(services: Services) -> Starlette:
    """The HTTP interface over these parts."""
    nouns = (
        server_routes,
        session,
        org,
        realm,
        log_routes,
        epoch,
        block,
        mailbox,
        recovery,
        events,
    )
    routes = [route for noun in nouns for route in noun.routes(services)]
    handlers = {404: _no_such_command, 405: _no_such_command}
    return Starlette(routes=routes, exception_handlers=handlers)


async def _no_such_command(_request: Request, _error: Exception) -> Response:
    return answer(Outcome.NOT_FOUND)

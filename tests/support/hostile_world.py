"""A server with several faces: complete copies of the real application, one signing identity.

Data flow: device -> `World.app` -> the branch that this device is shown -> real application over
its own copy of the database; `TwoFacedPublisher` -> which branch an epoch anchors -> chain.

Nothing of the server is imitated. A branch is the real program over a copy of the database, so all
that it answers is what an honest server would answer from there; the lies are which device sees
which branch, and which branch the chain sees. Requests that change something and the cut of an
epoch exclude each other, so that a lie is exactly as large as the test says.
"""

import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import anyio
from sqlalchemy import delete, insert, select, update
from starlette.applications import Starlette
from starlette.types import Message, Receive, Scope, Send

from parsec_fs.protocol.commands import (
    AUTH_HEADER,
    Epochs,
    OpenSession,
    Payloads,
    ReadPayloads,
    SessionOpened,
    parse_authorization,
)
from parsec_fs.protocol.epochs import opening_leaf, org_logs_map, orgs_map
from parsec_fs.protocol.errors import ParsecFSError
from parsec_fs.protocol.hashing import org_map_key, payload_hash
from parsec_fs.protocol.ids import NO_HASH, BlockId, DeviceId, Hash, LogId, OrgId, RealmId
from parsec_fs.protocol.keys import VerifyKey
from parsec_fs.protocol.merkle import Frontier
from parsec_fs.protocol.records import Context, EpochOpening, LogState
from parsec_fs.protocol.statements import SignedStatement, Statement, sign_statement
from server.app import Outside, Server, application, running
from server.blocks.base import BlockStore, Redirect, Stored
from server.blocks.directory import DirectoryStore
from server.chain import ChainNode
from server.config import Config
from server.identity import ServerIdentity
from server.log.epochs import EpochCache, EpochReader
from server.log.publisher import Publisher
from server.log.reader import Reader
from server.log.sequencer import Caller
from server.sessions import Sessions
from server.store import epochs as stored_epochs
from server.store import schema
from server.store.database import Database, Transaction
from server.store.epochs import StoredEpoch
from server.store.logs import all_logs

MAIN: Final = "main"
CHANGES: Final = ("/append", "/create", "/commit", "/observe")
"""Ends of paths whose requests change a log."""


class KnownSessions(Sessions):
    """Sessions that all branches share, and whose they are."""

    def __init__(self, **parts: Any) -> None:
        super().__init__(**parts)
        self.devices: dict[bytes, DeviceId] = {}

    def open(self, request: OpenSession, key: VerifyKey | None) -> SessionOpened:
        opened = super().open(request, key)
        self.devices[opened.session] = request.device
        return opened


class LyingBlocks:
    """A block store that gives other bytes for the ids that it is told."""

    def __init__(self, inner: BlockStore) -> None:
        self._inner = inner
        self.lies: dict[BlockId, bytes | None] = {}

    async def put(self, realm: RealmId, blocks: Mapping[BlockId, bytes]) -> dict[BlockId, Stored]:
        return await self._inner.put(realm, blocks)

    async def get(self, realm: RealmId, block: BlockId) -> bytes | Redirect | None:
        if block in self.lies:
            return self.lies[block]
        return await self._inner.get(realm, block)


class LyingReader(Reader):
    """Gives other payloads for the hashes that it is told."""

    lies: dict[Hash, bytes]

    async def payloads(self, caller: Caller, request: ReadPayloads) -> Any:
        answer = await super().payloads(caller, request)
        if not isinstance(answer, Payloads):
            return answer
        found = tuple(self.lies.get(Hash(payload_hash(one)), one) for one in answer.payloads)
        return Payloads(payloads=found)


class CrookedEpochReader(EpochReader):
    """Opens the organization at the second place where a crooked publisher listed it."""

    database: Database
    decoy: Callable[[OrgId], OrgId]

    async def read(self, caller: Caller, request: Any) -> Any:
        answer = await super().read(caller, request)
        if not isinstance(answer, Epochs):
            return answer

        def crooked(transaction: Transaction) -> tuple[Any, ...]:
            return tuple(self._crooked(transaction, caller.org, one) for one in answer.epochs)

        return replace(answer, epochs=await self.database.read(crooked))

    def _crooked(self, transaction: Transaction, org: OrgId, proof: Any) -> Any:
        rows = transaction.execute(
            select(schema.org_roots.c.org, schema.org_roots.c.root).where(
                schema.org_roots.c.epoch == proof.opening.epoch
            )
        )
        roots = {OrgId(row.org): Hash(row.root) for row in rows}
        if self.decoy(org) not in roots:
            return proof
        return replace(proof, org_proof=orgs_map(roots).open(org_map_key(self.decoy(org))))


@dataclass(kw_only=True)
class Branch:
    """One history: the real application over its own database."""

    name: str
    database: Database
    server: Server
    app: Starlette


@dataclass(kw_only=True)
class World:
    """All branches of one server, and what each device is shown of them."""

    home: Path
    config: Config
    identity: ServerIdentity
    nodes: Sequence[ChainNode]
    tasks: anyio.abc.TaskGroup
    branches: dict[str, Branch] = field(default_factory=dict)
    routes: dict[DeviceId, str] = field(default_factory=dict)
    plan: list[str] = field(default_factory=lambda: [MAIN])
    """Branches that the next epochs anchor, in turn."""
    padded: list[str] = field(default_factory=list)
    """Branches that are brought to one length with read stamps before each cut."""
    apart: set[str] = field(default_factory=set)
    """Branches with statements of their own, which the chain never sees."""
    twice: str = ""
    """A branch that is listed beside the anchored one, under a place that is nobody's."""
    payloads: dict[Hash, bytes] = field(default_factory=dict)
    silent: bool = False
    """Answer no device at all."""

    def __post_init__(self) -> None:
        self.blocks = LyingBlocks(DirectoryStore(self.home / "blocks"))
        self.changing = anyio.Lock()
        self.may_cut = anyio.Event()
        self.may_cut.set()
        self._streams: dict[DeviceId, list[anyio.CancelScope]] = {}
        monotonic, random = _defaults()
        self.sessions = KnownSessions(
            server_log=self.identity.server_log,
            most=self.config.quotas.sessions,
            monotonic=monotonic,
            random=random,
        )

    @property
    def context(self) -> Context:
        """Chain and server of everything that is signed here."""
        return Context(
            chain_id=self.config.chain_id,
            genesis=NO_HASH,
            server_log=self.identity.server_log,
            org=OrgId(bytes(32)),
            log=LogId(bytes(32)),
        )

    # Branches

    def file(self, name: str) -> Path:
        """Database of a branch."""
        return self.home / ("server.sqlite" if name == MAIN else f"branch-{name}.sqlite")

    async def open(self, name: str) -> Branch:
        """Start the application of a branch, in a task of its own."""
        branch: Branch = await self.tasks.start(self._serve, name)
        self.branches[name] = branch
        return branch

    async def _serve(self, name: str, *, task_status: anyio.abc.TaskStatus[Branch]) -> None:
        database = Database(f"sqlite:///{self.file(name)}")
        outside = Outside(database=database, blocks=self.blocks, nodes=())
        async with running(self.config, self.identity, outside) as server:
            services = replace(
                server.services,
                sessions=self.sessions,
                reader=_lying(server.services.reader, self.payloads),
                epochs=self._epoch_reader(name, database, server.services.reader),
            )
            app = application(services)
            task_status.started(Branch(name=name, database=database, server=server, app=app))
            await anyio.sleep_forever()

    def _epoch_reader(self, name: str, database: Database, reader: Reader) -> EpochReader:
        """Without a cache between epochs: what is in the database counts."""
        crooked = CrookedEpochReader(database=database, reader=reader, cache=EpochCache())
        crooked.database = database
        crooked.decoy = lambda org: decoy(org) if self.twice == name else OrgId(bytes(32))
        return crooked

    async def fork(self, name: str, source: str = MAIN) -> None:
        """Copy the history of a branch as it is now."""
        async with self.changing:  # until it is there for the next cut: it would lack that epoch
            await anyio.to_thread.run_sync(_copy, self.file(source), self.file(name))
            await self.open(name)

    def route(self, devices: Iterable[DeviceId], name: str) -> None:
        """From now on these devices see this branch; their event streams are cut."""
        for device in devices:
            self.routes[device] = name
            for scope in self._streams.pop(device, []):
                scope.cancel()

    # HTTP

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI: each device to its branch."""
        if scope["type"] != "http" or self.silent:
            return
        device = self._device(scope)
        branch = self.branches[self.routes.get(device, MAIN) if device else MAIN]
        if scope["path"] == "/v1/events" and device is not None:
            with anyio.CancelScope() as stream:
                self._streams.setdefault(device, []).append(stream)
                await branch.app(scope, receive, send)
        elif scope["path"].endswith(CHANGES):
            await self._change(branch, scope, receive, send)
        else:
            await branch.app(scope, receive, send)

    async def _change(self, branch: Branch, scope: Scope, receive: Receive, send: Send) -> None:
        """The whole request is here before the lock is taken: a slow device holds up nobody."""
        body = await _body(receive)
        async with self.changing:
            await branch.app(scope, _replay(body, receive), send)

    def _device(self, scope: Scope) -> DeviceId | None:
        headers = {name.decode().lower(): value.decode() for name, value in scope["headers"]}
        try:
            session = parse_authorization(headers.get(AUTH_HEADER.lower(), "")).session
        except ParsecFSError:
            return None
        return self.sessions.devices.get(session)


class TwoFacedPublisher(Publisher):
    """Cuts all branches at once and anchors the one whose turn it is."""

    world: World

    async def publish_next(self) -> StoredEpoch:
        await self.world.may_cut.wait()
        stored = await super().publish_next()
        for branch in self.world.branches.values():
            await branch.database.write(
                lambda transaction: stored_epochs.mark_final(transaction, stored.epoch)
            )
        return stored

    async def cut_and_sign(self, previous: StoredEpoch | None) -> StoredEpoch:
        world = self.world
        async with world.changing:
            epoch = 0 if previous is None else previous.epoch + 1
            await pad([world.branches[name] for name in world.padded])
            for branch in world.branches.values():
                await branch.database.write(_cutting_everything(epoch))
            anchored = world.branches[world.plan[epoch % len(world.plan)]]
            stored = await self._anchor_branch(epoch, anchored, previous)
            for name in world.apart:
                await self._sign_apart(epoch, world.branches[name])
        return stored

    async def _anchor_branch(
        self, epoch: int, anchored: Branch, previous: StoredEpoch | None
    ) -> StoredEpoch:
        """One statement, and openings of it in every branch that is not apart."""
        rows = await anchored.database.read(lambda transaction: _cut_rows(transaction, epoch))
        roots = _roots(rows)
        twice = self.world.branches.get(self.world.twice)
        if twice is not None:
            own = await twice.database.read(lambda transaction: _cut_rows(transaction, epoch))
            roots |= {decoy(org): root for org, root in _roots(own).items()}
        stored = self.sign(epoch, orgs_map(roots).root(), previous)
        for branch in self.world.branches.values():
            if branch.name not in self.world.apart:
                kept = [] if branch is twice else rows
                await branch.database.write(_adopting(stored, roots, kept))
        return stored

    async def _sign_apart(self, epoch: int, branch: Branch) -> None:
        """Another statement for the same epoch, for the devices of this branch."""
        before = await branch.database.read(stored_epochs.newest)
        rows = await branch.database.read(lambda transaction: _cut_rows(transaction, epoch))
        roots = _roots(rows)
        stored = self.sign(epoch, orgs_map(roots).root(), before)
        await branch.database.write(_adopting(stored, roots, []))

    def sign(self, epoch: int, map_root: Hash, previous: StoredEpoch | None) -> StoredEpoch:
        """A statement as the honest publisher makes it."""
        opening = EpochOpening(epoch=epoch, map_root=map_root, salt=self._random(32))
        tree = (Frontier() if previous is None else previous.tree).append(opening_leaf(opening))
        half = (self._identity.registration.epoch_ms + 1) // 2
        earliest = 0 if previous is None else previous.time_ms + half
        statement = Statement(
            chain_id=self._chain_id,
            server_log=self._identity.server_log,
            epoch=epoch,
            epoch_leaf=opening_leaf(opening),
            root=tree.root(),
            time_ms=max(self._wall_ms(), earliest),
        )
        return StoredEpoch(
            opening=opening,
            tree=tree,
            time_ms=statement.time_ms,
            statement=sign_statement(statement, self._identity.head_key, self._identity.co_key),
            final=False,
        )

    async def statement(self, name: str, epoch: int) -> SignedStatement:
        """That a branch shows for an epoch."""
        (stored,) = await self.world.branches[name].database.read(
            lambda transaction: stored_epochs.range_of(transaction, epoch, epoch + 1)
        )
        return stored.statement


def decoy(org: OrgId) -> OrgId:
    """An id that nobody has: the second place of an organization in the map."""
    return OrgId(bytes(byte ^ 0xFF for byte in org))


def _lying(reader: Reader, lies: dict[Hash, bytes]) -> Reader:
    liar = LyingReader.__new__(LyingReader)
    vars(liar).update(vars(reader))
    liar.lies = lies
    return liar


def _copy(source: Path, target: Path) -> None:
    """A consistent copy of a database that is in use."""
    reading, writing = sqlite3.connect(source), sqlite3.connect(target)
    try:
        reading.backup(writing)
    finally:
        reading.close()
        writing.close()


def _cutting_everything(epoch: int) -> Callable[[Transaction], None]:
    """Cut all logs, also those that have not changed: another branch may have been anchored."""

    def cut(transaction: Transaction) -> None:
        transaction.execute(update(schema.logs).values(changed_in=epoch))
        stored_epochs.cut(transaction, epoch)

    return cut


def _cut_rows(transaction: Transaction, epoch: int) -> list[dict[str, Any]]:
    query = select(schema.cuts).where(schema.cuts.c.epoch == epoch)
    return [dict(row._mapping) for row in transaction.execute(query)]


def _roots(rows: list[dict[str, Any]]) -> dict[OrgId, Hash]:
    states: dict[OrgId, list[LogState]] = {}
    for row in rows:
        state = LogState(
            log=LogId(row["log"]),
            size=row["size"],
            log_root=Hash(row["log_root"]),
            map_root=Hash(row["map_root"]),
            org_size=row["org_size"],
        )
        states.setdefault(OrgId(row["org"]), []).append(state)
    return {org: org_logs_map(org, logs).root() for org, logs in states.items()}


def _adopting(
    stored: StoredEpoch, roots: dict[OrgId, Hash], rows: list[dict[str, Any]]
) -> Callable[[Transaction], None]:
    """Store an epoch; with `rows` as if this branch were the one that was cut."""

    def write(transaction: Transaction) -> None:
        if rows:
            mine = schema.cuts.c.epoch == stored.epoch
            transaction.execute(delete(schema.cuts).where(mine))
            transaction.execute(insert(schema.cuts), rows)
        stored_epochs.add_epoch(transaction, stored, roots)

    return write


async def pad(branches: list[Branch]) -> None:
    """Bring the realm logs of some branches to one length, longer than at the last cut, so that no
    check on sizes sees anything. Read stamps need nobody's key."""
    sizes = {one.name: await one.database.read(_realm_sizes) for one in branches}
    for branch in branches:
        for log, (org, size) in sizes[branch.name].items():
            longest = max(other[log][1] for other in sizes.values() if log in other)
            for _ in range(longest + 1 - size):
                stamp = _defaults()[1](32)
                await branch.server.services.sequencer.add_stamps(
                    org, RealmId(log), frozenset({stamp}), [bytes(32)]
                )


def _realm_sizes(transaction: Transaction) -> dict[LogId, tuple[OrgId, int]]:
    found = all_logs(transaction)
    return {one.log: (one.org, one.position.size) for one in found if bytes(one.org) != one.log}


def _defaults() -> tuple[Callable[[], float], Callable[[int], bytes]]:
    fields = Outside.__dataclass_fields__
    monotonic, random = fields["monotonic"].default, fields["random"].default
    return monotonic, random  # type: ignore[return-value]


async def _body(receive: Receive) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = bool(message.get("more_body"))
    return body


def _replay(body: bytes, receive: Receive) -> Receive:
    """A body that was read already."""
    parts: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def next_message() -> Message:
        return parts.pop() if parts else await receive()

    return next_message

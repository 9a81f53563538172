"""The logs in memory: one book per log, with its lock and its newest durable state.

Data flow: store -> restore -> book -> sequencer decides on it -> durable -> `book.state`.

States are immutable, so a reader keeps what it took. Only the holder of a book's lock replaces its
state, and only by one that is durable. A book may still be behind, when another process serves the
same database: every transaction compares sizes, and a stale book is loaded again.
"""

from collections import OrderedDict
from dataclasses import dataclass, field, replace

import anyio

from parsec_fs.protocol.ids import NO_HASH, LogId, OrgId, RealmId, ServerLogId
from parsec_fs.protocol.membership import OrgState
from parsec_fs.protocol.realm_state import RealmState
from parsec_fs.protocol.records import Context
from server.log.restore import restore_org, restore_realm
from server.store import logs
from server.store.database import Database, Transaction


@dataclass(slots=True, kw_only=True)
class OrgBook:
    """An org log's newest durable state, or none if there is no such organization."""

    lock: anyio.Lock = field(default_factory=anyio.Lock)
    state: OrgState | None = None


@dataclass(slots=True, kw_only=True)
class RealmBook:
    """A realm log's newest durable state, or none if there is no such realm."""

    lock: anyio.Lock = field(default_factory=anyio.Lock)
    state: RealmState | None = None


class Books:
    """All books, the least recently used dropped beyond `most`. An empty book is not kept."""

    def __init__(
        self, database: Database, *, chain_id: bytes, server_log: ServerLogId, most: int
    ) -> None:
        self._database = database
        self._context = Context(
            chain_id=chain_id,
            genesis=NO_HASH,
            server_log=server_log,
            org=OrgId(bytes(32)),
            log=LogId(bytes(32)),
        )
        self._most = most
        self._orgs: OrderedDict[OrgId, OrgBook] = OrderedDict()
        self._realms: OrderedDict[RealmId, RealmBook] = OrderedDict()

    async def org(self, org: OrgId) -> OrgBook:
        """The book of an organization, loaded; its state is None if there is none."""
        book = self._orgs.setdefault(org, OrgBook())
        self._orgs.move_to_end(org)
        _trim(self._orgs, self._most)
        if book.state is None:
            await self._load_org(org, book)
        return book

    async def realm(self, org: OrgId, realm: RealmId) -> RealmBook:
        """The book of a realm of this organization, loaded; without state if there is none."""
        book = self._realms.setdefault(realm, RealmBook())
        self._realms.move_to_end(realm)
        _trim(self._realms, self._most)
        if book.state is None:
            await self._load_realm(org, realm, book)
        if book.state is not None and book.state.context.org != org:
            return RealmBook()
        return book

    def loaded_realm(self, realm: RealmId) -> RealmState | None:
        """State of a realm if it is in memory."""
        book = self._realms.get(realm)
        return None if book is None else book.state

    async def refresh(self, org: OrgId, realm: RealmId | None) -> None:
        """Load again whatever another process has changed."""
        await self._load_org(org, await self.org(org))
        if realm is not None:
            await self._load_realm(org, realm, await self.realm(org, realm))

    async def _load_org(self, org: OrgId, book: OrgBook) -> None:
        async with book.lock:
            size = 0 if book.state is None else book.state.position.size
            state = await self._database.read(lambda tx: load_org(tx, org, known_size=size))
            book.state = state or book.state
        if book.state is None:
            self._orgs.pop(org, None)

    async def _load_realm(self, org: OrgId, realm: RealmId, book: RealmBook) -> None:
        async with book.lock:
            size = 0 if book.state is None else book.state.position.size
            state = await self._database.read(
                lambda tx: load_realm(tx, realm, context=self._context, known_size=size)
            )
            book.state = state or book.state
        if book.state is None:
            self._realms.pop(realm, None)


def load_org(transaction: Transaction, org: OrgId, *, known_size: int = 0) -> OrgState | None:
    """The stored state; None if there is none, or if it is the known one."""
    stored = logs.stored_log(transaction, LogId(org))
    if stored is None or stored.org != org or stored.position.size == known_size:
        return None
    return restore_org(
        logs.read_leaves(transaction, stored.log, 0, stored.position.size),
        expected_map_root=stored.map_root,
        expected_root=stored.position.root(),
    )


def load_realm(
    transaction: Transaction, realm: RealmId, *, context: Context, known_size: int = 0
) -> RealmState | None:
    """The stored state; None if there is none, or if it is the known one. Of `context`, chain and
    server count."""
    stored = logs.stored_log(transaction, LogId(realm))
    if stored is None or bytes(stored.org) == realm or stored.position.size == known_size:
        return None
    return restore_realm(
        replace(context, genesis=stored.genesis, org=stored.org, log=stored.log),
        stored.position,
        certificates=logs.certificates(transaction, stored.log),
        chains=logs.read_chains(transaction, stored.log),
        objects=logs.all_objects(transaction, stored.log),
        expected_map_root=stored.map_root,
    )


def _trim(books: OrderedDict[OrgId, OrgBook] | OrderedDict[RealmId, RealmBook], most: int) -> None:
    while len(books) > most:
        books.popitem(last=False)

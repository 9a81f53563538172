"""The logs in memory: one book per log, with its lock and its newest durable state.

Data flow: store -> restore -> book -> transactor decides on it -> durable -> `book.state`.

States are immutable, so a reader keeps what it took. Only the holder of a book's lock replaces its
state, and only by one that is durable. Where other processes serve the same database a book can be
behind: then it catches up by the leaves that it lacks, here before a reading, and in the transactor
under the log's own lock before a decision.
"""

from collections import OrderedDict
from dataclasses import dataclass, field, replace

import anyio

from parsec_fs.protocol.ids import NO_HASH, LogId, OrgId, RealmId, ServerLogId
from parsec_fs.protocol.membership import OrgState
from parsec_fs.protocol.realm_state import RealmState
from parsec_fs.protocol.records import Context
from server.log.restore import (
    changed_objects,
    check_stored,
    continue_org,
    continue_realm,
    restore_org,
    restore_realm,
)
from server.store import logs, objects
from server.store.database import Database, Transaction
from server.store.logs import StoredLog


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
        if book.state is None or self._database.is_shared:
            async with book.lock:
                known = book.state
                book.state = await self._database.read(lambda tx: newest_org(tx, org, known))
        if book.state is None:
            self._orgs.pop(org, None)
        return book

    async def realm(self, org: OrgId, realm: RealmId) -> RealmBook:
        """The book of a realm of this organization, loaded; without state if there is none."""
        book = self._realms.setdefault(realm, RealmBook())
        self._realms.move_to_end(realm)
        _trim(self._realms, self._most)
        if book.state is None or self._database.is_shared:
            async with book.lock:
                known = book.state
                book.state = await self._database.read(
                    lambda tx: newest_realm(tx, realm, known, context=self._context)
                )
        if book.state is None:
            self._realms.pop(realm, None)
        if book.state is not None and book.state.context.org != org:
            return RealmBook()
        return book


def newest_org(transaction: Transaction, org: OrgId, known: OrgState | None) -> OrgState | None:
    """The stored state of an organization, from a known one on. None if there is none."""
    stored = logs.stored_log(transaction, LogId(org))
    if stored is None or stored.org != org:
        return None
    if known is None:
        leaves = logs.read_leaves(transaction, stored.log, 0, stored.position.size)
        state = restore_org(leaves)
    elif known.position.size == stored.position.size:
        return known
    else:
        start, end = known.position.size, stored.position.size
        state = continue_org(known, logs.read_leaves(transaction, stored.log, start, end))
    return check_stored(state, stored)


def newest_realm(
    transaction: Transaction, realm: RealmId, known: RealmState | None, *, context: Context
) -> RealmState | None:
    """The stored state of a realm, from a known one on. None if there is none. Of `context`, chain
    and server count."""
    stored = logs.stored_log(transaction, LogId(realm))
    if stored is None or bytes(stored.org) == realm:
        return None
    if known is not None and known.position.size == stored.position.size:
        return known
    if known is None:
        state = _whole_realm(transaction, stored, context)
    else:
        state = _rest_of_realm(transaction, stored, known)
    return check_stored(state, stored)


def _whole_realm(transaction: Transaction, stored: StoredLog, context: Context) -> RealmState:
    return restore_realm(
        replace(context, genesis=stored.genesis, org=stored.org, log=stored.log),
        stored.position,
        certificates=logs.certificates(transaction, stored.log),
        chains=logs.read_chains(transaction, stored.log),
        objects=objects.all_states(transaction, stored.log),
    )


def _rest_of_realm(transaction: Transaction, stored: StoredLog, known: RealmState) -> RealmState:
    start, end = known.position.size, stored.position.size
    leaves = list(logs.read_leaves(transaction, stored.log, start, end))
    return continue_realm(
        known,
        stored.position,
        leaves=leaves,
        chains=logs.read_chains(transaction, stored.log),
        objects=objects.read_states(transaction, stored.log, changed_objects(leaves)),
    )


def _trim(books: OrderedDict[OrgId, OrgBook] | OrderedDict[RealmId, RealmBook], most: int) -> None:
    while len(books) > most:
        books.popitem(last=False)

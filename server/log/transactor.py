"""One log, one lock, one transaction: the frame in which every change of a log happens.

Data flow: sequencer -> `on_org` / `on_realm` -> facts, decision, effects in one worker thread ->
durable -> state in memory -> signed heads. `look` is the same frame for a head without a change.

Rule 14: size, time and due epoch are read, and heads signed, under the lock of the log; heads leave
only after the commit is durable. Were the time read outside, a leaf could become durable after a
head with a later time was signed without it: an honest server would convict itself (P3).
If the transaction fails, nothing in memory has changed. What another process has added meanwhile is
taken in first, under the same lock.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from parsec_fs.protocol.commands import Outcome
from parsec_fs.protocol.ids import LogId, OrgId, RealmId
from parsec_fs.protocol.membership import OrgState
from parsec_fs.protocol.realm_state import RealmState
from parsec_fs.protocol.records import Head, Signed, sign_head
from server.identity import ServerIdentity
from server.log.books import Books, newest_org, newest_realm
from server.log.clock import LeasedClock
from server.store import logs
from server.store.database import Database, Transaction

S = TypeVar("S", OrgState, RealmState)
T = TypeVar("T")
R = TypeVar("R")

NO_NONCE: Final = bytes(32)


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What a decision sees: the org state and facts that hold in this transaction. `size` and
    `bytes` are those of the log that is worked on."""

    org: OrgState
    size: int
    now_ms: int
    due_epoch: int
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed(Generic[S, T]):
    """What a piece of work leads to: the log's next state (or the same) and a result."""

    state: S
    result: T


@dataclass(frozen=True, slots=True, kw_only=True)
class Done(Generic[S, T]):
    """Durable work: state, result, and one signed head per nonce that was asked for."""

    state: S
    result: T
    heads: tuple[Signed, ...]
    grew: bool


OrgWork = Callable[[Transaction, View], Changed[OrgState, T] | Outcome]
RealmWork = Callable[[Transaction, View, RealmState], Changed[RealmState, T] | Outcome]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Worked(Generic[S, T]):
    """What happened in a transaction: `state` was the newest one when the work began."""

    view: View
    state: S
    changed: Changed[S, T] | Outcome

    def newest(self) -> S:
        """The state that is durable now."""
        return self.state if isinstance(self.changed, Outcome) else self.changed.state


class Transactor:
    """Runs work on logs. `clock`, keys and database are handed in."""

    def __init__(
        self, *, database: Database, books: Books, clock: LeasedClock, identity: ServerIdentity
    ) -> None:
        self._database = database
        self._books = books
        self._clock = clock
        self._identity = identity

    async def on_org(
        self, org: OrgId, work: OrgWork[T], *, nonces: Sequence[bytes] = (NO_NONCE,)
    ) -> Done[OrgState, T] | Outcome:
        """Work on an org log. NOT_AUTHENTICATED if there is no such organization."""
        await self._clock.ensure()
        book = await self._books.org(org)
        async with book.lock:
            known = book.state
            if known is None:
                return Outcome.NOT_AUTHENTICATED

            def run(transaction: Transaction) -> _Worked[OrgState, T]:
                view = self._view(transaction, known.context.log, known)
                return _Worked(view=view, state=view.org, changed=work(transaction, view))

            worked = await self._run(run, writes=work is not _look_at_org)
            book.state = worked.newest()
            return self._done(worked, nonces)

    async def on_realm(
        self,
        org: OrgId,
        realm: RealmId,
        work: RealmWork[T],
        *,
        nonces: Sequence[bytes] = (NO_NONCE,),
    ) -> Done[RealmState, T] | Outcome:
        """Work on a realm log. NOT_ALLOWED if there is no such realm, as for outsiders."""
        await self._clock.ensure()
        org_state = (await self._books.org(org)).state
        book = await self._books.realm(org, realm)
        async with book.lock:
            known = book.state
            if known is None or org_state is None:
                return Outcome.NOT_ALLOWED

            def run(transaction: Transaction) -> _Worked[RealmState, T]:
                view = self._view(transaction, known.context.log, org_state)
                state: RealmState | None = known
                if view.size != known.position.size:
                    state = newest_realm(transaction, realm, known, context=known.context)
                assert state is not None  # logs are never removed
                return _Worked(view=view, state=state, changed=work(transaction, view, state))

            worked = await self._run(run, writes=work is not _look_at_realm)
            book.state = worked.newest()
            return self._done(worked, nonces)

    async def look(
        self, org: OrgId, log: LogId, *, nonce: bytes
    ) -> Done[OrgState, None] | Done[RealmState, None] | Outcome:
        """The newest state of a log and a head for it, with nothing changed."""
        if bytes(log) == org:
            return await self.on_org(org, _look_at_org, nonces=(nonce,))
        return await self.on_realm(org, RealmId(log), _look_at_realm, nonces=(nonce,))

    async def _run(self, run: Callable[[Transaction], R], *, writes: bool) -> R:
        """A look takes the locks, but waits for no disk."""
        return await (self._database.write if writes else self._database.look)(run)

    def _view(self, transaction: Transaction, log: LogId, known: OrgState) -> View:
        facts = logs.facts(transaction, log, known.context.org, alone=True)
        assert facts is not None  # logs are never removed
        org: OrgState | None = known
        if facts.org_size != known.position.size:
            org = newest_org(transaction, known.context.org, known)
        assert org is not None
        return View(
            org=org,
            size=facts.size,
            now_ms=self._clock.read(),
            due_epoch=facts.due_epoch,
            bytes=facts.bytes,
        )

    def _done(self, worked: _Worked[S, T], nonces: Sequence[bytes]) -> Done[S, T] | Outcome:
        changed, view = worked.changed, worked.view
        if isinstance(changed, Outcome):
            return changed
        state = changed.state
        return Done(
            state=state,
            result=changed.result,
            heads=tuple(self.sign(state, view.due_epoch, view.now_ms, one) for one in nonces),
            grew=state.position.size > worked.state.position.size,
        )

    def sign(
        self, state: OrgState | RealmState, due_epoch: int, now_ms: int, nonce: bytes = NO_NONCE
    ) -> Signed:
        """Head of a durable state. Its time is not before the last leaf's, its org size is the
        last leaf's, so that it follows from the log."""
        head = Head(
            context=state.context,
            size=state.position.size,
            log_root=state.position.root(),
            map_root=state.map.root(),
            org_size=state.position.org_size,
            due_epoch=due_epoch,
            time_ms=max(now_ms, state.position.time_ms),
            nonce=nonce,
        )
        return sign_head(head, self._identity.head_key)


def _look_at_org(_transaction: Transaction, view: View) -> Changed[OrgState, None] | Outcome:
    return Changed(state=view.org, result=None)


def _look_at_realm(
    _transaction: Transaction, _view: View, state: RealmState
) -> Changed[RealmState, None] | Outcome:
    return Changed(state=state, result=None)

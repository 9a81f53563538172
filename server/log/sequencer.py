"""The commands that write into logs: decide, store the effects, answer with a signed head.

Data flow: http -> `Sequencer` -> decisions (pure) inside the transactor's frame -> answers, events.

Rule 15: refusals are stored in the transaction that decides them, before they are sent; identical
bytes are found again and get the same answer.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from parsec_fs.protocol.certificates import (
    Device,
    DeviceRevoked,
    RoleRegistered,
    User,
    UserKey,
    UserRevoked,
)
from parsec_fs.protocol.commands import (
    AppendCertificate,
    CommitAnswer,
    CommitBatch,
    CommitResult,
    CreateRealm,
    HeadAnswer,
    Outcome,
)
from parsec_fs.protocol.hashing import signed_hash
from parsec_fs.protocol.ids import DeviceId, Hash, LogId, OrgId, RealmId
from parsec_fs.protocol.log_state import DeviceChain
from parsec_fs.protocol.membership import OrgState
from parsec_fs.protocol.realm_state import RealmState
from parsec_fs.protocol.records import Refusal, Signed, sign_refusal
from server.config import Config
from server.decisions import commits, orgs, realms
from server.decisions.access import is_outsider
from server.decisions.commits import BatchEffects, BatchView, ParsedBatch, Repeated
from server.decisions.effects import LogChange
from server.identity import ServerIdentity
from server.log.transactor import NO_NONCE, Changed, Done, Transactor, View
from server.store import logs, objects, records
from server.store.database import Database, Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """An authenticated device."""

    org: OrgId
    device: DeviceId


class Sequencer:
    """Appends to logs. `announce` is told of every log that got commits or certificates."""

    def __init__(
        self,
        *,
        database: Database,
        transactor: Transactor,
        identity: ServerIdentity,
        config: Config,
        announce: Callable[[OrgId, LogId], None],
    ) -> None:
        self._database = database
        self._transactor = transactor
        self._identity = identity
        self._config = config
        self._announce = announce

    async def _head_if_repeated(
        self, org: OrgId, log: LogId, bodies: tuple[bytes, ...]
    ) -> HeadAnswer | Outcome:
        names = [signed_hash(body) for body in bodies]
        known = await self._database.read(
            lambda transaction: records.accepted_records(transaction, log, names)
        )
        if len(known) < len(names):
            return Outcome.EXISTS
        done = await self._transactor.look(org, log, nonce=NO_NONCE)
        return done if isinstance(done, Outcome) else HeadAnswer(head=done.heads[0])

    async def append_org(self, caller: Caller, request: AppendCertificate) -> HeadAnswer | Outcome:
        """org/append: a user, a device, a user key, a revocation, or a role that follows in its
        realm."""
        if bytes(request.log) != caller.org:
            return Outcome.NOT_ALLOWED
        if request.boxes:
            return Outcome.BAD_REQUEST

        def work(transaction: Transaction, view: View) -> Changed[OrgState, None] | Outcome:
            if _is_repeated(transaction, request.log, request.body):
                return Changed(state=view.org, result=None)
            effects = orgs.append(
                view.org,
                request.body,
                author=caller.device,
                now_ms=view.now_ms,
                kinds=(User, Device, UserKey, DeviceRevoked, UserRevoked, RoleRegistered),
            )
            if isinstance(effects, Outcome):
                return effects
            logs.append(transaction, effects.change, due_epoch=view.due_epoch)
            return Changed(state=effects.state, result=None)

        done = await self._transactor.on_org(caller.org, work)
        return done if isinstance(done, Outcome) else self._head_answer(done)

    async def create_realm(self, caller: Caller, request: CreateRealm) -> HeadAnswer | Outcome:
        """realm/create: both logs in one transaction. The answer is the head of the realm log."""

        def work(transaction: Transaction, view: View) -> Changed[OrgState, Signed] | Outcome:
            if _is_repeated(transaction, LogId(caller.org), request.registered):
                return Outcome.EXISTS
            founded = realms.create(request, org=view.org, author=caller.device, now_ms=view.now_ms)
            if isinstance(founded, Outcome):
                return founded
            if logs.stored_log(transaction, LogId(request.realm)) is not None:
                return Outcome.EXISTS  # another organization's: ids are global (rule 1)
            logs.append(transaction, founded.org.change, due_epoch=view.due_epoch)
            _append_realm(transaction, founded.realm.change, view.due_epoch)
            head = self._transactor.sign(founded.realm.state, view.due_epoch, view.now_ms)
            return Changed(state=founded.org.state, result=head)

        done = await self._transactor.on_org(caller.org, work)
        if done is Outcome.EXISTS:
            bodies = (request.created, request.rotation)
            return await self._head_if_repeated(caller.org, LogId(request.realm), bodies)
        if isinstance(done, Outcome):
            return done
        self._announce(caller.org, LogId(caller.org))
        self._announce(caller.org, LogId(request.realm))
        return HeadAnswer(head=done.result)

    async def append_realm(
        self, caller: Caller, request: AppendCertificate
    ) -> HeadAnswer | Outcome:
        """realm/append: a role or a key rotation."""

        def work(
            transaction: Transaction, view: View, realm: RealmState
        ) -> Changed[RealmState, None] | Outcome:
            if is_outsider(view.org, realm, caller.device):
                return Outcome.NOT_ALLOWED
            if _is_repeated(transaction, request.log, request.body):
                return Changed(state=realm, result=None)
            effects = realms.append(
                request, org=view.org, realm=realm, author=caller.device, now_ms=view.now_ms
            )
            if isinstance(effects, Outcome):
                return effects
            _append_realm(transaction, effects.change, view.due_epoch)
            return Changed(state=effects.state, result=None)

        done = await self._transactor.on_realm(caller.org, RealmId(request.log), work)
        return done if isinstance(done, Outcome) else self._head_answer(done)

    async def commit(self, caller: Caller, batch: CommitBatch) -> CommitAnswer | Outcome:
        """realm/commit: every commit gets a leaf or a signed refusal."""

        def work(
            transaction: Transaction, view: View, realm: RealmState
        ) -> Changed[RealmState, tuple[CommitResult, ...]] | Outcome:
            if is_outsider(view.org, realm, caller.device):
                return Outcome.NOT_ALLOWED
            parsed = commits.parse(
                batch,
                device=caller.device,
                key=view.org.device(caller.device).key,
                context=realm.context,
            )
            if isinstance(parsed, Outcome):
                return parsed
            seen = self._batch_view(transaction, view, realm, parsed, caller.device)
            effects = commits.decide(parsed, view=seen, device=caller.device, now_ms=view.now_ms)
            if isinstance(effects, Outcome):
                return effects
            results = self._store_batch(transaction, effects, view.due_epoch)
            return Changed(state=effects.realm.state, result=results)

        done = await self._transactor.on_realm(caller.org, batch.realm, work, nonces=(batch.nonce,))
        if isinstance(done, Outcome):
            return done
        if done.grew:
            self._announce(caller.org, LogId(batch.realm))
        return CommitAnswer(results=done.result, head=done.heads[0])

    async def add_stamps(
        self, org: OrgId, realm: RealmId, stamps: frozenset[bytes], nonces: Sequence[bytes]
    ) -> Done[RealmState, int] | Outcome:
        """One leaf for the read stamps of a window; its index, and a head per nonce. Wakes nobody
        (rule 28)."""

        def work(
            transaction: Transaction, view: View, state: RealmState
        ) -> Changed[RealmState, int] | Outcome:
            effects = realms.add_stamps(state, stamps, org=view.org, now_ms=view.now_ms)
            logs.append(transaction, effects.change, due_epoch=view.due_epoch)
            return Changed(state=effects.state, result=state.position.size)

        return await self._transactor.on_realm(org, realm, work, nonces=nonces)

    def _batch_view(
        self,
        transaction: Transaction,
        view: View,
        realm: RealmState,
        parsed: ParsedBatch,
        device: DeviceId,
    ) -> BatchView:
        log, chain = realm.context.log, realm.chains.get(device, DeviceChain())
        states = objects.read_states(transaction, log, sorted(parsed.objects()))
        missing = [one for one in parsed.needed_payloads() if one not in parsed.payloads]
        return BatchView(
            org=view.org,
            realm=realm,
            accepted=records.accepted_records(transaction, log, parsed.earlier(chain)),
            refused=records.refused_records(transaction, log, parsed.records()),
            stored=frozenset(records.stored_payloads(transaction, log, missing)),
            objects=states.get,
            bytes_left=self._config.quotas.realm_bytes - view.bytes,
        )

    def _store_batch(
        self, transaction: Transaction, effects: BatchEffects, due: int
    ) -> tuple[CommitResult, ...]:
        signed = {
            one.record: sign_refusal(one, self._identity.head_key)
            for one in effects.realm.change.refusals
        }
        refusals = [(one, signed[one.record]) for one in effects.realm.change.refusals]
        records.add_refusals(transaction, refusals)
        _append_realm(transaction, effects.realm.change, due)
        return tuple(_result(one, signed) for one in effects.results)

    def _head_answer(self, done: Done[OrgState, None] | Done[RealmState, None]) -> HeadAnswer:
        if done.grew:
            self._announce(done.state.context.org, done.state.context.log)
        return HeadAnswer(head=done.heads[0])


def _append_realm(transaction: Transaction, change: LogChange, due: int) -> None:
    logs.append(transaction, change, due_epoch=due)
    records.add_payloads(transaction, change.context.log, change.payloads)
    records.add_boxes(transaction, change.context.log, change.key_index, change.boxes)


def _is_repeated(transaction: Transaction, log: LogId, body: bytes) -> bool:
    return bool(records.accepted_records(transaction, log, [signed_hash(body)]))


def _result(one: int | Refusal | Repeated, signed: dict[Hash, Signed]) -> CommitResult:
    if isinstance(one, Refusal):
        return CommitResult(index=(), refusal=(signed[one.record],))
    if isinstance(one, Repeated):
        index = () if one.index is None else (one.index,)
        return CommitResult(index=index, refusal=() if one.refusal is None else (one.refusal,))
    return CommitResult(index=(one,), refusal=())

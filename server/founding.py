"""org/create: an organization and the end of the token that permits it, in one transaction.

Data flow: http -> `Founder` -> decisions (pure) -> logs, tokens -> head.

A token that is unknown, expired or spent gets one and the same answer, before anything else is
looked at: who has none learns nothing, neither of tokens nor of organizations. A refused founding
leaves its token as it was. The identical request sent again (rule 15: the answer may have been
lost) finds its token spent on this very organization, and gets a head.
"""

from dataclasses import dataclass
from enum import Enum, auto

from parsec_fs.protocol.commands import CreateOrg, HeadAnswer, Outcome
from parsec_fs.protocol.hashing import founding_token_hash, signed_hash
from parsec_fs.protocol.ids import LogId, OrgId
from parsec_fs.protocol.membership import OrgState
from server.config import Config
from server.decisions import orgs
from server.identity import ServerIdentity
from server.log.books import newest_org
from server.log.clock import LeasedClock
from server.log.transactor import NO_NONCE, Transactor
from server.store import logs, records, tokens
from server.store.database import Database, Transaction, lock
from server.store.server_row import due_epoch, hold_due_epoch


@dataclass(frozen=True, slots=True, kw_only=True)
class _Founded:
    """What is durable now, and what its head says beside."""

    state: OrgState
    due_epoch: int
    now_ms: int


class _Token(Enum):
    """What a token permits."""

    FOUND = auto()
    REPEAT = auto()


class Founder:
    """Founds organizations."""

    def __init__(
        self,
        *,
        database: Database,
        transactor: Transactor,
        clock: LeasedClock,
        identity: ServerIdentity,
        config: Config,
    ) -> None:
        self._database = database
        self._transactor = transactor
        self._clock = clock
        self._identity = identity
        self._config = config

    async def found(self, request: CreateOrg) -> HeadAnswer | Outcome:
        """The head of the new org log, or of the one that this very request founded before."""
        org = orgs.org_of_request(request)
        if isinstance(org, Outcome):
            return org
        await self._clock.ensure()
        done = await self._database.write(lambda transaction: self._work(transaction, org, request))
        if isinstance(done, Outcome):
            return done
        if isinstance(done, _Founded):
            return HeadAnswer(head=self._transactor.sign(done.state, done.due_epoch, done.now_ms))
        looked = await self._transactor.look(org, LogId(org), nonce=NO_NONCE)
        return looked if isinstance(looked, Outcome) else HeadAnswer(head=looked.heads[0])

    def _work(
        self, transaction: Transaction, org: OrgId, request: CreateOrg
    ) -> _Founded | _Token | Outcome:
        lock(transaction, org)
        hold_due_epoch(transaction)
        now_ms = self._clock.read()
        permitted = _permitted(transaction, org, request, now_ms)
        if permitted is not _Token.FOUND:
            return permitted
        return self._found(transaction, org, request, now_ms)

    def _found(
        self, transaction: Transaction, org: OrgId, request: CreateOrg, now_ms: int
    ) -> _Founded | Outcome:
        if logs.count_orgs(transaction) >= self._config.quotas.orgs:
            return Outcome.QUOTA
        effects = orgs.found(
            request,
            existing=newest_org(transaction, org, None),
            server=self._identity.registration,
            chain_id=self._config.chain_id,
            now_ms=now_ms,
        )
        if isinstance(effects, Outcome):
            return effects
        if not tokens.spend(transaction, founding_token_hash(request.token), org):
            return Outcome.NOT_ALLOWED
        due = due_epoch(transaction)
        logs.append(transaction, effects.change, due_epoch=due)
        return _Founded(state=effects.state, due_epoch=due, now_ms=now_ms)


def _permitted(
    transaction: Transaction, org: OrgId, request: CreateOrg, now_ms: int
) -> _Token | Outcome:
    token = tokens.get(transaction, founding_token_hash(request.token))
    if token is not None and token.org is None and now_ms < token.expires_ms:
        return _Token.FOUND
    if token is not None and token.org == org and _is_founded(transaction, org, request):
        return _Token.REPEAT
    return Outcome.NOT_ALLOWED


def _is_founded(transaction: Transaction, org: OrgId, request: CreateOrg) -> bool:
    """All three records are in the log: with their token spent on it, it is the same founding."""
    names = {signed_hash(body) for body in (request.genesis, request.user, request.device)}
    return names == set(records.accepted_records(transaction, LogId(org), names))

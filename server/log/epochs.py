"""epoch/read: openings of any published epochs, for the logs that a device may read.

Data flow: http -> `EpochReader.read` -> states before the range, changes in it -> proofs per epoch.

The maps of the last epochs that were asked for are kept, so a device that follows along costs only
what has changed since.
"""

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

from parsec_fs.protocol.commands import EpochProof, Epochs, Outcome, ReadEpochs
from parsec_fs.protocol.hashing import org_map_key
from parsec_fs.protocol.ids import OrgId
from parsec_fs.protocol.limits import KIB, MIB
from parsec_fs.protocol.prefix_map import PrefixMap
from server.log.epoch_maps import OrgAt, orgs_after
from server.log.reader import Reader
from server.log.sequencer import Caller
from server.store import epochs
from server.store.database import Database, Transaction
from server.store.epochs import StoredEpoch

MOST: Final = 1_000
_BUDGET: Final = 8 * MIB
_EPOCH_SIZE: Final = 4 * KIB
_CHANGE_SIZE: Final = 7 * KIB
_LOG_SIZE: Final = 2 * KIB
"""Generous sizes of an opened epoch, of each change of keys that its statement carries, and of each
log in it, to keep answers within bounds."""
_KEPT: Final = 1_000
_NEVER: Final = 2**62
"""No epoch has such a number, and the database could not hold it."""


@dataclass(slots=True, kw_only=True)
class EpochCache:
    """Maps by the number of epochs they hold: `orgs[n]` and `org_at[org, n]` are those before
    epoch n. Touched on the event loop only; the values are immutable."""

    orgs: OrderedDict[int, PrefixMap] = field(default_factory=OrderedDict)
    org_at: OrderedDict[tuple[OrgId, int], OrgAt] = field(default_factory=OrderedDict)

    def keep(self, count: int, orgs: PrefixMap, org_at: list[OrgAt]) -> None:
        """Remember the maps of the first `count` epochs; the oldest make room."""
        self.orgs[count] = orgs
        self.org_at.update({(one.org, count): one for one in org_at})
        while len(self.orgs) > _KEPT:
            self.orgs.popitem(last=False)
        while len(self.org_at) > _KEPT:
            self.org_at.popitem(last=False)


class EpochReader:
    """Opens epochs."""

    def __init__(self, *, database: Database, reader: Reader, cache: EpochCache) -> None:
        self._database = database
        self._reader = reader
        self._cache = cache

    async def read(self, caller: Caller, request: ReadEpochs) -> Epochs | Outcome:
        """One proof per epoch from `start`, as many as are published and fit."""
        for log in request.logs:
            allowed = await self._reader.may_read(caller, log)
            if allowed is not Outcome.OK:
                return allowed
        fitting = max(1, _BUDGET // (_EPOCH_SIZE + _LOG_SIZE * len(request.logs)))
        count = min(request.most, MOST, fitting)
        if request.start >= _NEVER:
            return Epochs(epochs=(), final=0)
        known_orgs = self._cache.orgs.get(request.start)
        known_org = self._cache.org_at.get((caller.org, request.start))

        def read(
            transaction: Transaction,
        ) -> tuple[list[EpochProof], PrefixMap, OrgAt, int, int]:
            orgs = known_orgs or load_orgs(transaction, request.start)
            org = known_org or load_org_at(transaction, caller.org, request.start)
            end = request.start + count
            stored = _fitting(epochs.range_of(transaction, request.start, end), request)
            logs = epochs.changed_logs(transaction, request.start, end, caller.org)
            roots = epochs.changed_roots(transaction, request.start, end)
            proofs = []
            for one in stored:
                org = org.after(logs.get(one.epoch, {}).get(caller.org, []))
                orgs = orgs_after(orgs, roots.get(one.epoch, {}))
                proofs.append(_proof(one, orgs, org, request))
            published, final = epochs.count(transaction), epochs.count_final(transaction)
            return proofs, orgs, org, published, final

        proofs, orgs, org, published, final = await self._database.read(read)
        # What lies before an epoch that is still to come can change.
        if request.start + len(proofs) <= published:
            self._cache.keep(request.start + len(proofs), orgs, [org])
        return Epochs(epochs=tuple(proofs), final=final)


def load_orgs(transaction: Transaction, epoch: int) -> PrefixMap:
    """Map of organizations before an epoch."""
    return orgs_after(PrefixMap(), epochs.roots_before(transaction, epoch))


def load_org_at(transaction: Transaction, org: OrgId, epoch: int) -> OrgAt:
    """An organization before an epoch."""
    return OrgAt(org=org).after(epochs.logs_before(transaction, org, epoch))


def _fitting(stored: list[StoredEpoch], request: ReadEpochs) -> list[StoredEpoch]:
    """The first ones that fit, at least one: statements grow with the changes of keys."""
    used = 0
    for number, one in enumerate(stored):
        changes = len(one.statement.changes)
        used += _EPOCH_SIZE + _CHANGE_SIZE * changes + _LOG_SIZE * len(request.logs)
        if number and used > _BUDGET:
            return stored[:number]
    return stored


def _proof(stored: StoredEpoch, orgs: PrefixMap, org: OrgAt, request: ReadEpochs) -> EpochProof:
    return EpochProof(
        statement=stored.statement,
        opening=stored.opening,
        org_root=org.map.root(),
        org_proof=orgs.open(org_map_key(org.org)),
        logs=tuple(org.open(log) for log in request.logs),
    )

"""Epochs in the database: cuts, statements, and the states to open them with (rules 16, 17).

Data flow: publisher -> `cut` -> maps -> `add_epoch` (before the first sending) -> `mark_final`;
epoch/read -> `range_of` and the states before it -> openings.

The cut is one transaction: it takes the state of every changed log and moves the due epoch. No head
can be signed in between (see `logs.facts`), so each promise is kept; and because all logs are taken
at one instant, a realm leaf after the cut was stamped with an org size not below the anchored one.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row as SqlRow
from sqlalchemy import func, insert, literal, select, update

from parsec_fs.protocol.codec import decode, encode
from parsec_fs.protocol.ids import Hash, LogId, OrgId
from parsec_fs.protocol.merkle import Frontier
from parsec_fs.protocol.records import EpochOpening, LogState
from parsec_fs.protocol.statements import SignedStatement
from server.store.database import Transaction, lock
from server.store.rows import pack_frontier, unpack_frontier
from server.store.schema import cuts, epochs, logs, org_roots, server
from server.store.server_row import DUE_EPOCH_LOCK, due_epoch


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredEpoch:
    """A published epoch. `tree` is E with it, `time_ms` the statement's."""

    opening: EpochOpening
    tree: Frontier
    time_ms: int
    statement: SignedStatement
    final: bool

    @property
    def epoch(self) -> int:
        """Its number."""
        return self.opening.epoch


def cut(transaction: Transaction, epoch: int) -> None:
    """Cut an epoch if it is due; from now on heads promise the next one. Done before: nothing."""
    lock(transaction, DUE_EPOCH_LOCK)
    if due_epoch(transaction) != epoch:
        return
    changed = select(
        literal(epoch),
        logs.c.log,
        logs.c.org,
        logs.c.size,
        logs.c.log_root,
        logs.c.map_root,
        logs.c.org_size,
    ).where(logs.c.changed_in == epoch)
    names = ["epoch", "log", "org", "size", "log_root", "map_root", "org_size"]
    transaction.execute(insert(cuts).from_select(names, changed))
    transaction.execute(update(server).where(server.c.id == 1).values(due_epoch=epoch + 1))


def newest(transaction: Transaction) -> StoredEpoch | None:
    """The newest epoch that has a statement."""
    query = select(epochs).order_by(epochs.c.epoch.desc()).limit(1)
    row = transaction.execute(query).first()
    return None if row is None else _stored(row)


def count(transaction: Transaction) -> int:
    """How many epochs have a statement."""
    query = select(func.max(epochs.c.epoch))
    highest = transaction.execute(query).scalar_one()
    return 0 if highest is None else int(highest) + 1


def count_final(transaction: Transaction) -> int:
    """How many epochs are final on the chain, as far as this server has seen."""
    query = select(func.max(epochs.c.epoch)).where(epochs.c.final == 1)
    highest = transaction.execute(query).scalar_one()
    return 0 if highest is None else int(highest) + 1


def range_of(transaction: Transaction, start: int, end: int) -> list[StoredEpoch]:
    """Published epochs from `start` to before `end`."""
    in_range = (epochs.c.epoch >= start) & (epochs.c.epoch < end)
    rows = transaction.execute(select(epochs).where(in_range).order_by(epochs.c.epoch))
    return [_stored(row) for row in rows]


def add_epoch(transaction: Transaction, stored: StoredEpoch, roots: dict[OrgId, Hash]) -> None:
    """Store a statement and the roots that changed. An epoch that exists is an error: a statement
    is signed once (rule 16)."""
    row = {
        "epoch": stored.epoch,
        "map_root": stored.opening.map_root,
        "salt": stored.opening.salt,
        "time_ms": stored.time_ms,
        "frontier": pack_frontier(stored.tree),
        "statement": encode(stored.statement),
        "final": int(stored.final),
    }
    transaction.execute(insert(epochs), row)
    rows = [{"org": org, "epoch": stored.epoch, "root": root} for org, root in roots.items()]
    if rows:
        transaction.execute(insert(org_roots), rows)


def mark_final(transaction: Transaction, epoch: int) -> None:
    """The statement of this epoch is in a final chain block, so those before it are too."""
    transaction.execute(update(epochs).where(epochs.c.epoch <= epoch).values(final=1))


def changed_logs(
    transaction: Transaction, start: int, end: int, org: OrgId | None = None
) -> dict[int, dict[OrgId, list[LogState]]]:
    """States cut in [start, end) by epoch, of one organization or of all."""
    condition = (cuts.c.epoch >= start) & (cuts.c.epoch < end)
    if org is not None:
        condition &= cuts.c.org == org
    found: dict[int, dict[OrgId, list[LogState]]] = {}
    for row in transaction.execute(select(cuts).where(condition)):
        found.setdefault(row.epoch, {}).setdefault(OrgId(row.org), []).append(_log_state(row))
    return found


def changed_roots(transaction: Transaction, start: int, end: int) -> dict[int, dict[OrgId, Hash]]:
    """Roots of organizations that changed in [start, end), by epoch."""
    condition = (org_roots.c.epoch >= start) & (org_roots.c.epoch < end)
    found: dict[int, dict[OrgId, Hash]] = {}
    for row in transaction.execute(select(org_roots).where(condition)):
        found.setdefault(row.epoch, {})[OrgId(row.org)] = Hash(row.root)
    return found


def cuts_of(transaction: Transaction, log: LogId) -> list[LogState]:
    """Every state of a log that was cut."""
    rows = transaction.execute(select(cuts).where(cuts.c.log == log))
    return [_log_state(row) for row in rows]


def logs_before(transaction: Transaction, org: OrgId, epoch: int) -> list[LogState]:
    """State of every log of an organization as anchored before `epoch`."""
    last = (
        select(cuts.c.log, func.max(cuts.c.epoch).label("epoch"))
        .where((cuts.c.org == org) & (cuts.c.epoch < epoch))
        .group_by(cuts.c.log)
        .subquery()
    )
    query = select(cuts).join(last, (cuts.c.log == last.c.log) & (cuts.c.epoch == last.c.epoch))
    return [_log_state(row) for row in transaction.execute(query)]


def roots_before(transaction: Transaction, epoch: int) -> dict[OrgId, Hash]:
    """Root of every organization as anchored before `epoch`."""
    last = (
        select(org_roots.c.org, func.max(org_roots.c.epoch).label("epoch"))
        .where(org_roots.c.epoch < epoch)
        .group_by(org_roots.c.org)
        .subquery()
    )
    query = select(org_roots).join(
        last, (org_roots.c.org == last.c.org) & (org_roots.c.epoch == last.c.epoch)
    )
    return {OrgId(row.org): Hash(row.root) for row in transaction.execute(query)}


def _stored(row: SqlRow[Any]) -> StoredEpoch:
    return StoredEpoch(
        opening=EpochOpening(epoch=row.epoch, map_root=Hash(row.map_root), salt=row.salt),
        tree=unpack_frontier(row.epoch + 1, row.frontier),
        time_ms=row.time_ms,
        statement=decode(SignedStatement, row.statement),
        final=bool(row.final),
    )


def _log_state(row: SqlRow[Any]) -> LogState:
    return LogState(
        log=LogId(row.log),
        size=row.size,
        log_root=Hash(row.log_root),
        map_root=Hash(row.map_root),
        org_size=row.org_size,
    )

"""Org and realm logs in the database: facts, appending a change, reading back.

Data flow: LogChange -> `append` -> rows -> `stored_log`, `certificates`, `leaves` -> log.restore.

`facts` is the first statement of every transaction about a log: it says how long the log is and
which epoch is due, and, over PostgreSQL, locks the log, and shares the locks of its org log and of
the due epoch, until the transaction ends. So several processes cannot fork a log, no realm
leaf is stamped with an org size older than an anchored one (rule 9), and no head promises an epoch
that is cut already (rule 14). SQLite has one writer at a time.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row as SqlRow
from sqlalchemy import bindparam, func, insert, select, update

from parsec_fs.protocol.ids import DeviceId, Hash, LogId, OrgId, RealmId, UserId
from parsec_fs.protocol.log_state import DeviceChain, LogPosition
from parsec_fs.protocol.records import CERTIFICATE, Leaf
from server.decisions.effects import LogChange
from server.store import objects, subtrees
from server.store.database import Transaction, lock
from server.store.rows import HEADER_COLUMNS, header_of, pack_frontier, unpack_frontier, upsert
from server.store.schema import accepted, chains, leaves, logs, roles, server
from server.store.server_row import hold_due_epoch


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What must be read under the lock of a log."""

    size: int
    org_size: int
    due_epoch: int
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredLog:
    """Summary row of a log."""

    log: LogId
    org: OrgId
    genesis: Hash
    position: LogPosition
    map_root: Hash


_org_logs = logs.alias("org_logs")
_FACTS = (
    select(logs.c.org, logs.c.size, _org_logs.c.size, server.c.due_epoch, logs.c.bytes)
    .join(_org_logs, _org_logs.c.log == logs.c.org)
    .join(server, server.c.id == 1)
    .where(logs.c.log == bindparam("log"))
)


def facts(transaction: Transaction, log: LogId, org: OrgId, *, alone: bool) -> Facts | None:
    """Facts about a log of an organization, None if there is none. `alone`: nobody else changes
    the log, its org log or the due epoch before this transaction ends."""
    if alone:
        # Always in this order, so that no two transactions wait for each other.
        lock(transaction, log)
        if bytes(log) != org:
            lock(transaction, org, shared=True)
        hold_due_epoch(transaction)
    row = transaction.execute(_FACTS, {"log": log}).first()
    if row is None or row[0] != org:
        return None
    _, size, org_size, due_epoch, used = row
    return Facts(size=size, org_size=org_size, due_epoch=due_epoch, bytes=used)


_INSERT_LEAVES = insert(leaves)
_INSERT_ACCEPTED = insert(accepted)
_SUMMARY = (
    update(logs)
    .where(logs.c.log == bindparam("of_log"))
    .values(bytes=logs.c.bytes + bindparam("added"))
    .values(
        {
            name: bindparam(name)
            for name in (
                "size",
                "frontier",
                "log_root",
                "map_root",
                "time_ms",
                "org_size",
                "changed_in",
            )
        }
    )
)


def append(transaction: Transaction, change: LogChange, *, due_epoch: int) -> None:
    """Write everything that a decision changes in one log, except refusals and payloads."""
    if change.leaves:
        transaction.execute(_INSERT_LEAVES, [_leaf_row(change, leaf) for leaf in change.leaves])
        _write_summary(transaction, change, due_epoch)
    log, size = change.context.log, change.position.size
    subtrees.complete(transaction, log, size - len(change.leaves), size)
    if change.accepted:
        rows = [{"log": log, "record": record, "idx": at} for record, at in change.accepted]
        transaction.execute(_INSERT_ACCEPTED, rows)
    upsert(transaction, chains, [_chain_row(log, *item) for item in change.chains.items()])
    objects.write(transaction, log, change.writes)
    role_rows = [{"log": log, "user": user, "role": role} for user, role in change.roles.items()]
    upsert(transaction, roles, role_rows)


def _write_summary(transaction: Transaction, change: LogChange, due_epoch: int) -> None:
    position = change.position
    summary = {
        "size": position.size,
        "frontier": pack_frontier(position.frontier),
        "log_root": position.root(),
        "map_root": change.map_root,
        "time_ms": position.time_ms,
        "org_size": position.org_size,
        "changed_in": due_epoch,
    }
    if position.size > len(change.leaves):
        values = {"of_log": change.context.log, "added": change.bytes_added}
        transaction.execute(_SUMMARY, summary | values)
        return
    identity = {
        "log": change.context.log,
        "org": change.context.org,
        "genesis": change.context.genesis,
    }
    transaction.execute(insert(logs), identity | summary | {"bytes": change.bytes_added})


def _leaf_row(change: LogChange, leaf: Leaf) -> dict[str, Any]:
    header = leaf.header
    return {
        "log": change.context.log,
        "idx": header.index,
        "kind": header.kind,
        "time_ms": header.time_ms,
        "org_size": header.org_size,
        "map_root": header.map_root,
        "body_hash": header.body,
        "body": leaf.body,
    }


def _chain_row(log: LogId, device: DeviceId, chain: DeviceChain) -> dict[str, Any]:
    return {"log": log, "device": device, "sequence": chain.sequence, "last": chain.last}


def stored_log(transaction: Transaction, log: LogId) -> StoredLog | None:
    """Summary of one log."""
    row = transaction.execute(select(logs).where(logs.c.log == log)).first()
    return None if row is None else _stored(row)


def stored_bytes(transaction: Transaction, log: LogId) -> int:
    """Payloads and blocks of a realm, in bytes (rule 19)."""
    query = select(logs.c.bytes).where(logs.c.log == log)
    return int(transaction.execute(query).scalar_one())


def all_logs(transaction: Transaction) -> list[StoredLog]:
    """Summaries of every log, org logs before the realms of the organization."""
    rows = transaction.execute(select(logs).order_by(logs.c.org, logs.c.log != logs.c.org))
    return [_stored(row) for row in rows]


def _stored(row: SqlRow[Any]) -> StoredLog:
    frontier = unpack_frontier(row.size, row.frontier)
    position = LogPosition(frontier=frontier, time_ms=row.time_ms, org_size=row.org_size)
    return StoredLog(
        log=LogId(row.log),
        org=OrgId(row.org),
        genesis=Hash(row.genesis),
        position=position,
        map_root=Hash(row.map_root),
    )


def read_leaves(transaction: Transaction, log: LogId, start: int, end: int) -> Iterator[Leaf]:
    """Leaves from `start` to before `end`, streamed: the caller may stop early."""
    in_range = (leaves.c.log == log) & (leaves.c.idx >= start) & (leaves.c.idx < end)
    query = select(*HEADER_COLUMNS, leaves.c.body).where(in_range).order_by(leaves.c.idx)
    with transaction.execute(query, execution_options={"yield_per": 64}) as rows:
        for *header, body in rows:
            yield Leaf(header=header_of(*header), body=body)


def certificates(transaction: Transaction, log: LogId, end: int | None = None) -> list[bytes]:
    """Bodies of all certificates of a log, or of those before leaf `end`, in order."""
    query = select(leaves.c.body).where((leaves.c.log == log) & (leaves.c.kind == CERTIFICATE))
    if end is not None:
        query = query.where(leaves.c.idx < end)
    return [bytes(row.body) for row in transaction.execute(query.order_by(leaves.c.idx))]


def read_chains(transaction: Transaction, log: LogId) -> dict[DeviceId, DeviceChain]:
    """Device chains of a realm log."""
    rows = transaction.execute(select(chains).where(chains.c.log == log))
    return {
        DeviceId(row.device): DeviceChain(sequence=row.sequence, last=Hash(row.last))
        for row in rows
    }


def realms_of_user(transaction: Transaction, org: OrgId, user: UserId) -> list[RealmId]:
    """Realms of an organization in which a user has a role, in order of their ids."""
    query = (
        select(roles.c.log)
        .join(logs, logs.c.log == roles.c.log)
        .where((roles.c.user == user) & (roles.c.role > 0) & (logs.c.org == org))
        .order_by(roles.c.log)
    )
    return [RealmId(row.log) for row in transaction.execute(query)]


def count_orgs(transaction: Transaction) -> int:
    """Number of organizations."""
    query = select(func.count()).select_from(logs).where(logs.c.log == logs.c.org)
    return int(transaction.execute(query).scalar_one())

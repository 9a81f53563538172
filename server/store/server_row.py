"""The one row that all logs share: whose database this is, due epoch, time lease.

Data flow: start -> `open_server`; clock -> `extend_lease`; publisher -> cuts (see `epochs`).
"""

from typing import Final

from sqlalchemy import insert, select, update

from parsec_fs.protocol.errors import InputError
from parsec_fs.protocol.ids import ServerLogId
from server.store.database import Transaction, lock
from server.store.schema import server

DUE_EPOCH_LOCK: Final = b"dueepoch"


def open_server(transaction: Transaction, server_log: ServerLogId, chain_id: bytes) -> int:
    """Claim an empty database, or check that it is this server's. Returns the time lease.

    Raises InputError: logs can never be continued under other keys or on another chain."""
    row = transaction.execute(select(server).where(server.c.id == 1)).first()
    if row is None:
        values = {"id": 1, "server_log": server_log, "chain_id": chain_id}
        transaction.execute(insert(server), values | {"due_epoch": 0, "lease_ms": 0})
        return 0
    if row.server_log != server_log:
        raise InputError("this database belongs to another server")
    if row.chain_id != chain_id:
        raise InputError("this database belongs to another chain")
    lease: int = row.lease_ms
    return lease


def chain_of(transaction: Transaction, server_log: ServerLogId) -> bytes:
    """The chain that anchors this server's database. Raises InputError."""
    query = select(server.c.chain_id).where(server.c.server_log == server_log)
    chain_id: bytes | None = transaction.execute(query).scalar_one_or_none()
    if chain_id is None:
        raise InputError("this database is not this server's, or it has never run")
    return chain_id


def extend_lease(transaction: Transaction, until_ms: int) -> int:
    """Reserve times up to `until_ms`, or as far as they are reserved already. Returns the lease."""
    later = (server.c.id == 1) & (server.c.lease_ms < until_ms)
    transaction.execute(update(server).where(later).values(lease_ms=until_ms))
    query = select(server.c.lease_ms).where(server.c.id == 1)
    lease: int = transaction.execute(query).scalar_one()
    return lease


def hold_due_epoch(transaction: Transaction) -> None:
    """No epoch is cut before this transaction ends: what it writes under the due epoch is in it."""
    lock(transaction, DUE_EPOCH_LOCK, shared=True)


def due_epoch(transaction: Transaction) -> int:
    """The next epoch that is not cut."""
    query = select(server.c.due_epoch).where(server.c.id == 1)
    due: int = transaction.execute(query).scalar_one()
    return due

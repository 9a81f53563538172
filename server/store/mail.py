"""The mailbox: sealed messages under addresses that only joining devices know.

Data flow: mailbox/put -> row -> mailbox/read, until it expires.
"""

from sqlalchemy import delete, func, insert, select

from server.store.database import Transaction
from server.store.schema import mail


def put(
    transaction: Transaction,
    address: bytes,
    slot: int,
    data: bytes,
    *,
    now_ms: int,
    expires_ms: int,
    most: int,
) -> bool | None:
    """Store a message. False if the slot holds another one, None if the mailbox is full."""
    transaction.execute(delete(mail).where(mail.c.expires_ms <= now_ms))
    present = get(transaction, address, slot, now_ms=now_ms)
    if present is not None:
        return present == data
    if transaction.execute(select(func.count()).select_from(mail)).scalar_one() >= most:
        return None
    row = {"address": address, "slot": slot, "data": data, "expires_ms": expires_ms}
    transaction.execute(insert(mail), row)
    return True


def get(transaction: Transaction, address: bytes, slot: int, *, now_ms: int) -> bytes | None:
    """A message that has not expired."""
    query = select(mail.c.data).where(
        (mail.c.address == address) & (mail.c.slot == slot) & (mail.c.expires_ms > now_ms)
    )
    data: bytes | None = transaction.execute(query).scalar_one_or_none()
    return data

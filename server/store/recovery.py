"""What paper devices begin with: one row for each, never replaced.

Data flow: recovery/put -> row -> recovery/read.
"""

from sqlalchemy import func, insert, select

from server.store.database import Transaction
from server.store.schema import recoveries


def put(
    transaction: Transaction, device: bytes, data: bytes, *, org: bytes, author: bytes, most: int
) -> bool | None:
    """Keep it. False if there is another one for this device, None if its author has put `most`."""
    present = get(transaction, device)
    if present is not None:
        return present == data
    own = (recoveries.c.org == org) & (recoveries.c.author == author)
    count = select(func.count()).select_from(recoveries).where(own)
    if transaction.execute(count).scalar_one() >= most:
        return None
    row = {"device": device, "org": org, "author": author, "data": data}
    transaction.execute(insert(recoveries), row)
    return True


def get(transaction: Transaction, device: bytes) -> bytes | None:
    """What was put for a paper device."""
    query = select(recoveries.c.data).where(recoveries.c.device == device)
    data: bytes | None = transaction.execute(query).scalar_one_or_none()
    return data

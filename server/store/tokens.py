"""Tokens for founding organizations, by their hash.

Data flow: parsec-server token -> `add` -> row -> org/create -> `spend`, with the founding.

A spent token stays, with the organization that it founded: a repeated founding is told from
another use of the token. One that expired unused is forgotten.
"""

from dataclasses import dataclass

from sqlalchemy import delete, insert, select, update

from parsec_fs.protocol.ids import Hash, OrgId
from server.store.database import Transaction
from server.store.schema import founding_tokens as tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredToken:
    """What is known of a token. `org` is None as long as it is unused."""

    expires_ms: int
    org: OrgId | None


def add(transaction: Transaction, token_hash: Hash, *, now_ms: int, expires_ms: int) -> None:
    """Permit one founding until `expires_ms`; unused tokens that have expired are forgotten."""
    expired = tokens.c.org.is_(None) & (tokens.c.expires_ms <= now_ms)
    transaction.execute(delete(tokens).where(expired))
    transaction.execute(insert(tokens), {"token_hash": token_hash, "expires_ms": expires_ms})


def get(transaction: Transaction, token_hash: Hash) -> StoredToken | None:
    """A token that was drawn, whatever became of it."""
    query = select(tokens.c.expires_ms, tokens.c.org).where(tokens.c.token_hash == token_hash)
    row = transaction.execute(query).first()
    if row is None:
        return None
    return StoredToken(expires_ms=row.expires_ms, org=None if row.org is None else OrgId(row.org))


def spend(transaction: Transaction, token_hash: Hash, org: OrgId) -> bool:
    """Mark an unused token as spent on an organization. False if it was spent meanwhile: of two
    transactions with one token, the second waits for the first one's row and finds nothing."""
    unused = (tokens.c.token_hash == token_hash) & tokens.c.org.is_(None)
    return transaction.execute(update(tokens).where(unused).values(org=org)).rowcount == 1

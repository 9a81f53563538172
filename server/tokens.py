"""One-time tokens that permit founding an organization.

Data flow: operator -> `parsec-server token` -> hash in the database, token in a 0600 file -> the
founder, by hand -> org/create.

The token itself is in no log, no argument and no table: whoever reads the server's disk, except
this file, learns nothing that founds an organization.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from parsec_fs.protocol.hashing import founding_token_hash
from server.identity import write_new
from server.store import tokens
from server.store.database import Database

TOKEN_LIFE_MS: Final = 7 * 24 * 3_600_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Permit:
    """A token's file, and when it ends (Unix milliseconds)."""

    file: Path
    expires_ms: int


def permit_founding(database: Database, home: Path, *, token: bytes, now_ms: int) -> Permit:
    """Store the hash of a freshly drawn 32-byte token, write the token itself, in hex, below
    `home`. Nothing is permitted if the file cannot be written. Raises InputError."""
    name = founding_token_hash(token)
    permit = Permit(
        file=home / f"founding-token-{name.hex()[:16]}", expires_ms=now_ms + TOKEN_LIFE_MS
    )
    with database.writing() as transaction:
        tokens.add(transaction, name, now_ms=now_ms, expires_ms=permit.expires_ms)
        write_new(permit.file, token.hex().encode() + b"\n", mode=0o600)
    return permit

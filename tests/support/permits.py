"""Tokens for founding organizations on the servers of tests, drawn as their operator does it.

Data flow: a running server's database -> `operating` -> `token_for(registration)` -> org/create.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from parsec_fs.protocol.ids import ServerLogId
from parsec_fs.protocol.statements import ServerRegistration
from server.app import wall_ms
from server.store.database import Database
from server.tokens import permit_founding

_OPERATED: dict[ServerLogId, tuple[Database, Path]] = {}


@contextmanager
def operating(server_log: ServerLogId, database: Database, home: Path) -> Iterator[None]:
    """While the block lasts, `token_for` draws tokens of this server. The newest of several
    servers with one identity counts; they share their database."""
    before = _OPERATED.get(server_log)
    _OPERATED[server_log] = (database, home)
    try:
        yield
    finally:
        del _OPERATED[server_log]
        if before is not None:
            _OPERATED[server_log] = before


def draw_token(database: Database, home: Path, *, now_ms: int | None = None) -> bytes:
    """A fresh token, as its file says it; the file is gone."""
    now_ms = wall_ms() if now_ms is None else now_ms
    permit = permit_founding(database, home, token=os.urandom(32), now_ms=now_ms)
    token = bytes.fromhex(permit.file.read_text())
    permit.file.unlink()
    return token


def token_for(registration: ServerRegistration) -> bytes:
    """A fresh token of a server that is operated here."""
    database, home = _OPERATED[registration.server_log]
    return draw_token(database, home)

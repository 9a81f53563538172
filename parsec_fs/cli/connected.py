"""The organization for a command that shows it: as new as it can be had, or what is known here.

Data flow: device file -> connection -> pulled org log -> command.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from parsec_fs.cli.settings import Settings
from parsec_fs.connection import Connection, connect
from parsec_fs.identity import Identity
from parsec_fs.key_renewal import renew_if_due
from parsec_fs.protocol.errors import OfflineError


@asynccontextmanager
async def connected(settings: Settings, identity: Identity) -> AsyncIterator[Connection]:
    """Says so if the server cannot be reached. Raises RefusedError, VerificationError."""
    async with connect(settings.home, identity) as connection:
        try:
            await connection.org.pull()
            await renew_if_due(connection)
        except OfflineError:
            settings.output.note("! the server cannot be reached: what is known here")
        yield connection

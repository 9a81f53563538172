"""What stands in the way of one workspace's synchronisation, by whose fault, for status and mount.

Data flow: errors of the loops of `sync` -> `Standing` -> status, gate, auditor.

That this device was revoked is remembered over restarts: it stays read-only where the server that
said so cannot be reached, and is writable again only when that one answers it as a member.

Errors by blame: what cannot be reached is tried again; a refusal waits for a change of roles or
quota; a failed verification goes to the auditor; a program that is too old waits to be updated, and
sends nothing until then: it could not follow what comes of it.
"""

import logging
from collections.abc import Callable
from typing import Final

from parsec_fs.protocol.commands import Outcome
from parsec_fs.protocol.errors import (
    DataError,
    DeviceRevokedError,
    OfflineError,
    OutdatedError,
    ParsecFSError,
    RefusedError,
    StaleError,
    VerificationError,
)
from parsec_fs.storage.realm_store import RealmStore

_REVOKED: Final = "revoked"

log = logging.getLogger("parsec_fs.workspace.sync")


class Standing:
    """`on_failure` is told what is false, `on_change` when `revoked` has changed."""

    def __init__(
        self,
        store: RealmStore,
        *,
        on_failure: Callable[[VerificationError], None],
        on_change: Callable[[], None],
    ) -> None:
        self.trouble = ""
        self.revoked = bool(store.fact(_REVOKED))
        """The server says so: the mount refuses changes, which could never be sent."""
        self.outdated = ""
        """Why this program is too old; empty if it is not."""
        self._store = store
        self._on_failure = on_failure
        self._on_change = on_change

    def pulled(self) -> None:
        """The server has answered as it answers a member, and all of it was understood."""
        self.revoked, self.outdated = False, ""

    def check_member(self) -> None:
        """Raises DeviceRevokedError: what waits for the server would wait for ever."""
        if self.revoked:
            raise DeviceRevokedError(Outcome.REVOKED.name)

    def text(self, due: str) -> str:
        """What stands in the way, for people: the end of this device, else a new key that is `due`,
        else what failed last; empty if nothing does."""
        if self.revoked:
            return str(DeviceRevokedError(Outcome.REVOKED.name))
        return due or self.trouble

    async def remember(self) -> None:
        """Over restarts, whether this device was revoked."""
        if self.revoked != bool(self._store.fact(_REVOKED)):
            async with self._store.writing() as write:
                write.fact(_REVOKED, b"\x01" if self.revoked else b"")

    def report(self, error: ParsecFSError, work: str) -> None:
        """Something has failed and will be tried again."""
        self.trouble = str(error) or type(error).__name__
        if isinstance(error, OutdatedError):
            self.outdated = self.trouble
        if isinstance(error, DeviceRevokedError) and not self.revoked:
            self.revoked = True
            self._on_change()
        if isinstance(error, VerificationError):
            log.error("%s: %s", work, error)
            self._on_failure(error)
        elif isinstance(error, OfflineError | StaleError):
            log.info("%s: %s", work, error)
        elif isinstance(error, RefusedError | DataError | OutdatedError):
            log.warning("%s: %s", work, error)
        else:
            log.error("%s: %s", work, error)

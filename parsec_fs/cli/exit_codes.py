"""Every exit code, once, and which error leads to it. Documented in docs/cli.md, stable.

Data flow: error -> `exit_code` -> process status. Unknown codes mean failure.
"""

from enum import IntEnum
from typing import Final

import trio

from parsec_fs.lockfile import LockedError
from parsec_fs.protocol.errors import (
    DataError,
    DeviceFileError,
    ExpiredError,
    ForbiddenError,
    InputError,
    LocalError,
    OfflineError,
    ParsecFSError,
    RefusedError,
    StaleError,
    TakenBackError,
    VerificationError,
)


class ExitCode(IntEnum):
    """What a script can rely on."""

    OK = 0
    FAILED = 1
    USAGE = 2
    PARTIAL = 3
    PENDING = 4
    NOT_FOUND = 10
    BUSY = 11
    WRONG_SECRET = 12
    NOT_ALLOWED = 13
    REVOKED = 14
    OFFLINE = 20
    TIMEOUT = 21
    TAMPERED = 30
    NOT_ANCHORED = 31
    DAMAGED = 40
    NOT_EMPTY = 41
    INTERRUPTED = 130


MEANINGS: Final[dict[ExitCode, str]] = {
    ExitCode.OK: "done",
    ExitCode.FAILED: "failed for a reason that the message says",
    ExitCode.USAGE: "the command was not understood",
    ExitCode.PARTIAL: "done in part",
    ExitCode.PENDING: "work is left that is not stored elsewhere yet",
    ExitCode.NOT_FOUND: "no such organization, invitation, workspace, device or path",
    ExitCode.BUSY: "in use: mounted already, or a file in it is open",
    ExitCode.WRONG_SECRET: "the key or the code does not open it",
    ExitCode.NOT_ALLOWED: "your role does not allow it",
    ExitCode.REVOKED: "the server does not know this device (any more)",
    ExitCode.OFFLINE: "server or chain cannot be reached; your changes are kept",
    ExitCode.TIMEOUT: "not reached within the time given",
    ExitCode.TAMPERED: "evidence of tampering, rollback or fork",
    ExitCode.NOT_ANCHORED: "not yet covered by a checkpoint on the chain",
    ExitCode.DAMAGED: "the local state is damaged",
    ExitCode.NOT_EMPTY: "the mountpoint is not an empty folder",
    ExitCode.INTERRUPTED: "interrupted",
}


class CommandError(ParsecFSError):
    """A command's own failure: its code, and a text that names the next command to type."""

    def __init__(self, code: ExitCode, message: str) -> None:
        super().__init__(message)
        self.code = code


_OUTCOMES: Final = {
    "NOT_ALLOWED": ExitCode.NOT_ALLOWED,
    "NOT_FOUND": ExitCode.NOT_FOUND,
    "NOT_AUTHENTICATED": ExitCode.REVOKED,
    "REVOKED": ExitCode.REVOKED,
}

_CLASSES: Final[tuple[tuple[type[BaseException], ExitCode], ...]] = (
    (DeviceFileError, ExitCode.WRONG_SECRET),
    (ForbiddenError, ExitCode.NOT_ALLOWED),
    (TakenBackError, ExitCode.NOT_FOUND),
    (InputError, ExitCode.USAGE),
    (OfflineError, ExitCode.OFFLINE),
    (StaleError, ExitCode.OFFLINE),
    (LockedError, ExitCode.BUSY),
    (LocalError, ExitCode.FAILED),
    # An expired trust period accuses nobody: the chain can only be trusted again by a human.
    (ExpiredError, ExitCode.OFFLINE),
    (VerificationError, ExitCode.TAMPERED),
    (DataError, ExitCode.FAILED),
    (TimeoutError, ExitCode.TIMEOUT),
    (KeyboardInterrupt, ExitCode.INTERRUPTED),
)


def first_cause(error: BaseException) -> BaseException:
    """The one error that matters of a group: what failed first, not what was cancelled by it."""
    while isinstance(error, BaseExceptionGroup):
        others = [one for one in error.exceptions if not isinstance(one, trio.Cancelled)]
        error = others[0] if others else error.exceptions[0]
    return error


def exit_code(error: BaseException) -> ExitCode:
    """Code of an error that reached the top."""
    if isinstance(error, CommandError):
        return error.code
    if isinstance(error, RefusedError):
        return _OUTCOMES.get(error.outcome, ExitCode.FAILED)
    for cls, code in _CLASSES:
        if isinstance(error, cls):
            return code
    return ExitCode.FAILED

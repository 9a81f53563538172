"""The error tree, by blame: who is wrong, may we retry, is it evidence?

Data flow: everything raised on purpose in the three programs is one of these classes.

    ParsecFSError
    |-- InputError            the user or operator asked for something invalid; one line, no trace
    |   |-- ForbiddenError    this user's profile or role does not allow it
    |   |-- TakenBackError    the invitation was cancelled by whoever had made it
    |   `-- DeviceFileError   missing, unreadable or wrongly unlocked device file
    |-- OperationError        an answer that a system call can carry (has an errno)
    |   |-- LocalError        ordinary: not found, exists, not empty, name too long ...
    |   `-- RemoteError       could not be done now, or was refused
    |       |-- OfflineError  retry later; local work goes on
    |       |-- RefusedError  the server answered no with an outcome; not retried as it is
    |       |   |-- DeviceRevokedError this device counts no more
    |       |   `-- StorageFullError   no room for more bytes; retried until there is
    |       |-- StaleError    behind: fetch what is missing and do it again
    |       `-- OutdatedError this program is too old for what it was shown; nobody is wrong
    |-- DataError             bytes are not a well-formed record
    `-- VerificationError     well-formed but false: evidence, kept raw, never retried
        |-- SignatureError
        |-- DecryptionError   AEAD, key commitment or digest does not match
        |-- TrustchainError   the signer was not allowed to at that log position
        |-- ProofError        a root, inclusion, consistency or map proof does not match
        |-- RollbackError     older than what this device already accepted
        |-- ForkError         two signed statements that cannot both be true
        `-- ExpiredError      the trust period is over; a human must renew it
"""

import errno as _errno


class ParsecFSError(Exception):
    """Root of every error raised on purpose."""


class InputError(ParsecFSError):
    """What was asked for is invalid. The text says what happened and the next command to type."""


class ForbiddenError(InputError):
    """This user's profile or role does not allow it; nothing was sent."""


class TakenBackError(InputError):
    """The invitation was taken back by whoever had made it."""


class DeviceFileError(InputError):
    """The device file is missing, damaged, or the secret does not open it."""


class OperationError(ParsecFSError):
    """A result that a system call can show. `errno` is what the kernel is told."""

    errno: int = _errno.EIO

    def __init__(self, message: str = "", *, errno: int | None = None) -> None:
        super().__init__(message)
        if errno is not None:
            self.errno = errno


class LocalError(OperationError):
    """An ordinary answer of a file system."""


class RemoteError(OperationError):
    """Something beyond this device failed or refused."""


class OfflineError(RemoteError):
    """Server, storage or chain could not be reached. Retry later."""

    errno = _errno.EHOSTUNREACH


class RefusedError(RemoteError):
    """The server refused. `outcome` is the documented outcome name, `answer` the decoded answer."""

    errno = _errno.EACCES

    def __init__(self, outcome: str, answer: object = None) -> None:
        super().__init__(f"the server refused: {outcome}")
        self.outcome = outcome
        self.answer = answer


class StorageFullError(RefusedError):
    """The server takes no more bytes, whether its disk or this workspace's share is full."""

    errno = _errno.EDQUOT

    def __init__(self, outcome: str) -> None:
        super().__init__(outcome)
        self.args = (
            "the server has no room for more; changes stay on this device, safe against a crash "
            "but on no other device, and are sent by themselves when there is room",
        )


class DeviceRevokedError(RefusedError):
    """The server says that this device or its user was revoked. Its word alone: it could refuse
    without it just as well, and nothing that is here is lost or opened by it."""

    errno = _errno.EACCES

    def __init__(self, outcome: str) -> None:
        super().__init__(outcome)
        self.args = (
            "this device was revoked: it gets and sends nothing more. What is on it stays readable "
            "in mounted workspaces; copy what was not sent to another folder. To be a device "
            "again: parsec-fs device add, on another device of yours, or ask an administrator",
        )


class StaleError(RemoteError):
    """Local knowledge is behind; fetch and redo."""

    errno = _errno.EAGAIN


class OutdatedError(RemoteError):
    """A record of a kind that this program does not know, signed by who may sign. It is evidence
    of nothing: the organization may use what came later than this program."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"this program is too old for its organization, which uses {what}: update it. Nothing "
            "is lost: changes stay on this device until then, and nobody is accused"
        )


class DataError(ParsecFSError):
    """Bytes that are not a well-formed, canonical, bounded record."""


class VerificationError(ParsecFSError):
    """Well-formed but false. `evidence` holds the raw inputs that show it."""

    def __init__(self, message: str = "", *, evidence: tuple[bytes, ...] = ()) -> None:
        super().__init__(message)
        self.evidence = evidence


class SignatureError(VerificationError):
    """A signature does not verify under the expected key."""


class DecryptionError(VerificationError):
    """Ciphertext does not open under the expected key and context."""


class TrustchainError(VerificationError):
    """The author had no right to this at its position in the log (rule 9)."""


class ProofError(VerificationError):
    """A recomputed root differs from the one that was signed or anchored."""


class RollbackError(VerificationError):
    """Older than a state that this device already accepted."""


class ForkError(VerificationError):
    """Two statements by one signer that cannot both be true."""


class ExpiredError(VerificationError):
    """Keys are trusted no longer without renewal (rule 29)."""

"""The one table from errors to what the kernel is told.

Data flow: any error of a handler -> `errno_of` -> FUSEError.

OperationErrors carry their errno. Everything else that is raised on purpose while a request is
served means that data cannot be shown or kept: EIO, never data (decisions.md 4).
"""

import errno

from parsec_fs.protocol.errors import OperationError, ParsecFSError


def errno_of(error: BaseException) -> int:
    """The errno for an error that reached the mount."""
    if isinstance(error, OperationError):
        return error.errno
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return error.errno
    return errno.EIO


def is_expected(error: BaseException) -> bool:
    """True iff the error is part of the design, and no bug to be logged with its traceback."""
    return isinstance(error, ParsecFSError)

"""What the state of trust allows at the mount: one small shared object.

Data flow: audit, sync (conviction, role) -> this -> mount/operations (before every request).
"""

import errno
from collections.abc import Awaitable, Callable

from parsec_fs.protocol.ids import ObjectId


async def _local_is_enough(position: int, about: ObjectId | None) -> None:
    return None


class Gate:
    """`refusal`: errno for every change, 0 if changes are allowed. `frozen` iff convicted.

    While frozen, `is_readable(id)` says whether an object was verified before (else EIO).
    `fsync_wait(position, about)` returns when everything up to a journal position has the state
    that the mount option fsync=local|logged|audited promises; it raises LocalError if this file,
    or a name in this folder, cannot have it. `before_open`, if there is one, must return
    before a file is opened (consistency=strict, rule 27).
    """

    __slots__ = ("before_open", "frozen", "fsync_wait", "is_readable", "refusal")

    def __init__(self) -> None:
        self.refusal = 0
        self.frozen = False
        self.is_readable: Callable[[ObjectId], bool] = lambda id: True
        self.fsync_wait: Callable[[int, ObjectId | None], Awaitable[None]] = _local_is_enough
        self.before_open: Callable[[], Awaitable[None]] | None = None

    def freeze(self) -> None:
        """The server was convicted: nothing changes any more, only verified data is shown."""
        self.frozen = True
        self.refusal = errno.EROFS

    def read_only(self, only: bool) -> None:
        """This user may only read, or may write again; a conviction stands."""
        if not self.frozen:
            self.refusal = errno.EACCES if only else 0

"""Time for heads and leaves: never later than what is reserved on disk, never earlier than before.

Data flow: wall clock, stored lease -> `LeasedClock` -> heads and leaf headers.

Rule 14: a head says "at this time the log had this size". If the clock stepped back over a restart,
a later leaf could bear an earlier time and convict an honest server. So times are reserved ahead,
durably, before they are used; after a start the clock stands still at the reserved time until the
wall clock has passed it. Several processes on one database must share the machine's clock.
"""

from collections.abc import Callable

import anyio

from server.store.database import Database
from server.store.server_row import extend_lease


class LeasedClock:
    """Never goes back, also over restarts. `wall` is Unix time in milliseconds."""

    def __init__(
        self, database: Database, *, lease_ms: int, ahead_ms: int, wall: Callable[[], int]
    ) -> None:
        """`lease_ms` is the stored lease, `ahead_ms` how far it is extended each time."""
        self._database = database
        self._lease = self._last = lease_ms
        self._ahead = ahead_ms
        self._wall = wall
        self._extending = anyio.Lock()

    def read(self) -> int:
        """The time, at least the last one that was returned. Called under the lock of a log,
        where no older reading of the same log can still be on its way. Any thread."""
        self._last = max(self._last, min(self._wall(), self._lease))
        return self._last

    async def ensure(self) -> None:
        """Extend the lease if the time comes near it, so that `read` follows the wall clock."""
        if not self._is_short():
            return
        async with self._extending:
            if self._is_short():
                until = self._wall() + self._ahead
                self._lease = await self._database.write(
                    lambda transaction: extend_lease(transaction, until)
                )

    def _is_short(self) -> bool:
        return self._wall() > self._lease - self._ahead // 2

"""consistency=strict: `open` shows what was logged before it, by anyone.

Data flow: kernel -> this -> gate (sync: log what is pending, observe) -> mount/operations.

Rule 27: own pending changes are logged first, then a read stamp of this device is in the log, so
nothing that was logged before the `open` can be missing. Only `open` waits; names and attributes
are as new as the last pull. Without the server an `open` fails; it never shows older content.
"""

from typing import Any

import pyfuse3

from parsec_fs.mount.guards import waits
from parsec_fs.mount.operations import Operations
from parsec_fs.workspace.tree import FIRST_INODE


class StrictOperations(Operations):
    """As `Operations`, for a mount whose gate has a `before_open`."""

    async def open(self, inode: int, flags: int, ctx: Any) -> pyfuse3.FileInfo:
        if inode >= FIRST_INODE and ctx.pid != self.stage.pid:
            await self._fresh()
        info = await super().open(inode, flags, ctx)
        info.keep_cache = False  # the kernel may not know yet that its pages are old
        return info

    @waits
    async def _fresh(self) -> None:
        assert self.gate.before_open is not None
        await self.gate.before_open()

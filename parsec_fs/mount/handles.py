"""What is open: a file, a folder being listed, or a name of the mount itself.

Data flow: mount/operations (open, opendir) -> this -> read, write, readdir, release.
"""

import os
from typing import Final

from parsec_fs.workspace.nodes import Node

FMODE_EXEC: Final = 0o40
"""The flag of the kernel's own opens that run a program (linux/fs.h); never part of open(2)."""


class Handle:
    """An open file or folder. `after` is where the last read ended; `data` is a snapshot, if any,
    and so are the names in `listing`."""

    __slots__ = ("after", "data", "listing", "node", "runs", "writable")

    def __init__(self, node: Node | None, flags: int) -> None:
        self.node = node
        self.writable = flags & os.O_ACCMODE != os.O_RDONLY
        self.runs = bool(flags & FMODE_EXEC)
        self.after = 0
        self.data = b""
        self.listing: list[bytes] = []

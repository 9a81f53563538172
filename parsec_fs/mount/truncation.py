"""O_TRUNC, which the kernel leaves to whoever answers `open`.

Data flow: mount/operations (open, create) -> this -> workspace/files.

libfuse asks the kernel for FUSE_ATOMIC_O_TRUNC, whatever pyfuse3's documentation says about the
flag: no SETATTR follows. So this is also the only place that can take the privileges of a program
away when somebody unprivileged empties it; for all other changes the kernel sends the new mode.
"""

import errno
import os
from collections.abc import Iterable
from typing import Any, Final

import pyfuse3

from parsec_fs.mount.handles import Handle
from parsec_fs.protocol.errors import LocalError
from parsec_fs.workspace import files
from parsec_fs.workspace.nodes import FileNode
from parsec_fs.workspace.tree import Tree

SETUID: Final = 0o4000
SETGID: Final = 0o2000
GROUP_EXECUTE: Final = 0o010


def check_not_running(node: FileNode, flags: int, handles: Iterable[Handle]) -> None:
    """Raises ETXTBSY for O_RDONLY | O_TRUNC of a program that is being run.

    Opens for writing are refused by the kernel before they reach us; this one it would refuse too,
    but only after our answer, when the program is gone.
    """
    if flags & os.O_ACCMODE != os.O_RDONLY:
        return
    if any(handle.runs and handle.node is node for handle in handles):
        raise LocalError("program is running", errno=errno.ETXTBSY)


def on_open(tree: Tree, node: FileNode, ctx: Any, now: int) -> None:
    """Empty a file for the caller in `ctx`."""
    files.truncate(tree, node, 0, now)
    if ctx.uid != 0 and node.mode & (SETUID | SETGID):
        files.set_attributes(tree, node, now, mode=_unprivileged(node, ctx))


def _unprivileged(node: FileNode, ctx: Any) -> int:
    """As setattr_should_drop_suidgid of Linux: set-group-ID without group execution (once a sign of
    mandatory locking) stays where the caller is of the group."""
    mode = node.mode & ~SETUID
    of_group = ctx.gid == node.gid or node.gid in pyfuse3.get_sup_groups(ctx.pid)
    return mode if of_group and not mode & GROUP_EXECUTE else mode & ~SETGID

"""What the mount shows beside the tree: `.status` files and `user.parsec.*` attributes.

Data flow: daemon (facts) -> this -> mount/operations.

Rules guarded here: neither is listed, so copying tools do not take them along; neither can be set
(EPERM); a real entry of the same name in the tree wins.
"""

import errno
from collections.abc import Callable
from typing import Final, Protocol

from parsec_fs.protocol.errors import LocalError
from parsec_fs.protocol.ids import ObjectId
from parsec_fs.protocol.limits import NAME_MAX_SIZE
from parsec_fs.workspace.tree import Tree

XATTR_PREFIX: Final = b"user.parsec."
STATUS_INODES: Final = {b".status": 2, b".status.json": 3}
"""Numbers below `tree.FIRST_INODE`: no object has them."""


class Facts(Protocol):
    """What the daemon knows about objects and about itself."""

    def xattr(self, id: ObjectId, name: bytes) -> bytes | None:
        """Value of a virtual attribute (full name), or None if this object has no such."""

    def status_text(self) -> bytes:
        """For people."""

    def status_json(self) -> bytes:
        """For programs."""


class LocalFacts:
    """Facts of a workspace that has no server: everything is local."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree

    def xattr(self, id: ObjectId, name: bytes) -> bytes | None:
        return b"local" if name == b"user.parsec.state" else None

    def status_text(self) -> bytes:
        return b"state: local\npending changes: %d\n" % self._pending()

    def status_json(self) -> bytes:
        return b'{"state": "local", "pending": %d}\n' % self._pending()

    def _pending(self) -> int:
        return len(self._tree.dirty_nodes) + len(self._tree.dirty_names)


def virtual_xattr(facts: Facts, id: ObjectId, name: bytes) -> bytes:
    """Value of a virtual attribute. Raises ENODATA."""
    value = facts.xattr(id, name)
    if value is None:
        raise LocalError("no such attribute", errno=errno.ENODATA)
    return value


def status_content(facts: Facts, inode: int) -> bytes:
    """What one of the status files says now."""
    contents: dict[int, Callable[[], bytes]] = {2: facts.status_text, 3: facts.status_json}
    return contents[inode]()


def check_settable(name: bytes) -> None:
    """An extended attribute that may be set or removed. Raises EPERM, EOPNOTSUPP, ERANGE."""
    if name.startswith(XATTR_PREFIX):
        raise LocalError("virtual attribute", errno=errno.EPERM)
    if not name.startswith(b"user."):
        raise LocalError("only user attributes are kept", errno=errno.EOPNOTSUPP)
    if len(name) > NAME_MAX_SIZE:
        raise LocalError("attribute name too long", errno=errno.ERANGE)

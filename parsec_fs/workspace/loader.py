"""What the tree needs from the local store, and the store of a workspace that has none yet.

Data flow: storage (sealed rows of the local store) -> this interface -> filesystem -> tree.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from parsec_fs.protocol.ids import ObjectId
from parsec_fs.workspace.assigning import NodeManifest
from parsec_fs.workspace.nodes import Entry


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """All names of a folder, from all of its pages, and the newest times of these pages."""

    names: Mapping[bytes, Entry]
    mtime_ns: int
    ctime_ns: int


class Loader(Protocol):
    """Synchronous: one read of tens of microseconds each. Everything it returns was verified."""

    def load(self, id: ObjectId) -> NodeManifest | None:
        """What the store says about an object (references flat), or None."""

    def load_children(self, id: ObjectId, folder: NodeManifest) -> Names:
        """The names in a folder."""

    def link_count(self, id: ObjectId) -> int:
        """How many names of this object the store has."""

    def version(self, id: ObjectId) -> int:
        """Its version in the store; 0 if it is not there."""

    def journal_position(self) -> int:
        """Records up to this position are contained in the store."""


class EmptyStore:
    """The store before anything was logged: a workspace that lives in its journal alone."""

    def load(self, id: ObjectId) -> NodeManifest | None:
        return None

    def load_children(self, id: ObjectId, folder: NodeManifest) -> Names:
        return Names(names={}, mtime_ns=0, ctime_ns=0)

    def link_count(self, id: ObjectId) -> int:
        return 0

    def version(self, id: ObjectId) -> int:
        return 0

    def journal_position(self) -> int:
        return 0

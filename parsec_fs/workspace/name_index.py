"""Where objects are named, and which pending names took names from them: for one settlement.

Data flow: settlements -> tree (`index`: what comes) -> this -> overlay, settling (questions).

Pure. Each of these questions is otherwise a look at every name in memory, or at every pending one,
and who gives the deletion of a folder up asks several of them for each name in it. Built once, the
index is told of what comes to it meanwhile, and never of what goes: whoever asks it looks at what
the tree says of these few keys.
"""

from collections import defaultdict
from collections.abc import Mapping

from parsec_fs.protocol.ids import ObjectId
from parsec_fs.workspace.nodes import Entry, FolderNode, Node

NameKey = tuple[ObjectId, bytes]
"""A folder's id and a name in it."""

_Keys = dict[NameKey, None]
"""In the order in which they came."""


class NameIndex:
    """Of all nodes in memory and the pending names, while no capture is in flight. `looked` counts
    the keys that were looked at."""

    def __init__(
        self,
        nodes: Mapping[ObjectId, Node],
        pending: Mapping[NameKey, tuple[int, Entry | None]],
    ) -> None:
        self.looked = 0
        self._nodes = nodes
        self._dirty = pending
        self._named: dict[ObjectId, _Keys] = defaultdict(dict)
        self._taken: dict[ObjectId, _Keys] = defaultdict(dict)
        self._pending: dict[ObjectId, _Keys] = defaultdict(dict)
        for folder in nodes.values():
            if type(folder) is FolderNode:
                self.shown(folder)
        for key, (_, base) in pending.items():
            self.pends(key, base)

    # What comes

    def shown(self, folder: FolderNode) -> None:
        """The names of a folder are in memory."""
        for name, entry in (folder.children or {}).items():
            self.stands(folder.id, name, entry)

    def stands(self, folder: ObjectId, name: bytes, entry: Entry) -> None:
        """A name stands for an object."""
        self.looked += 1
        self._named[entry[0]][folder, name] = None

    def pends(self, key: NameKey, base: Entry | None) -> None:
        """A change of a name is pending over what it stood for."""
        self.looked += 1
        self._pending[key[0]][key] = None
        if base is not None:
            self._taken[base[0]][key] = None

    # Questions

    def names_of(self, node: Node) -> list[tuple[FolderNode, bytes]]:
        """Where an object is named."""
        found = []
        for key in self._look(self._named, node.id):
            folder = self._nodes.get(key[0])
            if type(folder) is FolderNode and (folder.children or {}).get(key[1]) == node.entry:
                found.append((folder, key[1]))
        return found

    def named_by(self, id: ObjectId) -> list[NameKey]:
        """Names, pending or not, that may stand for an object."""
        return self._look(self._named, id)

    def taken_from(self, id: ObjectId) -> list[tuple[NameKey, Entry]]:
        """Pending names that stood for an object, and what they stood for."""
        found = []
        for key in self._look(self._taken, id):
            base = self._dirty.get(key, (0, None))[1]
            if base is not None and base[0] == id:
                found.append((key, base))
        return found

    def taken_by(self, id: ObjectId) -> list[NameKey]:
        """Names, pending or not, that may have taken a name from an object."""
        return self._look(self._taken, id)

    def pending_in(self, folder: ObjectId) -> list[NameKey]:
        """Pending names in a folder."""
        keys = self._look(self._pending, folder)
        return [key for key in keys if key in self._dirty]

    def _look(self, of: dict[ObjectId, _Keys], id: ObjectId) -> list[NameKey]:
        keys = list(of.get(id, ()))
        self.looked += len(keys)
        return keys

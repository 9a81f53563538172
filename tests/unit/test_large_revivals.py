"""A large deletion that is given up: what it costs grows with its size, and depth is no limit.

Data flow: a real file system over a model store -> everything deleted, another device puts a file
into it -> contest -> steps of the index, reads of the store, what is shown.
"""

from collections import Counter
from pathlib import Path

import pytest

from parsec_fs.protocol.ids import ObjectId, RealmId
from parsec_fs.protocol.manifests import FILE, FOLDER, Child
from parsec_fs.protocol.sealing import LocalSealer
from parsec_fs.storage.contents import Contents
from parsec_fs.storage.journal import Journal
from parsec_fs.workspace import names
from parsec_fs.workspace.assigning import NodeManifest
from parsec_fs.workspace.contest import Contest
from parsec_fs.workspace.filesystem import Filesystem
from parsec_fs.workspace.loader import Names
from parsec_fs.workspace.nodes import ROOT_INODE, FolderNode, Node
from parsec_fs.workspace.payloads import Found
from parsec_fs.workspace.remote_changes import Invalidation, RemoteNames
from tests.support.trees import ModelStore

THEIRS = ObjectId(b"other-device-obj")


class CountingStore(ModelStore):
    """Counts reads; `links` are the names of each object."""

    def __init__(self) -> None:
        super().__init__()
        self.links = Counter[ObjectId]()
        self.reads = 0

    def count(self) -> None:
        self.links = Counter(entry[0] for names in self.names.values() for entry in names.values())

    def link_count(self, id: ObjectId) -> int:
        return self.links[id]

    def load(self, id: ObjectId) -> NodeManifest | None:
        self.reads += 1
        return super().load(id)

    def load_children(self, id: ObjectId, folder: NodeManifest) -> Names:
        found = super().load_children(id, folder)
        self.reads += len(found.names)
        return found


class Deleted:
    """A workspace in which a folder `top` was deleted with all that is in it: so many files, or so
    many folders in each other. Another device puts a file into the lowest folder."""

    def __init__(self, place: Path, *, files: int = 0, depth: int = 0) -> None:
        self.store = CountingStore()
        self.filesystem = Filesystem(
            journal=Journal(place / "journal", LocalSealer(b"k" * 32)),
            contents=Contents(place / "contents", RealmId(b"r" * 32)),
            loader=self.store,
        )
        self.filesystem.open()
        self.tree = self.filesystem.tree
        self.steps: list[int] = []
        self.contest = Contest(self.filesystem, label=lambda: b"this", invalidate=self._told)
        self.top = self._mkdir(ROOT_INODE, b"top")
        made: list[Node] = [self.top]
        for number in range(depth):
            made.append(self._mkdir(made[-1].inode, b"in %d" % number))
        lowest = made[-1]
        for number in range(files):
            names.make_file(self.tree, lowest.inode, b"%d" % number, 0o644, (0, 0), 1)
        captured = self.filesystem.capture(limit=1_000_000)
        self.store.take(captured)
        self.filesystem.logged(captured)
        self.store.count()
        self._delete(made, files)
        manifest = next(one for id, one in self.store.objects.items() if id != lowest.id)
        self.store.objects[THEIRS] = manifest
        self.store.names.setdefault(lowest.id, {})[b"theirs"] = (THEIRS, FILE)
        self.store.count()
        child = Child(name=b"theirs", id=THEIRS, kind=FILE)
        self.found = RemoteNames(folder=lowest.id, names={b"theirs": child}, mtime_ns=2, ctime_ns=2)

    def _told(self, changed: list[Invalidation]) -> None:
        index = self.tree.index
        self.steps.append(0 if index is None else index.looked)

    def _mkdir(self, parent: int, name: bytes) -> Node:
        return names.create(self.tree, parent, name, 0o040755, owner=(0, 0), now=1)

    def _delete(self, made: list[Node], files: int) -> None:
        for number in range(files):
            names.unlink(self.tree, made[-1].inode, b"%d" % number, 0, 2)
        for number in reversed(range(len(made) - 1)):
            names.rmdir(self.tree, made[number].inode, b"in %d" % number, 0, 2)
        names.rmdir(self.tree, ROOT_INODE, b"top", 0, 2)
        for node in made:
            self.tree.forget(node.inode, 1)

    def settle(self) -> int:
        """The steps that it took."""
        self.store.reads = 0
        changes = self.contest.note(Found(rows=[], changes=[self.found]))
        self.filesystem.apply_remote(changes)
        assert self.contest.settle()
        return max(self.steps) + self.store.reads

    def shown(self) -> list[int]:
        """How many names each folder has, from `top` down to the lowest."""
        counts, folder = [], self.tree.nodes[self.top.id]
        while True:
            assert isinstance(folder, FolderNode)
            children = self.filesystem.call(self.tree.children, folder)
            counts.append(len(children))
            below = [entry for entry in children.values() if entry[1] == FOLDER]
            assert folder.nlink == 2 + len(below)
            if not below:
                return counts
            folder = self.filesystem.call(self.tree.child, folder, below[0])

    def close(self) -> None:
        self.filesystem.close()


@pytest.mark.parametrize(("files", "depth"), [(5_000, 0), (0, 2_000)])
def test_a_deletion_is_given_up_in_steps_that_grow_with_its_size(
    tmp_path: Path, files: int, depth: int
) -> None:
    whole = Deleted(tmp_path / "whole", files=files, depth=depth)
    tenth = Deleted(tmp_path / "tenth", files=files // 10, depth=depth // 10)
    few = tenth.settle()
    assert whole.settle() <= 12 * few
    assert whole.shown() == [1] * depth + [files + 1]
    assert not whole.tree.dirty_names
    whole.close()
    tenth.close()

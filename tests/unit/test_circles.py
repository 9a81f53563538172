"""Two moves that make a circle together: ours is given up, and what folders say of themselves.

Data flow: a real file system over a model store -> a move of ours, the other device's -> contest ->
names and link counts.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from parsec_fs.protocol.ids import ROOT_OBJECT, RealmId
from parsec_fs.protocol.manifests import FOLDER, Child
from parsec_fs.protocol.sealing import LocalSealer
from parsec_fs.storage.contents import Contents
from parsec_fs.storage.journal import Journal
from parsec_fs.workspace import names
from parsec_fs.workspace.contest import Contest
from parsec_fs.workspace.filesystem import Filesystem
from parsec_fs.workspace.nodes import ROOT_INODE, FolderNode, Node
from parsec_fs.workspace.payloads import Found
from parsec_fs.workspace.remote_changes import RemoteNames
from tests.support.trees import ModelStore


@pytest.fixture
def filesystem(tmp_path: Path) -> Iterator[Filesystem]:
    """Open, over a model store."""
    one = Filesystem(
        journal=Journal(tmp_path / "journal", LocalSealer(b"k" * 32)),
        contents=Contents(tmp_path / "contents", RealmId(b"r" * 32)),
        loader=ModelStore(),
    )
    one.open()
    yield one
    one.close()


def logged_folders(filesystem: Filesystem, *called: bytes) -> list[Node]:
    tree, store = filesystem.tree, filesystem.loader
    assert isinstance(store, ModelStore)
    made = [names.create(tree, ROOT_INODE, one, 0o040755, owner=(0, 0), now=1) for one in called]
    captured = filesystem.capture(limit=1000)
    store.take(captured)
    filesystem.logged(captured)
    return made


def test_folders_that_were_to_be_in_each_other_count_their_links(filesystem: Filesystem) -> None:
    a, b = logged_folders(filesystem, b"a", b"b")
    tree, store = filesystem.tree, filesystem.loader
    assert isinstance(store, ModelStore)
    names.rename(tree, ROOT_INODE, b"a", b.inode, b"a", flags=0, uid=0, now=5)
    store.names.setdefault(a.id, {})[b"b"] = store.names[ROOT_OBJECT].pop(b"b")
    theirs = {b"b": Child(name=b"b", id=b.id, kind=FOLDER)}
    contest = Contest(filesystem, label=lambda: b"this", invalidate=lambda changed: None)
    changes = contest.note(
        Found(
            rows=[],
            changes=[
                RemoteNames(folder=ROOT_OBJECT, names={b"b": None}, mtime_ns=2, ctime_ns=2),
                RemoteNames(folder=a.id, names=theirs, mtime_ns=2, ctime_ns=2),
            ],
        )
    )
    filesystem.apply_remote(changes)
    assert contest.settle()
    shown = {}
    for folder in (tree.nodes[ROOT_OBJECT], a, b):
        assert isinstance(folder, FolderNode)
        shown[folder.id] = (list(filesystem.call(tree.children, folder)), folder.nlink)
    assert shown == {ROOT_OBJECT: ([b"a"], 3), a.id: ([b"b"], 3), b.id: ([], 2)}

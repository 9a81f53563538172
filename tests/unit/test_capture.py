"""What a capture may hold: closures, deletions, page splits, and up to where it covers the journal.

Data flow: operations on a tree -> capture -> a model store that checks what sync relies on.
"""

import pytest

from parsec_fs.protocol.ids import ROOT_OBJECT
from parsec_fs.protocol.manifests import FileManifest, FolderManifest
from parsec_fs.workspace import capture as captures
from parsec_fs.workspace import files, names
from parsec_fs.workspace.nodes import ROOT_INODE, TYPE_FOLDER, FileNode
from tests.support.trees import World

OWNER = (0, 0)


def make(world: World, name: bytes, content: bytes | None = b"x") -> FileNode:
    """A file in the root; its content journalled, or still being written (None)."""
    node = world.call(names.make_file, ROOT_INODE, name, 0o644, OWNER, world.now)
    assert isinstance(node, FileNode)
    world.call(files.write, node, 0, content or b"unfinished", world.now)
    if content is not None:
        files.journal_content(world.tree, node)
    return node


def log(world: World, limit: int = 4000) -> captures.Capture:
    """One whole round of synchronisation."""
    capture = world.capture(limit)
    world.store.take(capture)
    captures.logged(world.tree, capture)
    return capture


def test_everything_settled_is_taken_and_covered() -> None:
    world = World()
    node = make(world, b"file", b"content")
    capture = log(world)
    assert capture.position == world.tree.position
    manifest = world.store.load(node.id)
    assert isinstance(manifest, FileManifest)
    assert manifest.inline == b"content"
    assert not world.tree.is_dirty(node.id)
    assert not world.tree.is_dirty(ROOT_OBJECT)
    assert not log(world)


def test_a_file_being_written_stays_behind_with_its_name() -> None:
    world = World()
    busy, done = make(world, b"busy", None), make(world, b"done")
    capture = log(world)
    assert world.store.load(busy.id) is None
    assert [name for name, _ in capture.folders[0].names] == [b"done"]
    assert world.tree.is_dirty(busy.id)
    assert not world.tree.is_dirty(done.id)
    first = min(position for position, record in world.records if busy.id in record)
    assert capture.position == first - 1
    world.journal_all()
    assert log(world).position == world.tree.position


def test_a_temporary_file_is_never_told() -> None:
    world = World()
    log(world)
    node = make(world, b"temporary")
    world.call(names.unlink, ROOT_INODE, b"temporary", 0, world.now)
    capture = log(world)
    assert world.store.load(node.id) is None
    assert [captured.id for captured in capture.nodes] == [ROOT_OBJECT]
    assert capture.folders == ()


def test_replacing_by_rename_deletes_the_old_object() -> None:
    world = World()
    old = make(world, b"file", b"old")
    log(world)
    new = make(world, b"new", b"new")
    world.call(names.rename, ROOT_INODE, b"new", ROOT_INODE, b"file", flags=0, uid=0, now=1)
    world.tree.forget(old.inode, 1)
    capture = log(world)
    assert {(node.id, node.deleted) for node in capture.nodes} >= {
        (old.id, True),
        (new.id, False),
    }
    assert world.store.names[ROOT_OBJECT] == {b"file": new.entry}


def test_an_object_is_not_deleted_while_the_store_names_it() -> None:
    world = World()
    old = make(world, b"file", b"old")
    log(world)
    make(world, b"new", None)
    world.call(names.rename, ROOT_INODE, b"new", ROOT_INODE, b"file", flags=0, uid=0, now=1)
    node = world.look(world.folder(), b"file")
    assert isinstance(node, FileNode)
    world.call(files.write, node, 0, b"still being written", world.now)
    capture = log(world)
    assert not any(captured.deleted for captured in capture.nodes)
    assert world.store.names[ROOT_OBJECT] == {b"file": old.entry}


@pytest.mark.parametrize("limit", [100, 700])
def test_a_large_folder_is_split_into_pages(limit: int) -> None:
    world = World()
    for number in range(1100):
        make(world, b"f%d" % number)
    seen = []
    while capture := log(world, limit):
        seen += [(one.old_page_bits, one.page_bits) for one in capture.folders]
    assert (0, 1) in seen
    assert len(world.store.names[ROOT_OBJECT]) == 1100
    root = world.store.load(ROOT_OBJECT)
    assert isinstance(root, FolderManifest)
    assert root.page_bits == 1
    assert World(world.store, []).visible() == world.visible()


def test_a_rejected_capture_comes_again() -> None:
    world = World()
    make(world, b"file")
    world.call(names.create, ROOT_INODE, b"d", TYPE_FOLDER | 0o755, owner=OWNER, now=1)
    first = world.capture()
    captures.rejected(world.tree, first)
    second = world.capture()
    assert {node.id for node in second.nodes} == {node.id for node in first.nodes}
    assert second.folders == first.folders
    with pytest.raises(RuntimeError, match="one capture"):
        world.capture()


def test_changes_during_a_capture_stay_dirty() -> None:
    world = World()
    node = make(world, b"file", b"one")
    capture = world.capture()
    world.call(files.write, node, 0, b"two", world.now)
    world.journal_all()
    world.store.take(capture)
    captures.logged(world.tree, capture)
    assert world.tree.is_dirty(node.id)
    log(world)
    manifest = world.store.load(node.id)
    assert isinstance(manifest, FileManifest)
    assert manifest.inline == b"two"


def test_what_waits_is_recorded_anew_behind_what_is_logged() -> None:
    """Nothing before it is needed any more, and a restart shows the same."""
    world = World()
    changed = make(world, b"changed", b"as logged")
    make(world, b"doc", b"old")
    for name in (b"x", b"y"):
        world.call(names.create, ROOT_INODE, name, TYPE_FOLDER | 0o755, owner=OWNER, now=1)
    world.call(files.set_xattr, changed, b"user.gone", b"1", world.now)
    before = log(world)
    assert before.position == world.tree.position

    world.call(files.remove_xattr, changed, b"user.gone", world.now)
    world.call(files.set_xattr, changed, b"user.new", b"2", world.now)
    new = make(world, b"new", b"new")
    rename = {"flags": 0, "uid": 0, "now": 1}
    world.call(names.rename, ROOT_INODE, b"new", ROOT_INODE, b"doc", **rename)
    # x makes way for y, and y for a file that waits: none of these folders may move yet.
    world.call(names.rename, ROOT_INODE, b"x", ROOT_INODE, b"z", **rename)
    world.call(names.rename, ROOT_INODE, b"y", ROOT_INODE, b"x", **rename)
    late = make(world, b"y", b"late")
    world.call(names.link, late.inode, ROOT_INODE, b"second name", world.now)
    make(world, b"other", b"other")

    end, named = world.tree.position, dict(world.store.names[ROOT_OBJECT])
    held = {changed.id, new.id, late.id}
    capture = world.capture(held=held)
    assert capture.position == end, "all of it may leave the journal"
    world.store.take(capture)
    captures.logged(world.tree, capture)
    assert world.store.names[ROOT_OBJECT].keys() - named.keys() == {b"other"}
    assert named.items() <= world.store.names[ROOT_OBJECT].items()

    records = [one for one in world.records if one[0] > capture.position]
    again = World(world.store, records)
    assert again.visible() == world.visible()
    assert again.tree.dirty_names.keys() == world.tree.dirty_names.keys()
    assert not again.capture(held=held).nodes
    captures.rejected(again.tree, again.capture(held=held))
    log(again)
    assert World(again.store, []).visible() == world.visible()

"""What other devices changed: shown at once, but never over what is pending or open here.

Data flow: a store that changed -> apply_remote -> the tree, and what the kernel must forget.
"""

from dataclasses import replace

from parsec_fs.protocol.ids import ROOT_OBJECT, ObjectId
from parsec_fs.protocol.manifests import FILE, FOLDER, Child, FileManifest
from parsec_fs.workspace import capture as captures
from parsec_fs.workspace import conflicts, files, names
from parsec_fs.workspace.nodes import ROOT_INODE, TYPE_FOLDER, FileNode
from parsec_fs.workspace.remote_changes import (
    Invalidation,
    RemoteNames,
    RemoteNode,
    apply_remote,
)
from tests.support.trees import World, content_of

OTHER = ObjectId(b"other-device-obj")


def world_with(content: bytes) -> tuple[World, FileNode]:
    """A logged file `file` that the kernel knows."""
    world = World()
    node = world.call(names.make_file, ROOT_INODE, b"file", 0o644, (0, 0), world.now)
    assert isinstance(node, FileNode)
    world.call(files.write, node, 0, content, world.now)
    world.journal_all()
    logged(world)
    world.folder().lookups = 1
    return world, node


def logged(world: World) -> None:
    capture = world.capture()
    world.store.take(capture)
    captures.logged(world.tree, capture)
    world.records = []


def remote_content(world: World, node: FileNode, content: bytes) -> RemoteNode:
    """The other device wrote into the file."""
    old = world.store.objects[node.id]
    assert isinstance(old, FileManifest)
    new = replace(old, inline=content, size=len(content))
    world.store.objects[node.id] = new
    return RemoteNode(id=node.id, manifest=new)


def remote_name(world: World, name: bytes, id: ObjectId | None, kind: int = FILE) -> RemoteNames:
    """The other device changed a name in the root."""
    stored = world.store.names.setdefault(ROOT_OBJECT, {})
    stored.pop(name, None)
    if id is not None:
        stored[name] = (id, kind)
        if id not in world.store.objects:
            manifest = next(m for m in world.store.objects.values() if isinstance(m, FileManifest))
            world.store.objects[id] = manifest
    child = None if id is None else Child(name=name, id=id, kind=kind)
    return RemoteNames(folder=ROOT_OBJECT, names={name: child}, mtime_ns=10**9, ctime_ns=10**9)


def apply(world: World, *changes: RemoteNode | RemoteNames) -> list[Invalidation]:
    return apply_remote(world.tree, changes, world.store.link_count)


def test_content_of_a_closed_file_is_replaced() -> None:
    world, node = world_with(b"old")
    told = apply(world, remote_content(world, node, b"new content"))
    assert content_of(world, node) == b"new content"
    assert told == [Invalidation(node.inode, None, False)]


def test_attributes_alone_leave_the_pages() -> None:
    world, node = world_with(b"same")
    told = apply(world, remote_content(world, node, b"same"))
    assert told == [Invalidation(node.inode, None, True)]


def test_an_open_file_keeps_its_content_and_its_name_gets_a_new_inode() -> None:
    world, node = world_with(b"old")
    node.opens = 1
    told = apply(world, remote_content(world, node, b"new"))
    assert content_of(world, node) == b"old"
    assert Invalidation(ROOT_INODE, b"file") in told
    assert all(one.attr_only or one.name for one in told)
    fresh = world.look(world.folder(), b"file")
    assert isinstance(fresh, FileNode)
    assert (fresh.id, content_of(world, fresh)) == (node.id, b"new")
    assert fresh.inode != node.inode
    assert world.tree.inodes[node.inode] is node


def test_a_dirty_file_is_left_alone() -> None:
    world, node = world_with(b"old")
    world.call(files.write, node, 0, b"ours", world.now)
    world.journal_all()
    assert apply(world, remote_content(world, node, b"theirs")) == []
    assert content_of(world, node) == b"ours"


def test_names_come_and_go() -> None:
    world, node = world_with(b"x")
    told = apply(world, remote_name(world, b"new", OTHER))
    assert Invalidation(ROOT_INODE, b"new") in told
    assert world.look(world.folder(), b"new").id == OTHER
    apply(world, remote_name(world, b"link", node.id))
    assert node.nlink == 2
    apply(world, remote_name(world, b"file", None))
    assert node.nlink == 1
    assert world.folder().mtime_ns == 10**9


def test_a_remote_folder_counts_as_a_link() -> None:
    world, _ = world_with(b"x")
    world.store.objects[OTHER] = world.store.objects[ROOT_OBJECT]
    apply(world, remote_name(world, b"sub", OTHER, FOLDER))
    assert world.folder().nlink == 3
    assert world.folder(b"sub").parent is world.folder()


def test_pending_names_win() -> None:
    world, _ = world_with(b"x")
    world.call(names.unlink, ROOT_INODE, b"file", 0, world.now)
    assert Invalidation(ROOT_INODE, b"file") not in apply(world, remote_name(world, b"file", OTHER))
    assert b"file" not in world.tree.children(world.folder())


def test_both_versions_of_a_file_are_kept() -> None:
    world, node = world_with(b"old")
    node.opens = 1
    world.call(files.write, node, 0, b"ours", world.now)
    old_id = node.id
    theirs = remote_content(world, node, b"theirs")
    label = b"laptop 2026-11-22 20.15"
    new_id, told = world.call(conflicts.set_aside, node, label, world.now)
    apply(world, theirs)
    copy = b"file (conflict, laptop 2026-11-22 20.15)"
    assert world.look(world.folder(), copy) is node
    assert (node.id, content_of(world, node)) == (new_id, b"ours")
    assert {one.name for one in told} >= {b"file", copy}
    shown = world.look(world.folder(), b"file")
    assert isinstance(shown, FileNode)
    assert (shown.id, content_of(world, shown)) == (old_id, b"theirs")
    assert not world.tree.is_dirty(old_id)
    assert world.tree.is_dirty(node.id)
    before = world.visible()
    world.journal_all()
    assert World(world.store, world.records).visible() == before
    logged(world)
    assert World(world.store, []).visible() == before


def test_a_name_taken_by_both_devices() -> None:
    world, _ = world_with(b"x")
    ours = world.call(names.make_file, ROOT_INODE, b"report.odt", 0o644, (0, 0), world.now)
    theirs = remote_name(world, b"report.odt", OTHER)
    child = theirs.names[b"report.odt"]
    folder = world.folder()
    new_name, _ = world.call(
        conflicts.give_way, folder, b"report.odt", child, b"laptop: 2026", world.now
    )
    assert new_name == b"report (conflict, laptop 2026).odt"
    assert world.look(folder, new_name) is ours
    assert world.look(folder, b"report.odt").id == OTHER
    assert ours.nlink == 1
    before = world.visible()
    assert World(world.store, world.records).visible() == before
    logged(world)
    assert World(world.store, []).visible() == before


def test_conflict_names_fit_and_are_free() -> None:
    label = b"device 2026-11-22 20.15"
    long = "ä".encode() * 127
    name = conflicts.conflict_name(long, label, {})
    assert len(name) <= 255
    assert name.decode().startswith("ää")
    taken: dict[bytes, object] = {name: 1}
    assert conflicts.conflict_name(long, label, taken).endswith(b"20.15 2)")
    assert conflicts.conflict_name(b".hidden", b"a/b", {}) == b".hidden (conflict, ab)"


def test_folders_that_take_part_in_nothing_are_left_alone() -> None:
    world, _ = world_with(b"x")
    world.call(names.create, ROOT_INODE, b"d", TYPE_FOLDER | 0o755, owner=(0, 0), now=1)
    unknown = RemoteNames(folder=OTHER, names={}, mtime_ns=1, ctime_ns=1)
    assert apply(world, unknown, RemoteNode(id=OTHER, manifest=None)) == []

"""Which steps tell watchers of what another device did: whoever follows them knows the names.

Data flow: a store that changed -> apply_remote -> Changed -> steps -> the names that a watcher
    believes in, compared with the tree.
"""

import pytest

from parsec_fs.mount.stage import Step
from parsec_fs.mount.steps import Changed, path_of, steps
from parsec_fs.protocol.ids import ROOT_OBJECT
from parsec_fs.protocol.manifests import Child
from parsec_fs.workspace import capture as captures
from parsec_fs.workspace import names
from parsec_fs.workspace.nodes import ROOT_INODE, TYPE_FILE, TYPE_FOLDER, Entry, FolderNode
from parsec_fs.workspace.remote_changes import Invalidation, RemoteNames, apply_remote
from tests.support.trees import World

Believed = dict[bytes, Entry | None]


def world_of(files: str, folders: str = "") -> World:
    """A logged workspace with a name per letter in its root, all known to the kernel."""
    world = World()
    for kind, letters in ((TYPE_FILE, files), (TYPE_FOLDER, folders)):
        for name in letters.encode():
            world.call(
                names.create,
                ROOT_INODE,
                bytes((name,)),
                kind | 0o755,
                owner=(0, 0),
                now=world.now,
            )
    world.journal_all()
    capture = world.capture()
    world.store.take(capture)
    captures.logged(world.tree, capture)
    for node in world.tree.nodes.values():
        node.lookups = 1
    return world


def elsewhere(
    world: World, after: dict[str, str], first: Believed | None = None
) -> list[Invalidation]:
    """Another device gives names of the root to what others, or none (""), stood for; with a star,
    at first."""
    folder = world.tree.folder(ROOT_INODE)
    before = {**world.tree.children(folder)}
    before |= {b"*" + name: entry for name, entry in (first or {}).items() if entry}
    changed = {
        new.encode(): Child(
            name=new.encode(), id=before[old.encode()][0], kind=before[old.encode()][1]
        )
        if old
        else None
        for new, old in after.items()
    }
    stored = world.store.names[ROOT_OBJECT]
    for name, child in changed.items():
        stored.pop(name, None)
        if child is not None:
            stored[name] = (child.id, child.kind)
    change = RemoteNames(folder=ROOT_OBJECT, names=changed, mtime_ns=10**9, ctime_ns=10**9)
    return apply_remote(world.tree, [change], world.store.link_count)


def taken(world: World, changed: Changed) -> list[Step]:
    """All steps, if all of the root is watched."""
    return [step for step in steps(world.tree, changed, {ROOT_INODE}) if step is not None]


def follow(believed: Believed, step: Step) -> None:
    """What a watcher makes of one event."""
    if step.act in ("remove", "move"):
        believed.pop(step.place[1], None)
    if step.act in ("file", "folder"):
        believed[step.place[1]] = step.entry
    if step.target is not None:
        believed[step.target[1]] = step.entry


@pytest.mark.parametrize(
    "after",
    [
        {"a": "", "d": "a"},
        {"a": "", "b": "a", "c": "b"},  # a row: old logs are renamed like this
        {"c": "b", "b": "a", "a": ""},
        {"a": "b", "b": "a"},
        {"a": "c", "b": "a", "c": "b"},
        {"a": "c", "b": "a", "c": "b", "d": ""},
        {"b": "a", "a": "", "c": ""},
    ],
)
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_whoever_follows_the_events_knows_the_names(after: dict[str, str], kind: str) -> None:
    world = world_of("abcd") if kind == "file" else world_of("", "abcd")
    root = world.tree.folder(ROOT_INODE)
    believed: Believed = dict(world.tree.children(root))
    changed = Changed()
    changed.add(world.tree, elsewhere(world, after))
    for step in taken(world, changed):
        follow(believed, step)
    assert believed == world.tree.children(root)


def test_what_changed_again_before_it_was_told_is_told_with_what_came_after() -> None:
    world = world_of("a")
    root = world.tree.folder(ROOT_INODE)
    believed: Believed = dict(world.tree.children(root))
    first, second = Changed(), Changed()
    first.add(world.tree, elsewhere(world, {"a": "", "b": "a"}))
    (move,) = taken(world, first)
    second.add(world.tree, elsewhere(world, {"b": "", "c": "b"}))
    second.retell(move, first)  # its target was gone already
    for step in taken(world, second):
        follow(believed, step)
    assert believed == world.tree.children(root)


@pytest.mark.parametrize(
    "rounds",
    [
        [{"b": "a", "a": ""}, {"c": "b", "b": ""}],
        [{"a": ""}, {"b": "*a", "a": ""}],
        [{"a": ""}, {"a": "*a"}],
        [{"a": ""}, {"a": "*d"}, {"a": ""}],
        [{"a": "b", "b": ""}, {"a": "*a"}],
        [{"z": "a", "a": ""}, {"z": ""}],
        [{"z": "a", "a": ""}, {"z": "", "y": "z"}, {"x": "y", "y": ""}],
    ],
)
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_so_does_who_began_to_watch_meanwhile(rounds: list[dict[str, str]], kind: str) -> None:
    """Whoever looked at the folder before, between and after several changes told at once. A name
    with a star is what it stood for at first."""
    world = world_of("abcd") if kind == "file" else world_of("", "abcd")
    root = world.tree.folder(ROOT_INODE)
    first: Believed = dict(world.tree.children(root))
    believed: list[Believed] = [dict(first)]
    changed = Changed()
    for after in rounds:
        changed.add(world.tree, elsewhere(world, after, first))
        believed.append(dict(world.tree.children(root)))
    for step in taken(world, changed):
        for one in believed:
            follow(one, step)
    assert all(one == world.tree.children(root) for one in believed)


def test_changes_that_could_not_be_told_go_on_with_later_ones() -> None:
    world = world_of("ab")
    root = world.tree.folder(ROOT_INODE)
    believed: Believed = dict(world.tree.children(root))
    first, second = Changed(), Changed()
    first.add(world.tree, elsewhere(world, {"a": "", "c": "a"}))
    second.add(world.tree, elsewhere(world, {"c": "", "d": "c", "b": ""}))
    first.go_on(second)
    for step in taken(world, first):
        follow(believed, step)
    assert believed == world.tree.children(root)


def test_what_was_told_is_not_told_again() -> None:
    world = world_of("a")
    first, second = Changed(), Changed()
    first.add(world.tree, elsewhere(world, {"a": "", "b": "a"}))
    (move,) = taken(world, first)
    first.told(move)
    second.add(world.tree, elsewhere(world, {"b": "", "c": "b"}))
    second.retell(Step("remove", (ROOT_INODE, b"a")), first)
    assert [step.act for step in taken(world, second)] == ["move"]


def test_a_folder_that_moves_within_its_folder_keeps_its_place() -> None:
    """Whatever order the names come in: without its place nobody who watches it was told more."""
    for after in ({"a": "", "b": "a"}, {"b": "a", "a": ""}, {"a": "b", "b": "a"}):
        world = world_of("", "ab" if after.get("a") else "a")
        root = world.tree.folder(ROOT_INODE)
        moved = world.tree.nodes[world.tree.children(root)[b"a"][0]]
        elsewhere(world, after)
        assert isinstance(moved, FolderNode)
        assert moved.parent is root
        assert path_found(world, moved.inode) == b"b"


def path_found(world: World, inode: int) -> bytes | None:
    """Drives `path_of` to its end."""
    search = path_of(world.tree, inode)
    while True:
        try:
            next(search)
        except StopIteration as end:
            path: bytes | None = end.value
            return path


def test_looking_for_a_name_pauses_and_bears_changes_meanwhile() -> None:
    letters = "abcdefgh"
    world = world_of(letters)
    root = world.tree.folder(ROOT_INODE)
    node = world.tree.nodes[world.tree.children(root)[b"h"][0]]
    changed = Changed()
    changed.add(world.tree, [Invalidation(node.inode)])
    search = steps(world.tree, changed, {ROOT_INODE})
    assert next(search) is None
    elsewhere(world, {"b": "", "z": "b"})
    assert [step.act for step in search if step is not None] == ["content"]

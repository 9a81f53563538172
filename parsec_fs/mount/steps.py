"""Which steps tell watchers of what changed: computed when they are taken, from the tree as it is.

Data flow: invalidations (since the last time), what is watched, tree -> `steps` -> mount/watchers.

Pure; in generators, which yield None where others may have a turn, and the tree may change. What
changed and changed back is not told; of several changes of a name or of a file only the outcome is.
Rules guarded here:
- a watcher that only follows events knows the names in the end: of moves in a row (`b` to `c`, `a`
  to `b`) the last is told first, and of those in a circle one is told as a new name;
- so does one that began to watch meanwhile, and has seen what lay in between;
- what became untrue before it was told is told with what came after it (`retell`).
"""

from collections.abc import Container, Generator, Iterable, Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from parsec_fs.mount.stage import MAKE, Place, Step
from parsec_fs.protocol.manifests import FILE
from parsec_fs.workspace.nodes import ROOT_INODE, Entry, FolderNode, Node
from parsec_fs.workspace.remote_changes import Invalidation
from parsec_fs.workspace.tree import Tree

ASIDE = b".%s.replaced"
"""The name that a replaced file's new version seems to come from, as in an atomic save."""


@dataclass(slots=True)
class Changed:
    """What changed since the last time: names, with what each stood for before, and what else in
    between; attributes and content of inodes (True: attributes alone)."""

    names: dict[Place, Entry | None] = field(default_factory=dict)
    between: dict[Place, list[Entry | None]] = field(default_factory=dict)
    inodes: dict[int, bool] = field(default_factory=dict)

    def add(self, tree: Tree, items: Iterable[Invalidation]) -> None:
        """What nobody can watch, because the kernel does not know it, is left out."""
        for item in items:
            node = tree.inodes.get(item.inode)
            if node is None or (node.lookups <= 0 and item.inode != ROOT_INODE):
                continue
            if item.name is not None:
                self._name((item.inode, item.name), item.was)
            elif type(node) is not FolderNode:
                known = self.inodes.get(item.inode, True)
                self.inodes[item.inode] = known and item.attr_only

    def _name(self, place: Place, was: Entry | None) -> None:
        if place in self.names:
            self.between.setdefault(place, []).append(was)
        else:
            self.names[place] = was

    def go_on(self, later: "Changed") -> None:
        """What changed after this."""
        for place, was in later.names.items():
            self._name(place, was)
        for place, more in later.between.items():
            self.between.setdefault(place, []).extend(more)
        for inode, attributes_only in later.inodes.items():
            self.inodes[inode] = self.inodes.get(inode, True) and attributes_only

    def told(self, step: Step) -> None:
        """Watchers know this now."""
        if step.act in ("remove", "move"):
            self._stands_for(step.place, None)
        elif step.act in MAKE.values():
            self._stands_for(step.place, step.entry)
        if step.target is not None:
            self._stands_for(step.target, step.entry)

    def _stands_for(self, place: Place, entry: Entry | None) -> None:
        if place in self.names:
            self.names[place] = entry

    def retell(self, step: Step, old: "Changed") -> None:
        """A step of `old` could not be told. If that is because its names have changed again, what
        watchers believe is what they were told before it."""
        places = [one for one in (step.place, step.target) if one in old.names]
        if any(place in self.names for place in places):
            self.names |= {place: old.names[place] for place in places if place is not None}


def steps(tree: Tree, changed: Changed, watched: AbstractSet[int]) -> Iterator[Step | None]:
    """In order: moves, what is gone, what is new or replaced, content and attributes."""
    was, now = dict(changed.names), dict[Place, Entry | None]()
    for place in was:
        now[place] = _entry(tree, place)
        yield None
    moves = yield from _moves(was, now, changed.between)
    moved = {step.target for step in moves}
    for step in moves:
        assert step.target is not None
        was[step.place], was[step.target] = None, now[step.target]
        yield step if _concerns(tree, step, watched) else None
    left = {step.place for step in moves}
    for place, between in changed.between.items():
        if place not in left and was[place] in (None, now[place]):
            # Only who began to watch meanwhile may know of it; to the others it is no news.
            was[place] = next((one for one in between if one != now[place]), was[place])
    made = [step for place in was if place not in moved for step in _named(place, was, now)]
    for step in sorted(made, key=lambda step: step.act != "remove"):
        yield step if _concerns(tree, step, watched) else None
    yield from _files(tree, changed, watched, told=set(now.values()))


def _entry(tree: Tree, place: Place) -> Entry | None:
    folder = tree.inodes.get(place[0])
    children = folder.children if type(folder) is FolderNode else None
    return children.get(place[1]) if children else None


def _moves(
    was: dict[Place, Entry | None],
    now: dict[Place, Entry | None],
    between: dict[Place, list[Entry | None]],
) -> Generator[None, None, list[Step]]:
    left = {entry: place for place, entry in was.items() if entry and now[place] != entry}
    for place, entries in between.items():
        for entry in entries:
            if entry and now[place] != entry and was[place] is None:
                left.setdefault(entry, place)
    moves: dict[Place, Step] = {}
    for place, entry in now.items():
        if entry is not None and was[place] != entry and entry in left:
            source = left.pop(entry)
            moves[source] = Step("move", source, entry, place)
        yield None
    return list(_in_order(moves))


def _in_order(moves: dict[Place, Step]) -> Iterator[Step]:
    """Each after the one that takes away what lies where it leads. The moves are used up."""
    while moves:
        source = next(iter(moves))
        row: list[Step] = []
        while source in moves:
            row.append(moves.pop(source))
            assert row[-1].target is not None
            source = row[-1].target
        # A circle has no end to begin with: where its first one leads, a new name is told instead.
        yield from reversed(row[1:] if source == row[0].place and len(row) > 1 else row)


def _named(
    place: Place, all_was: dict[Place, Entry | None], all_now: dict[Place, Entry | None]
) -> Iterator[Step]:
    was, now = all_was[place], all_now[place]
    if was is not None and was == now:
        if now[1] == FILE:
            yield Step("content", place, now)
    elif was is not None and now is not None and was[1] == now[1] == FILE:
        yield Step("move", (place[0], ASIDE % place[1][:200]), now, place)
    else:
        if was is not None:
            yield Step("remove", place, was)
        if now is not None:
            yield Step(MAKE[now[1]], place, now)


def _concerns(tree: Tree, step: Step, watched: AbstractSet[int]) -> bool:
    node = tree.nodes.get(step.entry[0]) if step.entry else None
    folders = (step.place[0], step.target[0] if step.target else 0)
    return any(one in watched for one in folders) or (node is not None and node.inode in watched)


def _files(
    tree: Tree, changed: Changed, watched: AbstractSet[int], told: Container[Entry | None]
) -> Iterator[Step | None]:
    """Files that changed under a watched name, or that are watched themselves."""
    nodes = [tree.inodes.get(inode) for inode in changed.inodes]
    wanted = {
        node.entry: changed.inodes[node.inode]
        for node in nodes
        if node is not None and node.entry not in told
    }
    yield from _named_in(tree, [tree.inodes.get(inode) for inode in watched], wanted)
    for entry in list(wanted):
        node = tree.nodes.get(entry[0])
        if node is None or node.inode not in watched:
            del wanted[entry]
    # Whoever watches a file is told through any of its names: somewhere in what is in memory.
    yield from _named_in(tree, list(tree.nodes.values()), wanted)


def _named_in(
    tree: Tree, folders: Iterable[Node | None], wanted: dict[Entry, bool]
) -> Iterator[Step | None]:
    """Steps for those of the wanted entries that a folder names; they are taken out."""
    for folder in folders:
        if not wanted:
            return
        if type(folder) is not FolderNode or not folder.children:
            continue
        for name in list(folder.children):
            entry = (folder.children or {}).get(name)
            if entry in wanted:
                yield Step(_act(wanted.pop(entry)), (folder.inode, name), entry)
            yield None


def _act(attributes_only: bool) -> str:
    return "attributes" if attributes_only else "content"


def path_of(tree: Tree, inode: int) -> Generator[None, None, bytes | None]:
    """Where a folder is, below the root of the mount: b"" is the root; None: nowhere."""
    parts: list[bytes] = []
    folder = tree.inodes.get(inode)
    while type(folder) is FolderNode and folder.inode != ROOT_INODE and len(parts) < 2000:
        name = yield from _name_in(folder.parent, folder.entry)
        if name is None:
            return None
        parts.append(name)
        folder = folder.parent
    known = type(folder) is FolderNode and folder.inode == ROOT_INODE
    return b"/".join(reversed(parts)) if known else None


def _name_in(folder: FolderNode | None, entry: Entry) -> Generator[None, None, bytes | None]:
    children = folder.children if folder is not None else None
    for name in list(children or ()):
        if (children or {}).get(name) == entry:
            return name
        yield None
    return None

"""Which steps tell watchers of what changed: computed when they are taken, from the tree as it is.

Data flow: invalidations (since the last time), what is watched, tree -> `steps` -> mount/watchers.

Pure and synchronous. What changed and changed back is not told; of several changes of a name or of
a file only the outcome is.
"""

from collections.abc import Container, Iterable, Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from parsec_fs.mount.stage import MAKE, Place, Step
from parsec_fs.protocol.manifests import FILE
from parsec_fs.workspace.nodes import ROOT_INODE, Entry, FolderNode
from parsec_fs.workspace.remote_changes import Invalidation, names_of
from parsec_fs.workspace.tree import Tree

ASIDE = b".%s.replaced"
"""The name that a replaced file's new version seems to come from, as in an atomic save."""


@dataclass(slots=True)
class Changed:
    """What changed since the last time: names, with what each stood for before; attributes and
    content of inodes (True: attributes alone)."""

    names: dict[Place, Entry | None] = field(default_factory=dict)
    inodes: dict[int, bool] = field(default_factory=dict)

    def add(self, tree: Tree, items: Iterable[Invalidation]) -> None:
        """What nobody can watch, because the kernel does not know it, is left out."""
        for item in items:
            node = tree.inodes.get(item.inode)
            if node is None or (node.lookups <= 0 and item.inode != ROOT_INODE):
                continue
            if item.name is not None:
                self.names.setdefault((item.inode, item.name), item.was)
            elif type(node) is not FolderNode:
                known = self.inodes.get(item.inode, True)
                self.inodes[item.inode] = known and item.attr_only


def steps(tree: Tree, changed: Changed, watched: AbstractSet[int]) -> list[Step]:
    """In order: moves, what is gone, what is new or replaced, content and attributes."""
    now = {place: _entry(tree, place) for place in changed.names}
    was = dict(changed.names)
    moves = list(_moves(was, now))
    for step in moves:
        assert step.target is not None
        was[step.place], was[step.target] = None, now[step.target]
    moved = {step.target for step in moves}
    names = [place for place in was if place not in moved]
    made = [step for place in names for step in _named(place, was[place], now[place])]
    made.sort(key=lambda step: step.act != "remove")
    files = _files(tree, changed, watched, told=set(now.values()))
    return [step for step in (*moves, *made) if _concerns(tree, step, watched)] + list(files)


def _entry(tree: Tree, place: Place) -> Entry | None:
    folder = tree.inodes.get(place[0])
    children = folder.children if type(folder) is FolderNode else None
    return children.get(place[1]) if children else None


def _moves(was: dict[Place, Entry | None], now: dict[Place, Entry | None]) -> Iterator[Step]:
    left = {entry: place for place, entry in was.items() if entry and now[place] != entry}
    for place, entry in now.items():
        if entry is not None and was[place] != entry and entry in left:
            yield Step("move", left.pop(entry), entry, place)


def _named(place: Place, was: Entry | None, now: Entry | None) -> Iterator[Step]:
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
) -> Iterator[Step]:
    """Files that changed under a watched name, or that are watched themselves."""
    nodes = [tree.inodes.get(inode) for inode in changed.inodes]
    wanted = {
        node.entry: changed.inodes[node.inode]
        for node in nodes
        if node is not None and node.entry not in told
    }
    if not wanted:
        return
    for place, entry in _names_in(tree, watched):
        if entry in wanted:
            yield Step(_act(wanted.pop(entry)), place, entry)
    for entry, attributes_only in wanted.items():
        node = tree.nodes.get(entry[0])
        if node is not None and node.inode in watched:
            for above, name in names_of(tree, node)[:1]:
                yield Step(_act(attributes_only), (above.inode, name), entry)


def _names_in(tree: Tree, folders: AbstractSet[int]) -> Iterator[tuple[Place, Entry]]:
    for folder in [tree.inodes.get(inode) for inode in folders]:
        if type(folder) is FolderNode and folder.children:
            for name, entry in folder.children.items():
                yield (folder.inode, name), entry


def _act(attributes_only: bool) -> str:
    return "attributes" if attributes_only else "content"


def path_of(tree: Tree, inode: int) -> bytes | None:
    """Where a folder is, below the root of the mount: b"" is the root; None: nowhere."""
    parts: list[bytes] = []
    folder = tree.inodes.get(inode)
    while type(folder) is FolderNode and folder.inode != ROOT_INODE and len(parts) < 2000:
        above = folder.parent
        names = (above.children or {}).items() if above is not None else ()
        name = next((name for name, entry in names if entry == folder.entry), None)
        if name is None:
            return None
        parts.append(name)
        folder = above
    known = type(folder) is FolderNode and folder.inode == ROOT_INODE
    return b"/".join(reversed(parts)) if known else None

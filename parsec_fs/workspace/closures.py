"""Which new versions go into one commit, and in which order commits follow each other.

Data flow: manifest_build -> `closures` -> push (seals) -> `pack` -> signed commits.

Pure. Rules 3 and 21: an object is never named before it exists, never deleted before its name is
gone, and a move is one step. A closure is what depends on each other: new objects with the pages
that name them, all folders of a move, deletions with the pages that lost the name. Closures are
packed together into commits of up to 1,000 objects; after a refusal they travel one by one, so that
one conflict refuses no strangers.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from parsec_fs.protocol.ids import ObjectId
from parsec_fs.protocol.limits import COMMIT_MAX_OBJECTS, MIB
from parsec_fs.workspace.manifest_build import Build, FolderChange, NewVersion

PAYLOAD_MAX_BYTES = 12 * MIB
"""Payloads of one commit: with its body they fit into one request."""

Unit = tuple[NewVersion, ...]
"""Versions that must be in one commit."""


@dataclass(slots=True)
class Closure:
    """Units in the order in which they may appear, whatever the cuts between them."""

    units: list[Unit] = field(default_factory=list)

    def ids(self) -> set[ObjectId]:
        """All objects in it."""
        return {version.id for unit in self.units for version in unit}


def closures(build: Build) -> list[Closure]:
    """Every new version of the build, exactly once."""
    nodes = dict(build.nodes)
    tombstones = dict(build.tombstones)
    groups = _moves(build.folders)
    times = Counter(id for group in groups for id in set().union(*(one.lost for one in group)))
    # What loses names in several closures is deleted after all of them.
    last = {id: tombstones.pop(id) for id in list(tombstones) if times[id] > 1}
    result = [_closure(group, nodes, tombstones) for group in groups]
    result += [Closure(units=[(version,)]) for version in nodes.values()]
    result += [Closure(units=_chunks(unit)) for unit in (*tombstones.values(), *last.values())]
    return result


def _closure(
    group: list[FolderChange],
    nodes: dict[ObjectId, NewVersion],
    tombstones: dict[ObjectId, tuple[NewVersion, ...]],
) -> Closure:
    """New objects, then the pages that name them in one unit, then what lost its last name."""
    closure = Closure()
    together: list[NewVersion] = []
    for change in group:
        folder = nodes.pop(change.folder, None)
        if folder is not None:
            if change.atomic:
                together.append(folder)
            else:
                closure.units.append((folder,))
        new = (nodes.pop(id) for id in sorted(change.gained) if id in nodes)
        closure.units += [(version,) for version in new]
        together += change.pages
    closure.units += _chunks(tuple(together))
    for change in group:
        for id in sorted(change.lost):
            closure.units += _chunks(tombstones.pop(id, ()))
    return closure


def _chunks(unit: Unit) -> list[Unit]:
    """A unit too large for one commit loses its atomicity rather than blocking for ever."""
    step = COMMIT_MAX_OBJECTS
    return [unit[i : i + step] for i in range(0, len(unit), step)]


def _moves(changes: Iterable[FolderChange]) -> list[list[FolderChange]]:
    """Folders joined by objects that left one and entered another."""
    groups: dict[int, list[FolderChange]] = {}
    gained_by: dict[ObjectId, list[int]] = {}
    changes = list(changes)
    parent = list(range(len(changes)))
    for number, change in enumerate(changes):
        for id in change.gained:
            gained_by.setdefault(id, []).append(number)
    for number, change in enumerate(changes):
        for id in change.lost:
            for other in gained_by.get(id, ()):
                parent[_find(parent, other)] = _find(parent, number)
    for number, change in enumerate(changes):
        groups.setdefault(_find(parent, number), []).append(change)
    return list(groups.values())


def _find(parent: list[int], number: int) -> int:
    while parent[number] != number:
        parent[number] = parent[parent[number]]
        number = parent[number]
    return number


def pack(
    closures: Iterable[Closure],
    payload_size: Callable[[NewVersion], int],
    *,
    separate: bool,
) -> list[tuple[NewVersion, ...]]:
    """Commits in order: up to 1,000 objects and 12 MiB of payloads each; `separate` puts every
    closure into commits of its own."""
    commits: list[list[NewVersion]] = []
    size = 0
    for closure in closures:
        fresh = separate
        for unit in closure.units:
            more = sum(payload_size(version) for version in unit)
            full = commits and (
                len(commits[-1]) + len(unit) > COMMIT_MAX_OBJECTS or size + more > PAYLOAD_MAX_BYTES
            )
            if fresh or full or not commits:
                commits.append([])
                size, fresh = 0, False
            commits[-1] += unit
            size += more
    return [tuple(commit) for commit in commits if commit]

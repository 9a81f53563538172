"""Reading a journal again: what its segments hold, and whether what does not open is damage.

Data flow: segment files -> this -> records to apply, what lies behind damage, where to cut.

Where the line is between what was never promised and what is lost:
- the last segment with a whole frame may end in a torn write: no whole frame follows it. Nobody
  was told that it is safe, so it is cut off, and so are segments begun behind it;
- the same over zeros that were laid (`journal_segment`): a sector of the frame is still zeros, and
  nothing behind it opens. A frame that does not open and has no such sector is damaged, and so is
  whatever an intact frame follows;
- zeros behind the last frame are the segment's end. What they may have replaced is missed by its
  position: the next segment's name tells where this one ended.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from parsec_fs.storage.journal_frames import (
    Group,
    frames,
    frames_behind,
    over_zeros,
    salvageable,
)
from parsec_fs.storage.journal_groups import Sealer, open_group

Positioned = tuple[int, Any]
"""Position and record."""

SUFFIX: Final = ".journal"

_Read = tuple[bytes, list[Group], bool, int]
"""Bytes of a segment, its frames, whether nothing else follows, where frames go on behind that."""


@dataclass(slots=True)
class Recovered:
    """What opening a journal found: records to apply, and what lies behind damage, if any."""

    records: list[Positioned] = field(default_factory=list)
    salvaged: list[Positioned] = field(default_factory=list)
    damaged: list[Path] = field(default_factory=list)
    """Segment files with damage, moved aside."""


@dataclass(slots=True)
class Scan:
    """What lies in the segments. `cuts`: intact ones, and where what follows is torn or zeros."""

    recovered: Recovered = field(default_factory=Recovered)
    groups: list[Group] = field(default_factory=list)
    end: int = 0
    """Position of the last intact record, or 0."""
    last: int = 0
    cuts: list[tuple[Path, int]] = field(default_factory=list)


def scan(directory: Path, sealer: Sealer, after: int) -> Scan:
    """Everything behind position `after` in the segments of a folder; nothing is changed."""
    found = Scan(last=after)
    end, intact = 0, True
    paths = sorted(directory.glob("*" + SUFFIX))
    last, named, tail = _last(paths)
    for path in paths:
        data, groups, clean, behind = tail[path] if path in tail else _read(path)
        opened = [open_group(sealer, group, data) for group in groups]
        if path >= last and behind == 0:
            clean = True
            _drop_torn(data, groups, opened)
        if path <= named:
            found.last = max(found.last, int(path.stem, 16) - 1)
        for group, items in zip(groups, opened, strict=True):
            follows = group.position == end + 1 or _may_begin(group, end, after)
            intact = intact and items is not None and follows
            end = group.position + group.count - 1
            _take(found, group, items, after, intact)
        if not clean:
            intact = False
            for group in salvageable(path, data, behind):
                _take(found, group, open_group(sealer, group, data), after, False)
        if not intact:
            found.recovered.damaged.append(path)
        elif (size := groups[-1].offset + groups[-1].size if groups else 0) < len(data):
            found.cuts.append((path, size))
    return found


def _read(path: Path) -> _Read:
    data = path.read_bytes()
    groups, clean = frames(path, data)
    return data, groups, clean, 0 if clean else frames_behind(data, groups)


def _last(paths: list[Path]) -> tuple[Path, Path, dict[Path, _Read]]:
    """The last segment that was written to, the last whose name counts, and what was read to tell
    them. Behind the last whole frame nothing is safe, and names there tell of records that may be
    torn: positions go on where that frame ends. Without any frame (all is logged) the names are
    what tells the position."""
    tail: dict[Path, _Read] = {}
    for path in reversed(paths):
        _, groups, _, behind = tail[path] = _read(path)
        if groups or behind:
            return path, path, tail
    return (*((paths[0], paths[-1]) if paths else (Path(), Path())), tail)


def _drop_torn(data: bytes, groups: list[Group], opened: list[list[Any] | None]) -> None:
    """Leave out what a crash left unfinished over zeros, at the end of the last segment."""
    first = len(opened)
    while first and opened[first - 1] is None:
        first -= 1
    if first < len(groups) and over_zeros(data, groups[first]):
        del groups[first:], opened[first:]


def _take(scan: Scan, group: Group, items: list[Any] | None, after: int, intact: bool) -> None:
    scan.last = max(scan.last, group.position + group.count - 1)
    if items is None:
        return
    target = scan.recovered.records if intact else scan.recovered.salvaged
    for position, record in enumerate(items, group.position):
        if position > after:
            target.append((position, record))
    if intact:
        scan.groups.append(group)
        scan.end = group.position + group.count - 1


def _may_begin(group: Group, end: int, after: int) -> bool:
    """May this group follow `end` with a gap? Only as the first of a segment, and if nothing that
    is needed was in between: what was forgotten is logged (up to `after`, or the journal begins
    here), and what was set aside is told by the segment's name."""
    if group.offset != 0 or group.position <= end:
        return False
    return end == 0 or int(group.path.stem, 16) <= max(end, after) + 1

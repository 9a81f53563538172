"""A segment with zeros laid ahead, after a crash or damage: what was promised is there or reported.

Data flow: frames over zeros -> sectors that are zeros still, or bytes that changed -> what a start
takes for torn (nobody was told it is safe), and what for damage.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from parsec_fs.protocol.sealing import LocalSealer
from parsec_fs.storage.journal import Journal
from parsec_fs.storage.journal_frames import HEADER, SECTOR, Group, frames

SEGMENT = 64 * 1024
SIZES = st.lists(st.integers(0, 6000), min_size=2, max_size=7)


def journal_of(folder: Path) -> Journal:
    return Journal(folder, LocalSealer(b"k" * 32), segment_size=SEGMENT)


@contextmanager
def crashed(sizes: list[int]) -> Iterator[tuple[Path, bytearray, list[Group]]]:
    """A segment with one frame for each size, and zeros to its end."""
    with tempfile.TemporaryDirectory() as folder:
        journal = journal_of(Path(folder, "crashed"))
        journal.open(0)
        for size in sizes:
            journal.append((1, b"\xa5" * size))
            journal.flush()
        (path,) = journal.directory.glob("*.journal")
        data = bytearray(path.read_bytes())
        journal.close()
        data += bytes(SEGMENT - len(data))
        found, clean = frames(path, bytes(data))
        assert clean
        assert len(found) == len(sizes)
        yield path, data, found


def check(path: Path, data: bytes, groups: list[Group], first: int, *, damage: bool) -> None:
    """A start finds all before the group `first`; the rest is gone, or damage."""
    path.write_bytes(data)
    journal = journal_of(path.parent)
    assert journal.damaged() == ([path] if damage else [])
    assert path.read_bytes() == data
    found = journal.open(0)
    assert [position for position, _ in found.records] == list(range(1, first + 1))
    assert bool(found.damaged) == damage
    if damage:
        kept = [kept.read_bytes() for kept in found.damaged]
        assert kept == [bytes(data)]
    else:
        assert not found.salvaged
        end = groups[first - 1].offset + groups[first - 1].size if first else 0
        assert path.stat().st_size == end
        assert journal.position == first


def sectors(group: Group) -> list[slice]:
    """Of the file, as far as they belong to a frame."""
    start, end = group.offset, group.offset + group.size
    begins = range(start - start % SECTOR, end, SECTOR)
    return [slice(max(begin, start), min(begin + SECTOR, end)) for begin in begins]


def is_zero(data: bytes | bytearray) -> bool:
    return not data.strip(b"\0")


@given(SIZES, st.data())
def test_a_torn_frame_over_zeros_was_never_promised(sizes: list[int], draw: st.DataObject) -> None:
    with crashed(sizes) as (path, data, groups):
        places = sectors(groups[-1])
        missing = draw.draw(st.sets(st.sampled_from(range(len(places))), min_size=1))
        before = bytes(data)
        for number in missing:
            place = places[number]
            data[place] = bytes(place.stop - place.start)
        lost = 0 if data == before else 1
        check(path, bytes(data), groups, len(groups) - lost, damage=False)


@given(SIZES, st.integers(1, 3), st.data())
def test_what_was_written_up_to_somewhere(sizes: list[int], n: int, draw: st.DataObject) -> None:
    """The last frames are torn at any byte that leaves nothing of the last seal."""
    n = min(n, len(sizes))
    with crashed(sizes) as (path, data, groups):
        torn = groups[-n]
        kept = draw.draw(st.integers(0, torn.size - 16))
        start = torn.offset + kept
        data[start:] = bytes(len(data) - start)
        check(path, bytes(data), groups, len(groups) - n, damage=False)


@given(SIZES, st.data())
def test_zeros_before_an_intact_frame_are_damage(sizes: list[int], draw: st.DataObject) -> None:
    with crashed(sizes) as (path, data, groups):
        number = draw.draw(st.integers(0, len(groups) - 2))
        place = draw.draw(st.sampled_from(sectors(groups[number])))
        if place.stop - place.start < 16:
            return
        data[place] = bytes(place.stop - place.start)
        check(path, bytes(data), groups, number, damage=True)


@given(SIZES, st.data())
def test_changed_bytes_are_damage_also_in_the_last_frame(
    sizes: list[int], draw: st.DataObject
) -> None:
    with crashed(sizes) as (path, data, groups):
        number = draw.draw(st.integers(0, len(groups) - 1))
        group = groups[number]
        # A header that is no header is where a torn write ends, if nothing follows.
        first = HEADER.size if number == len(groups) - 1 else 0
        place = group.offset + draw.draw(st.integers(first, group.size - 1))
        data[place] = data[place] ^ 1 or 2
        check(path, bytes(data), groups, number, damage=True)

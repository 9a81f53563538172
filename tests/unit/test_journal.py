"""The journal on disk: positions, groups, torn tails, damage, segments, reading again.

Data flow: records -> Journal -> files (perhaps damaged) -> a second Journal -> records.
"""

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from parsec_fs.protocol.errors import DecryptionError
from parsec_fs.protocol.sealing import LocalSealer
from parsec_fs.storage.journal import Journal

Open = Callable[..., Journal]


@pytest.fixture
def open_journal(tmp_path: Path) -> Open:
    """A journal over one folder; not opened yet."""

    def open_it(key: bytes = b"k" * 32, segment_size: int = 1 << 24) -> Journal:
        return Journal(tmp_path / "journal", LocalSealer(key), segment_size=segment_size)

    return open_it


def written(journal: Journal, groups: list[list[bytes]]) -> None:
    """One sealed group per list."""
    for group in groups:
        for item in group:
            journal.append((1, item))
        journal.flush()


def segments(journal: Journal) -> list[Path]:
    return sorted(journal.directory.glob("*.journal"))


def test_everything_comes_back_in_order(open_journal: Open) -> None:
    journal = open_journal()
    assert journal.open(0).records == []
    written(journal, [[b"a", b"b"], [b"c"]])
    journal.close()
    again = open_journal()
    assert again.open(0).records == [(1, (1, b"a")), (2, (1, b"b")), (3, (1, b"c"))]
    assert again.position == 3
    written(again, [[b"d"]])
    again.close()
    last = open_journal()
    assert [position for position, _ in last.open(2).records] == [3, 4]


def test_nothing_is_readable_without_the_key(open_journal: Open) -> None:
    journal = open_journal()
    journal.open(0)
    written(journal, [[b"secret name"]])
    journal.close()
    assert b"secret name" not in segments(journal)[0].read_bytes()
    other = open_journal(key=b"x" * 32)
    found = other.open(0)
    assert found.records == []
    assert len(found.damaged) == 1


@pytest.mark.parametrize("lost", [1, 10, 60])
def test_a_torn_tail_is_cut_off(open_journal: Open, lost: int) -> None:
    journal = open_journal()
    journal.open(0)
    written(journal, [[b"a"], [b"b"]])
    journal.close()
    path = segments(journal)[0]
    os.truncate(path, path.stat().st_size - lost)
    again = open_journal()
    found = again.open(0)
    assert [record for _, record in found.records] == [(1, b"a")]
    assert (found.salvaged, found.damaged) == ([], [])
    written(again, [[b"c"]])
    again.close()
    assert [record for _, record in open_journal().open(0).records] == [(1, b"a"), (1, b"c")]


@pytest.mark.parametrize("place", [2, 30, 100])
def test_a_damaged_group_costs_itself(open_journal: Open, place: int) -> None:
    journal = open_journal()
    journal.open(0)
    written(journal, [[b"a"], [b"b" * 200], [b"c"], [b"d"]])
    journal.close()
    path = segments(journal)[0]
    data = bytearray(path.read_bytes())
    second = data.index(b"PFJ1", 4)
    data[second + place] ^= 1
    path.write_bytes(data)
    again = open_journal()
    found = again.open(0)
    assert [record for _, record in found.records] == [(1, b"a")]
    assert [record for _, record in found.salvaged] == [(1, b"c"), (1, b"d")]
    assert [kept.read_bytes() for kept in found.damaged] == [bytes(data)]
    assert again.position >= 4
    written(again, [[b"e"]])
    again.close()
    after = open_journal().open(0)
    assert [record for _, record in after.records] == [(1, b"a"), (1, b"e")]
    assert (after.salvaged, after.damaged) == ([], [])


def test_groups_cannot_change_places(open_journal: Open) -> None:
    journal = open_journal()
    journal.open(0)
    written(journal, [[b"a"], [b"b"]])
    journal.close()
    path = segments(journal)[0]
    data = path.read_bytes()
    second = data.index(b"PFJ1", 4)
    path.write_bytes(data[second:] + data[:second])
    found = open_journal().open(0)
    positions = [position for position, _ in found.records + found.salvaged]
    assert positions == sorted(positions) or found.damaged


def test_segments_are_forgotten_when_all_in_them_is_logged(open_journal: Open) -> None:
    journal = open_journal(segment_size=1)
    journal.open(0)
    written(journal, [[b"a", b"b"], [b"c"], [b"d"]])
    assert len(segments(journal)) == 3
    journal.forget(1)
    assert len(segments(journal)) == 3
    journal.forget(3)
    assert len(segments(journal)) == 1
    journal.forget(4)
    assert len(segments(journal)) == 1, "the segment being written stays"
    journal.close()
    again = open_journal()
    assert [position for position, _ in again.open(3).records] == [4]
    assert again.position == 4


def test_positions_go_on_when_everything_was_forgotten(open_journal: Open) -> None:
    journal = open_journal()
    assert journal.open(41).records == []
    written(journal, [[b"a"]])
    assert journal.position == 42
    journal.close()
    assert [position for position, _ in open_journal().open(41).records] == [42]


def test_reading_a_record_again(open_journal: Open) -> None:
    journal = open_journal()
    journal.open(0)
    written(journal, [[b"a", b"b"], [b"c"]])
    assert journal.read(2) == (1, b"b")
    assert journal.read(3) == (1, b"c")
    with pytest.raises(DecryptionError):
        journal.read(4)
    journal.close()


def test_large_groups_are_split(open_journal: Open) -> None:
    journal = open_journal()
    journal.open(0)
    written(journal, [[bytes([n]) * 3_000_000 for n in range(7)]])
    assert journal.written == 7
    assert journal.read(7) == (1, b"\x06" * 3_000_000)
    journal.close()
    assert len(open_journal().open(0).records) == 7


def test_a_failed_write_loses_nothing(open_journal: Open, tmp_path: Path) -> None:
    journal = open_journal()
    journal.open(0)
    written(journal, [[b"a"]])
    segment = journal._segment
    assert segment is not None
    healthy, segment.fd = segment.fd, os.open(tmp_path / "journal", os.O_RDONLY)
    journal.append((1, b"b"))
    with pytest.raises(OSError):
        journal.flush()
    os.close(segment.fd)
    segment.fd = healthy
    journal.append((1, b"c"))
    journal.flush()
    journal.close()
    expected = [(1, b"a"), (1, b"b"), (1, b"c")]
    assert [record for _, record in open_journal().open(0).records] == expected


def test_what_comes_while_a_thread_writes_is_not_lost(open_journal: Open) -> None:
    """Flushes there and here, appends and forgetting, all at once, over many segments."""
    journal = open_journal(segment_size=2_000)
    journal.open(0)
    ended = threading.Event()

    def write() -> None:
        while not ended.is_set():
            journal.write()

    writer = threading.Thread(target=write)
    writer.start()
    forgotten = 0
    try:
        for number in range(5_000):
            journal.append((1, b"%d" % number))
            if number % 7 == 6:
                journal.take()
            if number % 500 == 499:
                journal.flush()
                forgotten = journal.written - 200
                journal.forget(forgotten)
            if number % 701 == 700:
                assert journal.sync() <= number + 1
    finally:
        ended.set()
        writer.join()
    journal.close()
    found = open_journal().open(forgotten)
    assert found.records == [(n + 1, (1, b"%d" % n)) for n in range(forgotten, 5_000)]
    assert not found.damaged


def test_a_segment_that_cannot_be_started_is_tried_again(
    open_journal: Open, tmp_path: Path
) -> None:
    journal = open_journal(segment_size=1)
    journal.open(0)
    written(journal, [[b"a"]])
    journal.directory.rename(tmp_path / "away")
    journal.append((1, b"b"))
    for _ in range(3):
        with pytest.raises(OSError):
            journal.flush()
    (tmp_path / "away").rename(journal.directory)
    journal.flush()
    assert journal.sync() == 2
    journal.close()
    expected = [(1, b"a"), (1, b"b")]
    assert [record for _, record in open_journal().open(0).records] == expected


def test_what_a_disk_has_lost_is_never_called_durable(open_journal: Open) -> None:
    """After a failed sync a later one may succeed although the pages are gone."""
    journal = open_journal()
    journal.open(0)
    written(journal, [[b"a"]])
    assert journal._segment is not None
    current = journal._segment.fd
    healthy = os.dup(current)
    reader, writer = os.pipe()
    os.dup2(writer, current)
    with pytest.raises(OSError):
        journal.sync()
    os.dup2(healthy, current)
    with pytest.raises(OSError, match="mount again"):
        journal.sync()
    assert journal.synced == 0
    journal.close()
    for descriptor in (healthy, reader, writer):
        os.close(descriptor)
    assert [record for _, record in open_journal().open(0).records] == [(1, b"a")]


@pytest.mark.parametrize("missing", [[1], [1, 2]])
def test_a_missing_segment_is_damage(open_journal: Open, missing: list[int]) -> None:
    """What is behind it may rest on it: it is salvaged, and what is new goes on behind a gap."""
    journal = open_journal(segment_size=1)
    journal.open(0)
    written(journal, [[b"a", b"b"], [b"c"], [b"d"], [b"e"], [b"f"]])
    journal.close()
    paths = segments(journal)
    for index in missing:
        paths[index].unlink()
    behind = paths[max(missing) + 1 :]
    assert open_journal().damaged() == behind
    again = open_journal(segment_size=1)
    found = again.open(0)
    assert [position for position, _ in found.records] == [1, 2]
    assert [position for position, _ in found.salvaged] == list(range(3 + len(missing), 7))
    assert len(found.damaged) == len(behind)
    written(again, [[b"g"], [b"h"]])
    again.close()
    assert open_journal().damaged() == []
    after = open_journal().open(0)
    assert [position for position, _ in after.records] == [1, 2, 7, 8]
    segments(again)[1].unlink()
    assert len(open_journal().damaged()) == 1, "the gap is known, and no other one"


def test_a_gap_of_what_is_logged_is_no_damage(open_journal: Open) -> None:
    journal = open_journal(segment_size=1)
    journal.open(0)
    written(journal, [[b"a"], [b"b"], [b"c"], [b"d"]])
    journal.close()
    segments(journal)[1].unlink()
    found = open_journal().open(2)
    assert [position for position, _ in found.records] == [3, 4]
    assert (found.salvaged, found.damaged) == ([], [])

"""Zeros laid ahead of the journal: when, how far, what ends them, and a disk without room for them.

Data flow: records, each synchronised -> Journal -> a segment with zeros behind its frames -> as a
crash leaves it, or closed -> a second Journal.
"""

import os
import resource
import shutil
from pathlib import Path

import pytest

from parsec_fs.protocol.sealing import LocalSealer
from parsec_fs.storage.journal import Journal
from parsec_fs.storage.journal_frames import SECTOR
from parsec_fs.storage.journal_scan import Recovered
from parsec_fs.storage.journal_segment import AHEAD, BRIEF

PAGE = bytes(range(1, 129)) * 32


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    """Open and empty."""
    return opened(tmp_path / "journal")


def opened(folder: Path, segment_size: int = 1 << 24) -> Journal:
    one = Journal(folder, LocalSealer(b"k" * 32), segment_size=segment_size)
    one.open(0)
    return one


def synced(journal: Journal, count: int, data: bytes = PAGE) -> None:
    """So many transactions."""
    for _ in range(count):
        journal.append((1, data))
        journal.take()
        journal.synced = journal.sync()


def sizes(folder: Path) -> list[int]:
    return [path.stat().st_size for path in sorted(folder.glob("*.journal"))]


def after_crash(journal: Journal) -> tuple[Recovered, list[int]]:
    """What a start finds if the program ends here, and the segments behind it."""
    copy = journal.directory.with_name("copy")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(journal.directory, copy)
    again = Journal(copy, LocalSealer(b"k" * 32))
    assert again.damaged() == []
    return again.open(0), sizes(copy)


def test_zeros_are_laid_once_syncs_follow_each_other(journal: Journal) -> None:
    synced(journal, 4)
    assert sizes(journal.directory) == [journal.size()]
    synced(journal, 1)
    assert sizes(journal.directory) == [journal.size() + AHEAD]
    synced(journal, 20)
    assert sizes(journal.directory)[0] > journal.size(), "frames go over the zeros"
    found, cut = after_crash(journal)
    assert found.records == [(n, (1, PAGE)) for n in range(1, 26)]
    assert cut == [journal.size()], "what is new goes on behind the last frame"
    assert journal.read(25) == (1, PAGE)
    journal.close()
    assert sizes(journal.directory) == [journal.size()]


def test_zeros_are_laid_again_before_they_are_used_up(journal: Journal) -> None:
    synced(journal, 5)
    laid = sizes(journal.directory)[0]
    left = []
    for _ in range(AHEAD // len(PAGE)):
        synced(journal, 1)
        left.append(sizes(journal.directory)[0] - journal.size())
    assert sizes(journal.directory)[0] == laid + AHEAD
    assert min(left) >= BRIEF - 2 * len(PAGE)


def test_no_zeros_for_much_between_two_syncs(journal: Journal) -> None:
    synced(journal, 12, bytes([1]) * (BRIEF + 1))
    assert sizes(journal.directory) == [journal.size()]
    assert not journal.is_brief() or journal.position == 0 or journal.is_written()


def test_a_finished_segment_is_cut(tmp_path: Path) -> None:
    journal = opened(tmp_path / "journal", segment_size=100_000)
    synced(journal, 10)
    assert sizes(journal.directory) == [100_000], "and none is laid beyond a segment"
    synced(journal, 30)
    assert len(sizes(journal.directory)) == 2
    assert sum(sizes(journal.directory)) - journal.size() < 100_000
    found, cut = after_crash(journal)
    assert len(found.records) == 40
    assert sum(cut) == journal.size()


def test_a_disk_without_room_for_zeros_has_room_for_frames(journal: Journal) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    synced(journal, 4)
    resource.setrlimit(resource.RLIMIT_FSIZE, (journal.size() + AHEAD // 2, before[1]))
    try:
        synced(journal, 3)
        assert sizes(journal.directory) == [journal.size()]
        assert journal.is_brief(), "nor are they tried each time"
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    found, _ = after_crash(journal)
    assert len(found.records) == 7


def test_a_frame_for_which_there_is_no_room_takes_the_zeros_along(journal: Journal) -> None:
    """It is torn where the file may not grow; the next one follows an intact one."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    synced(journal, 5)
    resource.setrlimit(resource.RLIMIT_FSIZE, (sizes(journal.directory)[0] + 1, before[1]))
    try:
        journal.append((1, os.urandom(AHEAD + 2)))
        with pytest.raises(OSError, match="no space"):
            journal.flush()
        assert sizes(journal.directory) == [journal.size()]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    synced(journal, 1)
    assert len(after_crash(journal)[0].records) == 7


def test_what_waits_for_one_brief_sync_only(journal: Journal) -> None:
    journal.append((1, PAGE))
    journal.take()
    assert not journal.is_brief(), "the file's name is to be made durable as well"
    journal.synced = journal.sync()
    synced(journal, 1)
    assert journal.is_brief()
    journal.append((1, bytes([1]) * BRIEF))
    journal.take()
    assert not journal.is_brief()
    journal.synced = journal.sync()
    synced(journal, 4)
    assert not journal.is_brief(), "zeros are laid with the next"
    synced(journal, 1)
    assert journal.is_brief()
    journal.close()


def test_a_frame_that_outgrows_the_zeros_is_appended(journal: Journal) -> None:
    """A power cut may leave out any page that was written over zeros, and keep the file's new size;
    what was appended it takes from the end. So the zeros are gone before the first byte comes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    synced(journal, 10)
    assert sizes(journal.directory)[0] > journal.size()
    journal.append((1, os.urandom(AHEAD)))
    resource.setrlimit(resource.RLIMIT_FSIZE, (journal.size(), before[1]))
    try:
        with pytest.raises(OSError):
            journal.flush()
        assert sizes(journal.directory) == [journal.size()]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    journal.flush()
    assert sizes(journal.directory) == [journal.size()]
    path = next(journal.directory.glob("*.journal"))
    for lost in (1, AHEAD // 2, AHEAD):
        os.truncate(path, journal.size() - lost)
        assert len(after_crash(journal)[0].records) == 10


def test_cutting_zeros_is_not_brief(tmp_path: Path) -> None:
    journal = opened(tmp_path / "journal", segment_size=100_000)
    synced(journal, 20)
    while journal.size() + 2 * len(PAGE) < 100_000:
        assert journal.is_brief()
        synced(journal, 1)
    for _ in range(2):
        journal.append((1, PAGE))
    journal.take()
    assert not journal.is_brief()
    journal.synced = journal.sync()
    assert sizes(journal.directory) == [journal.size()]
    journal.close()


@pytest.mark.parametrize("begun", [b"", bytes(5000), PAGE])
def test_a_torn_group_before_a_segment_that_was_only_begun(journal: Journal, begun: bytes) -> None:
    """Neither was synchronised: that the later file is there says nothing of what is before it."""
    synced(journal, 10)
    end = journal.size()
    for _ in range(2):
        journal.append((1, PAGE))
    journal.flush()
    path = next(journal.directory.glob("*.journal"))
    with path.open("r+b") as file:
        file.seek((end // SECTOR + 2) * SECTOR)
        file.write(bytes(SECTOR))
    (journal.directory / f"{13:016x}.journal").write_bytes(begun)
    found, cut = after_crash(journal)
    assert len(found.records) == 10
    assert cut == [end, 0]
    folder = journal.directory.with_name("copy")
    for count in (1, 2, 3):
        again = opened(folder)
        synced(again, 1)
        again.close()
        assert opened(folder).damaged() == [], "what is new goes on behind the last frame"
        assert again.position == 10 + count

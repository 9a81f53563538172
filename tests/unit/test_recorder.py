"""The record of what was fsynced notices what is lost, torn, or not in order.

Data flow: recorder on a plain folder -> record -> the folder is damaged -> `Facts.check`.
"""

import json
import random
from pathlib import Path

import pytest

from tests.support.recorder import (
    FOLDERS,
    NEW,
    Facts,
    Recorder,
    content,
    loose_content,
    read_facts,
    write_facts,
)

SEED = 7


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder in which 30 changes were made."""
    for part in FOLDERS:
        (tmp_path / "folder" / part).mkdir(parents=True)
    write_facts(tmp_path / "facts", Facts())
    recorder = Recorder(tmp_path / "folder", tmp_path / "facts", random.Random(SEED))
    for _ in range(30):
        recorder.one()
    return tmp_path / "folder"


@pytest.fixture
def facts(folder: Path) -> Facts:
    return read_facts(folder.parent / "facts")


def a_file(facts: Facts) -> str:
    return next(path for path, pieces in sorted(facts.files.items()) if len(content(pieces)) > 100)


def test_what_was_promised_is_there(folder: Path, facts: Facts) -> None:
    assert facts.fsynced == 30
    assert facts.loose > 1
    assert facts.check(folder) == []


def test_a_file_that_is_lost(folder: Path, facts: Facts) -> None:
    path = a_file(facts)
    (folder / path).unlink()
    assert facts.check(folder) == [f"{path} is lost"]


def test_a_file_that_is_torn(folder: Path, facts: Facts) -> None:
    path = a_file(facts)
    with open(folder / path, "r+b") as file:
        file.write(bytes(100))
    (fault,) = facts.check(folder)
    assert fault.startswith(f"{path} is torn")


def test_a_file_that_came_back(folder: Path, facts: Facts) -> None:
    (folder / "one" / "gone").write_bytes(b"")
    assert facts.check(folder) == ["one/gone should not be there"]


def test_files_without_fsync_are_kept_in_order(folder: Path, facts: Facts) -> None:
    facts.loose += 2  # begun, and nothing was fsynced since
    number = facts.loose_kept
    (folder / f"{number + 1}.loose").write_bytes(loose_content(number + 1))
    (fault,) = facts.check(folder)
    assert fault.startswith("not in the order")


def test_files_made_before_an_fsync_are_kept(folder: Path, facts: Facts) -> None:
    (folder / f"{facts.loose - 1}.loose").unlink()
    kept = facts.loose_kept
    assert facts.check(folder) == [f"made before an fsync: {kept}, there: {kept - 1}"]


@pytest.mark.parametrize("size", [0, 50, 100])
def test_a_save_in_doubt_may_have_begun(folder: Path, facts: Facts, size: int) -> None:
    change = {"what": "save", "path": "one/saved-0", "number": 999, "size": 100}
    facts.line(json.loads(json.dumps(change)))
    (folder / f"one/saved-0{NEW}").write_bytes(content([[999, size]]))
    assert facts.check(folder) == []
    assert f"one/saved-0{NEW}" in facts.files


def test_a_save_in_doubt_is_old_or_new(folder: Path, facts: Facts) -> None:
    facts.line({"what": "save", "path": "one/saved-0", "number": 999, "size": 100})
    (folder / "one/saved-0").write_bytes(content([[999, 99]]))
    (fault,) = facts.check(folder)
    assert "one/saved-0" in fault


def test_an_append_in_doubt_is_a_prefix(folder: Path, facts: Facts) -> None:
    facts.line({"what": "append", "path": "one/log-0", "number": 999, "size": 100})
    with open(folder / "one/log-0", "ab") as file:
        file.write(content([[999, 60]]))
    assert facts.check(folder) == []
    assert facts.files["one/log-0"][-1] == [999, 60]
    assert facts.check(folder) == []

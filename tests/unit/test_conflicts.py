"""Conflict copies: their names, and what settling one does to a folder."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from parsec_fs.cli.conflicts import Copy, Keep, copies_below, copy_at, described, resolve_copy
from parsec_fs.cli.exit_codes import CommandError, ExitCode
from parsec_fs.workspace.conflicts import conflict_name, is_conflict_name, split_conflict_name

LABEL = b"bob 2026-08-02 10.12"
MINE = {"whose": "mine", "of": ["bob (laptop)"]}
THEIRS = {"whose": "theirs", "of": ["bob (laptop)"]}


@pytest.mark.parametrize("name", [b"report.odt", b"notes", b".profile", b"a (b) (c).tar", b"x\n.y"])
def test_a_conflict_name_says_what_it_is(name: bytes) -> None:
    taken: dict[bytes, object] = {}
    for _ in range(3):
        made = conflict_name(name, LABEL, taken)
        taken[made] = None
        assert split_conflict_name(made) == (name, b"bob", b"2026-08-02 10:12")
        assert is_conflict_name(made)


def test_the_form_of_the_name() -> None:
    made = conflict_name(b"report.odt", LABEL, {})
    assert made == b"report (conflict, bob 2026-08-02 10.12).odt"


@pytest.mark.parametrize(
    "name",
    [
        b"report.odt",
        b"report (conflict).odt",
        b"report (conflict, bob).odt",
        b"report (bob 2026-08-02 10.12).odt",
        b" (conflict, bob 2026-08-02 10.12).odt",
        b"report (conflict, bob 2026-08-02 10.12) of mine",
    ],
)
def test_other_names_are_none(name: bytes) -> None:
    assert split_conflict_name(name) is None
    assert not is_conflict_name(name)


def conflict(folder: Path, ours: str = "ours", theirs: str | None = "theirs") -> Copy:
    if theirs is not None:
        (folder / "report.odt").write_text(theirs)
    path = folder / "report (conflict, bob 2026-08-02 10.12).odt"
    path.write_text(ours)
    copy = copy_at(path)
    assert copy is not None
    return copy


def shown(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_copies_are_found_wherever_they_are(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    copy = conflict(tmp_path / "below")
    assert list(copies_below(tmp_path)) == [copy]
    found = copy.json(tmp_path)
    assert found["path"] == "below/report (conflict, bob 2026-08-02 10.12).odt"
    assert (found["original"], found["original_exists"]) == ("below/report.odt", True)
    assert (found["label"], found["when"]) == ("bob", "2026-08-02 10:12")


@pytest.mark.parametrize(
    ("keep", "judged", "content"),
    [
        (Keep.MINE, MINE, "ours"),
        (Keep.THEIRS, MINE, "theirs"),
        (Keep.MINE, THEIRS, "theirs"),
        (Keep.THEIRS, THEIRS, "ours"),
    ],
)
def test_one_version_goes_on(
    tmp_path: Path, keep: Keep, judged: dict[str, Any], content: str
) -> None:
    kept = resolve_copy(conflict(tmp_path), keep, judged=judged)
    assert kept.name == "report.odt"
    assert shown(tmp_path) == {"report.odt": content}


def test_both_go_on_and_nothing_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "report (bob 2026-08-02 10.12).odt").write_text("another")
    kept = resolve_copy(conflict(tmp_path), Keep.BOTH, judged=MINE)
    assert shown(tmp_path) == {
        "report.odt": "theirs",
        "report (bob 2026-08-02 10.12).odt": "another",
        kept.name: "ours",
    }
    assert list(copies_below(tmp_path)) == []


def test_the_last_version_is_not_removed(tmp_path: Path) -> None:
    copy = conflict(tmp_path, theirs=None)
    with pytest.raises(CommandError) as caught:
        resolve_copy(copy, Keep.MINE, judged=THEIRS)
    assert caught.value.code is ExitCode.NOT_FOUND
    assert list(shown(tmp_path).values()) == ["ours"]
    assert resolve_copy(copy, Keep.MINE, judged=MINE).name == "report.odt"


@pytest.mark.parametrize("judged", [MINE, THEIRS])
def test_a_folder_with_something_in_it_stays(tmp_path: Path, judged: dict[str, Any]) -> None:
    for name in ("plans", "plans (conflict, bob 2026-08-02 10.12)"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    (copy,) = copies_below(tmp_path)
    with pytest.raises(CommandError, match="Nothing was changed"):
        resolve_copy(copy, Keep.MINE, judged=judged)
    assert {path.parent.name: path.read_text() for path in tmp_path.glob("*/file")} == {
        name: name for name in ("plans", "plans (conflict, bob 2026-08-02 10.12)")
    }


@pytest.mark.parametrize("keep", [Keep.MINE, Keep.THEIRS])
@pytest.mark.parametrize(
    ("judged", "match"),
    [
        ({"whose": "unsure", "of": ["bob (laptop)", "bob (desktop)"]}, r"of bob \(laptop\) or bob"),
        ({"whose": "unknown", "of": []}, "nobody in this organization is called bob"),
    ],
)
def test_where_nobody_knows_whose_it_is_no_side_is_taken(
    tmp_path: Path, keep: Keep, judged: dict[str, Any], match: str
) -> None:
    copy = conflict(tmp_path)
    with pytest.raises(CommandError, match=f"{match}.*Nothing was changed"):
        resolve_copy(copy, keep, judged=judged)
    assert set(shown(tmp_path).values()) == {"ours", "theirs"}
    resolve_copy(copy, Keep.BOTH, judged=judged)
    assert set(shown(tmp_path).values()) == {"ours", "theirs"}


def test_what_is_settled_meanwhile_is_not_listed(tmp_path: Path) -> None:
    """Copies and folders go while the list is made; the mount itself must be there."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        conflict(tmp_path / name)
    copies = copies_below(tmp_path)
    first = next(copies)
    first.path.unlink()
    shutil.rmtree(tmp_path / "b")
    assert described([first, *copies], tmp_path) == []
    with pytest.raises(FileNotFoundError):
        list(copies_below(tmp_path / "b"))

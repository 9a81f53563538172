"""Conflict copies: their names, and what settling one does to a folder."""

import shutil
from pathlib import Path

import pytest

from parsec_fs.cli.conflicts import Copy, Keep, copies_below, copy_at, described, resolve_copy
from parsec_fs.cli.exit_codes import CommandError, ExitCode
from parsec_fs.protocol.certificates import Device
from parsec_fs.protocol.ids import DeviceId, UserId
from parsec_fs.workspace.conflicts import (
    conflict_name,
    device_in_name,
    namesakes,
    split_conflict_name,
)

LABEL = b"bob 2026-08-02 10.12"


@pytest.mark.parametrize("name", [b"report.odt", b"notes", b".profile", b"a (b) (c).tar", b"x\n.y"])
def test_a_conflict_name_says_what_it_is(name: bytes) -> None:
    taken: dict[bytes, object] = {}
    for _ in range(3):
        made = conflict_name(name, LABEL, taken)
        taken[made] = None
        assert split_conflict_name(made) == (name, b"bob", b"2026-08-02 10:12")


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
    assert (found["device"], found["when"]) == ("bob", "2026-08-02 10:12")


@pytest.mark.parametrize(
    ("keep", "own", "content"),
    [
        (Keep.MINE, "bob", "ours"),
        (Keep.THEIRS, "bob", "theirs"),
        (Keep.MINE, "alice", "theirs"),
        (Keep.THEIRS, "alice", "ours"),
    ],
)
def test_one_version_goes_on(tmp_path: Path, keep: Keep, own: str, content: str) -> None:
    kept = resolve_copy(conflict(tmp_path), keep, own_device=own)
    assert kept.name == "report.odt"
    assert shown(tmp_path) == {"report.odt": content}


def test_both_go_on_and_nothing_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "report (bob 2026-08-02 10.12).odt").write_text("another")
    kept = resolve_copy(conflict(tmp_path), Keep.BOTH, own_device="bob")
    assert shown(tmp_path) == {
        "report.odt": "theirs",
        "report (bob 2026-08-02 10.12).odt": "another",
        kept.name: "ours",
    }
    assert list(copies_below(tmp_path)) == []


def test_the_last_version_is_not_removed(tmp_path: Path) -> None:
    copy = conflict(tmp_path, theirs=None)
    with pytest.raises(CommandError) as caught:
        resolve_copy(copy, Keep.MINE, own_device="alice")
    assert caught.value.code is ExitCode.NOT_FOUND
    assert list(shown(tmp_path).values()) == ["ours"]
    assert resolve_copy(copy, Keep.MINE, own_device="bob").name == "report.odt"


@pytest.mark.parametrize("own", ["alice", "bob"])
def test_a_folder_with_something_in_it_stays(tmp_path: Path, own: str) -> None:
    for name in ("plans", "plans (conflict, bob 2026-08-02 10.12)"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    (copy,) = copies_below(tmp_path)
    with pytest.raises(CommandError, match="Nothing was changed"):
        resolve_copy(copy, Keep.MINE, own_device=own)
    assert {path.parent.name: path.read_text() for path in tmp_path.glob("*/file")} == {
        name: name for name in ("plans", "plans (conflict, bob 2026-08-02 10.12)")
    }


def device(label: str, number: int = 1) -> Device:
    return Device(
        device=DeviceId(bytes([number]) * 16),
        user=UserId(bytes(16)),
        label=label.encode(),
        sign_key=bytes(32),
        box_key=b"",
        generation=1,
        user_key_box=b"",
    )


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("laptop", "laptop"),
        ("bob's lap/top: *new*", "bob's laptop new"),
        (' "tablet" ', "tablet"),
        ("a\nb\x1b[2J", "anbx1b[2J"),
        ("x" * 200, "x" * 60),
        ("a" + "\u00e4" * 100, "a" + "\u00e4" * 29),
        ("x" * 59 + " y", "x" * 59),
        ('?<>|"', "01010101"),
    ],
)
@pytest.mark.parametrize("keep", [Keep.MINE, Keep.THEIRS])
def test_whatever_a_device_is_called_its_copies_are_its_own(
    tmp_path: Path, label: str, name: str, keep: Keep
) -> None:
    """The name of a copy, read again, is what this device is compared with."""
    own = device_in_name(device(label))
    assert own == name
    when = b" 2026-08-02 10.12"
    (tmp_path / "report").write_text("theirs")
    copy = copy_at(tmp_path / conflict_name(b"report", own.encode() + when, {}).decode())
    assert copy is not None
    copy.path.write_text("ours")
    resolve_copy(copy, keep, own_device=own)
    assert shown(tmp_path) == {"report": "ours" if keep is Keep.MINE else "theirs"}


@pytest.mark.parametrize("keep", [Keep.MINE, Keep.THEIRS])
def test_of_two_devices_with_one_name_no_side_is_taken(tmp_path: Path, keep: Keep) -> None:
    copy = conflict(tmp_path)
    with pytest.raises(CommandError, match=r"alice \(bob\).*Nothing was changed"):
        resolve_copy(copy, keep, own_device="bob", namesakes=["alice (bob)"])
    assert set(shown(tmp_path).values()) == {"ours", "theirs"}
    kept = resolve_copy(copy, keep, own_device="carol", namesakes=["alice (carol)"])
    assert shown(tmp_path) == {kept.name: "theirs" if keep is Keep.MINE else "ours"}


def test_namesakes_are_those_that_copies_name_alike() -> None:
    own = device("x" * 60 + "1", 1)
    others = [device("x" * 60 + "2", 2), device("x:" * 60, 3), device("y", 4)]
    assert namesakes(own, [own, *others]) == others[:2]


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

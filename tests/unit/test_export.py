"""parsec-fs export: what is chosen, what is copied, what becomes of errors.

Data flow: plain folders in place of a mount, states as the test says -> copies.
"""

import os
from pathlib import Path

import pytest

from parsec_fs.cli.exit_codes import CommandError
from parsec_fs.cli.export import _check_target, copy_out, wanted


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A tree with one file that nobody else has, and an empty folder of the same kind."""
    root = tmp_path / "mount"
    for name in ("old/sent", "work/deep/new", "work/sent"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    (root / "empty").mkdir()
    (root / "work/link").symlink_to("nowhere")
    os.utime(root / "work/deep/new", ns=(5, 5))
    return root


def states(path: Path) -> bytes:
    return b"local" if path.name in ("new", "link", "empty") else b"logged"


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_only_what_nobody_else_has(root: Path, tmp_path: Path) -> None:
    target = tmp_path / "out"
    assert copy_out(root, target, wanted(root, states)) == []
    assert names(target) == {"work", "work/deep", "work/deep/new", "work/link", "empty"}
    assert (target / "work/deep/new").read_text() == "work/deep/new"
    assert (target / "work/deep/new").stat().st_mtime_ns == 5
    assert os.readlink(target / "work/link") == "nowhere"


def test_everything(root: Path, tmp_path: Path) -> None:
    assert copy_out(root, tmp_path / "out", None) == []
    assert names(tmp_path / "out") == names(root)


def test_nothing_to_copy_is_an_empty_folder(root: Path, tmp_path: Path) -> None:
    assert copy_out(root, tmp_path / "out", wanted(root, lambda path: b"audited")) == []
    assert names(tmp_path / "out") == set()


def test_what_cannot_be_copied_keeps_nothing_else(root: Path, tmp_path: Path) -> None:
    os.mkfifo(root / "work/pipe")
    (failed,) = copy_out(root, tmp_path / "out", None)
    assert "pipe" in failed
    assert names(tmp_path / "out") == names(root) - {"work/pipe"}


def test_the_target_is_new_and_elsewhere(root: Path, tmp_path: Path) -> None:
    for place in (root / "out", root, tmp_path):
        with pytest.raises(CommandError):
            _check_target(place, root)
    _check_target(tmp_path / "out", root)

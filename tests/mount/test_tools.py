"""Ordinary programs on the mount: they find there what they find on any other file system.

Data flow: tar, cp, rsync, git, sqlite3, python -> mount -> compared with the same work outside.
"""

import os
import sys
from pathlib import Path

import pytest

from tests.support.mounts import Daemon
from tests.support.programs import run
from tests.support.requirements import require_program

SOURCES = Path(__file__).resolve().parents[2] / "parsec_fs"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A small tree with everything in it that programs copy."""
    root = tmp_path / "tree"
    for number in range(30):
        folder = root / f"d{number % 5}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"f{number}").write_bytes(os.urandom(number * number * 300))
        os.utime(folder / f"f{number}", ns=(10**18 + number, 10**18 + 7 * number))
    os.link(root / "d1/f1", root / "d2/link")
    os.symlink("../d1/f6", root / "d3/symlink")
    os.mkfifo(root / "d4/fifo")
    (root / "d4" / "script").write_text("#!/bin/sh\n")
    (root / "d4" / "script").chmod(0o755)
    os.setxattr(root / "d1/f1", "user.comment", b"kept")
    return root


def described(root: Path) -> list[tuple[object, ...]]:
    """Everything about a tree that copies must keep."""
    found: list[tuple[object, ...]] = []
    for path in sorted(root.rglob("*")):
        info = path.lstat()
        about = (path.relative_to(root), info.st_mode, info.st_uid, info.st_gid)
        if path.is_file() and not path.is_symlink():
            xattrs = [(name, os.getxattr(path, name)) for name in os.listxattr(path)]
            found.append((*about, path.read_bytes(), info.st_nlink, info.st_mtime_ns, xattrs))
        elif path.is_symlink():
            found.append((*about, os.readlink(path)))
        else:
            found.append(about)
    return found


def test_cp_keeps_everything(tree: Path, folder: Path) -> None:
    run("cp", "-a", tree, folder / "in")
    assert described(folder / "in") == described(tree)
    run("cp", "-a", folder / "in", folder / "again")
    assert described(folder / "again") == described(tree)


def test_tar_there_and_back(tree: Path, folder: Path, tmp_path: Path) -> None:
    run("tar", "-C", tree.parent, "--xattrs", "-cf", tmp_path / "out.tar", "tree")
    run("tar", "-C", folder, "--xattrs", "-xpf", tmp_path / "out.tar")
    assert described(folder / "tree") == described(tree)
    run("tar", "-C", folder, "--xattrs", "-cf", folder / "back.tar", "tree")
    (tmp_path / "back").mkdir()
    run("tar", "-C", tmp_path / "back", "--xattrs", "-xpf", folder / "back.tar")
    assert described(tmp_path / "back/tree") == described(tree)
    listed = run("tar", "-tvf", folder / "back.tar")
    assert (
        " tree/d2/link link to tree/d1/f1" in listed or " tree/d1/f1 link to tree/d2/link" in listed
    )


def test_rsync_keeps_everything(tree: Path, folder: Path) -> None:
    require_program("rsync", "install rsync")
    run("rsync", "-aHAX", f"{tree}/", folder / "copy")
    assert described(folder / "copy") == described(tree)
    (tree / "d0" / "f5").write_bytes(b"changed")
    run("rsync", "-aHAX", "--delete", f"{tree}/", folder / "copy")
    assert described(folder / "copy") == described(tree)
    listed = run("rsync", "-aHAXn", "--itemize-changes", "--checksum", f"{tree}/", folder / "copy")
    assert listed == ""


def test_git_clone_commit_and_check(folder: Path, tmp_path: Path) -> None:
    require_program("git", "install git")
    origin = tmp_path / "origin"
    identity = ("-c", "user.name=n", "-c", "user.email=e@example.org")
    run("git", "init", "-q", "-b", "main", origin)
    run("cp", "-r", SOURCES, origin / "sources")
    run("git", "add", "-A", cwd=origin)
    run("git", *identity, "commit", "-qm", "first", cwd=origin)
    run("git", "clone", "-q", origin, folder / "clone")
    clone = folder / "clone"
    assert run("git", "status", "--porcelain", cwd=clone) == ""
    (clone / "new").write_text("text")
    run("git", "add", "-A", cwd=clone)
    run("git", *identity, "commit", "-qm", "second", cwd=clone)
    run("git", "gc", "-q", cwd=clone)
    run("git", "fsck", "--strict", "--no-progress", cwd=clone)
    assert len(run("git", "log", "--oneline", cwd=clone).splitlines()) == 2


def test_sqlite_keeps_its_database(folder: Path) -> None:
    require_program("sqlite3", "install sqlite3")
    database = folder / "data.db"
    for mode in ("wal", "delete"):
        script = f"pragma journal_mode={mode}; create table if not exists t(a, b);"
        for number in range(30):
            script += f"begin; insert into t values({number}, randomblob(9000)); commit;"
        script += "delete from t where a % 3 = 0; pragma integrity_check;"
        assert run("sqlite3", database, script).splitlines()[-1] == "ok"
    assert run("sqlite3", database, "select count(*) from t").strip() == "40"


def test_python_compiles_there(folder: Path) -> None:
    run("cp", "-r", SOURCES, folder / "package")
    run(
        "find", folder / "package", "-name", "__pycache__", "-prune", "-exec", "rm", "-r", "{}", "+"
    )
    run(sys.executable, "-m", "compileall", "-q", "-f", folder / "package")
    assert list((folder / "package").rglob("*.pyc"))


def test_large_file_with_dd_and_cmp(folder: Path, tmp_path: Path) -> None:
    original = tmp_path / "original"
    original.write_bytes(os.urandom(9_876_543))
    for size in ("1000", "4096", "130000", "1M", "3M"):
        run("dd", f"if={original}", f"of={folder / size}", f"bs={size}", "status=none")
        run("cmp", original, folder / size)
    middle = ("bs=100k", "seek=20", "count=30", "conv=notrunc", "status=none")
    run("dd", f"if={original}", f"of={folder / '1M'}", *middle)
    expected = bytearray(original.read_bytes())
    expected[20 * 102_400 : 50 * 102_400] = expected[: 30 * 102_400]
    assert (folder / "1M").read_bytes() == expected


def test_everything_is_the_same_after_a_remount(fresh: Daemon, tree: Path) -> None:
    run("cp", "-a", tree, fresh.path / "tree")
    expected = described(tree)
    fresh.unmount()
    fresh.start()
    # The mount of this test shows files as the mounting user's, who copied them.
    assert described(fresh.path / "tree") == expected
    run("rm", "-r", fresh.path / "tree")
    fresh.unmount()
    fresh.start()
    assert list(fresh.path.iterdir()) == []

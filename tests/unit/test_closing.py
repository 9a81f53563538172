"""Unmounting without keys: daemons that hang, have not mounted yet, or do not end."""

import mmap
import os
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from parsec_fs.cli import closing, session
from parsec_fs.cli.closing import Closed, OpenMount, close, open_mounts, unused_s, users_of
from parsec_fs.cli.exit_codes import CommandError, ExitCode
from parsec_fs.config import Home, WorkspacePaths
from parsec_fs.lockfile import held


def served(root: Path, mountpoint: str = "/nowhere") -> OpenMount:
    return OpenMount(
        title="research", mountpoint=mountpoint, pid=4711, paths=WorkspacePaths(root=root)
    )


def closed(pending: int | None, *, ended: bool = True) -> Closed:
    return Closed(mount=served(Path("/nowhere")), pending=pending, ended=ended)


def test_a_daemon_that_does_not_answer_is_not_waited_for(tmp_path: Path) -> None:
    paths = WorkspacePaths(root=tmp_path)
    assert closing._ask(paths, "status") is None
    paths.socket.parent.mkdir(parents=True, exist_ok=True)
    with socket.socket(socket.AF_UNIX) as hung:
        hung.bind(str(paths.socket))
        hung.listen()
        assert closing._ask(paths, "status", within_s=0.1) is None


def test_a_workspace_that_is_not_mounted_yet_is_named(tmp_path: Path) -> None:
    home = Home(root=tmp_path)
    paths = WorkspacePaths(root=home.workspaces / "one")
    assert open_mounts(home) == []
    with held(paths.lock, str(tmp_path / "here")):
        (found,) = open_mounts(home)
        assert (found.mountpoint, found.pid) == (str(tmp_path / "here"), os.getpid())
    with held(paths.lock):  # a command that reads its log
        assert open_mounts(home) == []


def test_what_is_not_known_is_not_called_nothing(tmp_path: Path) -> None:
    gone = close(served(tmp_path))
    assert (gone.pending, gone.ended) == (None, True)
    assert "unknown how many" in session._closed_lines([gone])[0]
    assert "at least 2 changes" in session._closed_lines([closed(2)])[0]
    for one in (gone, closed(2)):
        with pytest.raises(SystemExit) as caught:
            session._end_by([one], [])
        assert caught.value.code == ExitCode.PENDING
    session._end_by([closed(0)], [])


def test_a_process_that_still_runs_is_no_mount_and_is_named() -> None:
    left = closed(0, ended=False)
    document = session._closed_json([left, closed(1)])
    assert [one["pending"] for one in document["unmounted"]] == [1]
    assert [one["pid"] for one in document["ending"]] == [4711]
    with pytest.raises(CommandError, match="4711") as caught:
        session._end_by([left, closed(1)], [])
    assert caught.value.code is ExitCode.TIMEOUT


def test_one_mount_that_cannot_be_unmounted_does_not_keep_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # no fusermount3
    stuck, gone = served(tmp_path, "/proc"), served(tmp_path)
    done, busy = session._close_all([stuck, gone])
    assert [one.mount for one in done] == [gone]
    assert [(one, error.code) for one, error in busy] == [(stuck, ExitCode.BUSY)]


def test_who_runs_from_a_folder_uses_it_also_below_a_link(tmp_path: Path) -> None:
    (tmp_path / "real/mounted").mkdir(parents=True)
    (tmp_path / "link").symlink_to("real")
    folder = tmp_path / "link/mounted"
    shutil.copy(str(shutil.which("sleep")), folder / "sleep")
    assert users_of(str(folder)) == []
    with subprocess.Popen(["sleep", "60"], executable=folder / "sleep", cwd="/") as running:
        assert users_of(str(folder)) == [f"sleep ({running.pid})"]
        running.kill()


def test_files_that_a_process_has_mapped_are_found(tmp_path: Path) -> None:
    """Here without the descriptor that Python keeps."""
    (tmp_path / "two words").write_bytes(b"mapped")
    with (tmp_path / "two words").open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    with mapped:
        assert str(tmp_path / "two words") in closing._mapped(Path("/proc/self"))
    assert str(tmp_path / "two words") not in closing._mapped(Path("/proc/self"))


def test_only_a_session_that_ended_closes_what_does_not_say_if_it_is_used(tmp_path: Path) -> None:
    silent = served(tmp_path)
    assert unused_s(silent) is None
    assert session._unused([silent], 60)[0] == []
    assert "does not answer" in session._unused([silent], 60)[1][0]
    assert session._unused([silent], 0) == ([silent], [])

"""Small parts of the command line: common options, tables, mountpoints, locks, the ready pipe."""

import io
import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from parsec_fs.cli.background import Reporter, start_daemon
from parsec_fs.cli.exit_codes import CommandError, ExitCode
from parsec_fs.cli.hints import NO_KIT
from parsec_fs.cli.mounting import at_once
from parsec_fs.cli.mountpoint import check_allow_other, is_dead, mount_type, prepare
from parsec_fs.cli.output import Output, size_text, table
from parsec_fs.cli.settings import Settings, check_free
from parsec_fs.cli.status import _lines as lines_of
from parsec_fs.cli.unlocking import Unlocking
from parsec_fs.cli.words import hoist
from parsec_fs.config import Home, home_of
from parsec_fs.lockfile import LockedError, held, holder, last_mountpoint
from parsec_fs.protocol.errors import InputError


@pytest.mark.parametrize(
    ("typed", "parsed"),
    [
        (["status", "--json"], ["--json", "status"]),
        (["status", "--home", "/h", "-v"], ["--home", "/h", "-v", "status"]),
        (["status", "--home=/h"], ["--home=/h", "status"]),
        (["log", "--", "--json"], ["log", "--", "--json"]),
        (["log", "--home"], ["log", "--home"]),
        ([], []),
    ],
)
def test_common_options_stand_anywhere(typed: list[str], parsed: list[str]) -> None:
    assert hoist(typed) == parsed


@pytest.mark.parametrize(
    ("given", "environment", "chosen"),
    [
        (Path("/given"), {"PARSEC_FS_HOME": "/e"}, "/given"),
        (Path("here"), {}, "/work/here"),
        (None, {"PARSEC_FS_HOME": "/e", "HOME": "/root"}, "/e"),
        (None, {"XDG_DATA_HOME": "/x", "HOME": "/root"}, "/x/parsec-fs"),
        (None, {"HOME": "/root"}, "/root/.local/share/parsec-fs"),
    ],
)
def test_home(given: Path | None, environment: dict[str, str], chosen: str) -> None:
    home = home_of(given, environment, working_directory=Path("/work"))
    assert home.root == Path(chosen)


def test_no_home() -> None:
    with pytest.raises(InputError, match="--home"):
        home_of(None, {}, working_directory=Path("/"))


def test_table_aligns() -> None:
    assert table(["A", "LONG"], [["value", "x"], ["v", ""]]) == ["A      LONG", "value  x", "v"]


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (50 << 30, "50 GiB")]
)
def test_sizes(size: int, text: str) -> None:
    assert size_text(size) == text


def test_json_is_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    output = Output(json=True)
    output.progress("working")
    output.note("by the way")
    output.result({"a": 1}, ["for people"])
    shown = capsys.readouterr()
    assert json.loads(shown.out) == {"a": 1}
    assert shown.err == ""


def test_errors_are_json_as_well(capsys: pytest.CaptureFixture[str]) -> None:
    Output(json=True).error("no", ExitCode.BUSY)
    assert json.loads(capsys.readouterr().out) == {"error": "no", "exit": 11}


def test_progress_on_a_terminal_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    output = Output()
    output.progress("1 of 2")
    output.clear()
    assert terminal.getvalue().endswith("\r\x1b[K")


def test_mountpoint_must_be_empty(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CommandError) as caught:
        prepare(tmp_path)
    assert caught.value.code == ExitCode.NOT_EMPTY
    assert prepare(tmp_path / "new/folder").is_dir()


def test_mountpoint_in_use_is_busy() -> None:
    with pytest.raises(CommandError) as caught:
        prepare(Path("/proc"))
    assert caught.value.code == ExitCode.BUSY


def test_a_mount_is_found_below_a_link(tmp_path: Path) -> None:
    (tmp_path / "root").symlink_to("/")
    assert mount_type(tmp_path / "root/proc") == "proc"
    (tmp_path / "last").symlink_to("/proc")
    assert mount_type(tmp_path / "last") is None
    with pytest.raises(CommandError, match="/proc is a mountpoint already"):
        prepare(tmp_path / "last")


def test_a_link_is_followed_before_its_folder_is_mounted_on(tmp_path: Path) -> None:
    (tmp_path / "last").symlink_to(tmp_path / "folder")
    assert prepare(tmp_path / "last") == tmp_path / "folder"


def test_letting_others_in_is_for_root_to_allow(tmp_path: Path) -> None:
    settings = tmp_path / "fuse.conf"
    check_allow_other(is_root=True, settings=settings)
    with pytest.raises(CommandError, match="which root can add"):
        check_allow_other(is_root=False, settings=settings)
    settings.write_text("# user_allow_other\n")
    with pytest.raises(CommandError) as caught:
        check_allow_other(is_root=False, settings=settings)
    assert caught.value.code is ExitCode.NOT_ALLOWED
    settings.write_text("mount_max = 100\n user_allow_other \n")
    check_allow_other(is_root=False, settings=settings)


def test_mount_table() -> None:
    assert mount_type(Path("/proc")) == "proc"
    assert mount_type(Path("/proc/self")) is None
    assert not is_dead(Path("/"))


def test_lock_names_its_holder(tmp_path: Path) -> None:
    path = tmp_path / "folder/lock"
    assert holder(path) is None
    with held(path, "/mnt/a"):
        found = holder(path)
        assert found is not None
        assert (found.pid, found.mountpoint) == (os.getpid(), "/mnt/a")
        with pytest.raises(LockedError, match="/mnt/a"), held(path, "/mnt/b"):
            raise AssertionError("locked twice")
    assert holder(path) is None
    assert last_mountpoint(path) == "/mnt/a"


def run_child(monkeypatch: pytest.MonkeyPatch, folder: Path, code: str) -> dict[str, object]:
    """`start_daemon` with a child that runs `code`; `fd` is its end of the pipe."""
    script = folder / "child.py"
    head = "import sys\nfrom parsec_fs.cli.background import Reporter\nfd = int(sys.argv[-1])\n"
    script.write_text(f"{head}r = Reporter(fd)\n{code}")
    program = folder / "python"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} {script} "$@"\n')
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    return start_daemon([], folder / "log", lambda text: None)


def test_ready_daemon(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ready = run_child(monkeypatch, tmp_path, "r.progress('half')\nr.ready({'pid': 1})\n")
    assert ready == {"pid": 1}


def test_daemon_that_fails_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="no luck") as caught:
        run_child(monkeypatch, tmp_path, "r.error('no luck', 11)\n")
    assert caught.value.code == ExitCode.BUSY


def test_daemon_that_dies_shows_its_log(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="out of cheese"):
        run_child(monkeypatch, tmp_path, "sys.exit('out of cheese')\n")


def test_reporter_without_a_pipe_is_silent() -> None:
    Reporter(None).progress("nobody hears")


def test_keys_of_an_invitation_keep_their_place(tmp_path: Path) -> None:
    """The organization may hold them already: no other way to a device takes them away."""
    output = Output()
    home = Home(root=tmp_path)
    unlocking = Unlocking(home=home, output=output, environment={})
    settings = Settings(home=home, output=output, unlocking=unlocking)
    check_free(settings)
    kept = settings.device_file().joining_path
    kept.parent.mkdir(parents=True)
    kept.touch()
    with pytest.raises(CommandError, match="an invitation is being accepted") as caught:
        check_free(settings)
    assert caught.value.code == ExitCode.BUSY
    assert kept.exists()


def test_several_at_once_and_each_for_itself() -> None:
    """Both have begun before either ends; what they give stays in order."""
    both = threading.Barrier(2, timeout=30)

    def work(name: str) -> str:
        both.wait()
        return name.upper()

    assert at_once(2, work, ["a", "b"]) == ["A", "B"]
    assert at_once(1, str.upper, ["a", "b"]) == ["A", "B"]


def test_what_has_not_begun_does_not_after_a_failure() -> None:
    begun, first = [], threading.Event()

    def work(name: str) -> str:
        begun.append(name)
        if name == "bad":
            raise InputError(name)
        first.wait(30)
        return name

    with pytest.raises(InputError):
        at_once(1, work, ["bad", "never"])
    assert begun == ["bad"]


def shown(**changes: Any) -> dict[str, Any]:
    state = {"word": "pending", "notes": ["this device was revoked"], "epochs": 0, "frozen": False}
    amounts = {"local": 1, "logged": 1, "anchored": 1, "audited": 1, "pending_bytes": 0}
    document = {"name": "research", "state": state, "changes": amounts, "mountpoint": "/mnt"}
    return {**document, "recovery": [], "revoked": False, **changes}


def test_a_revoked_device_is_called_so_and_asked_for_no_kit() -> None:
    revoked, other = shown(revoked=True), shown(name="other")
    (_, row, *rest) = lines_of([revoked])
    assert row.split()[:2] == ["research", "revoked"]
    assert NO_KIT not in rest
    assert lines_of([revoked, other])[-1] == NO_KIT
    assert lines_of([other])[1].split()[:2] == ["other", "pending"]
    frozen = {**revoked["state"], "word": "convicted", "frozen": True}
    assert lines_of([shown(revoked=True, state=frozen)])[1].split()[:2] == ["research", "convicted"]


@pytest.mark.parametrize(("count", "said"), [(1, "1 conflict;"), (2, "2 conflicts;")])
def test_status_says_that_there_are_conflicts(count: int, said: str) -> None:
    assert f"! research: {said} see: parsec-fs conflicts" in lines_of([shown(conflicts=count)])
    for nothing in (0, None):
        assert not any("conflict" in line for line in lines_of([shown(conflicts=nothing)]))

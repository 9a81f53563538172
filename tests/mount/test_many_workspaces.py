"""Several workspaces at once: all mounted by one command, or by services at every login.

Data flow: command line -> daemons, one per workspace -> mounts -> command line.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from parsec_fs.cli.mountpoint import mount_type
from tests.support import service_manager
from tests.support.installation import (
    DeviceAt,
    Installation,
    installation,
    lazy_unmount,
    until,
)
from tests.support.user_manager import UserManager, user_manager

STRANGE = 'we"ird $HOME %n \\ name'


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    with installation(tmp_path_factory.mktemp("installation")) as running:
        running.alice.run("workspace", "create", STRANGE)
        yield running


@pytest.fixture
def alice(installed: Installation) -> Iterator[DeviceAt]:
    """Nothing is mounted afterwards."""
    yield installed.alice
    for one in installed.alice.run("status")["workspaces"]:
        lazy_unmount(Path(one["mountpoint"]))


def test_all_workspaces_are_mounted_and_unmounted(alice: DeviceAt, tmp_path: Path) -> None:
    parent = tmp_path / "all"
    alice.run("mount", "--all", str(parent))
    assert sorted(path.name for path in parent.iterdir()) == ["research", STRANGE]
    assert all(os.path.ismount(path) for path in parent.iterdir())
    (parent / "research/one").write_text("one")
    (parent / STRANGE / "two").write_text("two")

    code, said = alice.error("mount", "--all", str(parent))
    assert code == 10
    assert "mounted already" in said

    ended = alice.run("umount", "--all")
    assert [one["pending"] for one in ended["workspaces"]] == [0, 0]
    assert alice.run("status")["workspaces"] == []


def test_what_cannot_be_mounted_does_not_keep_the_others(alice: DeviceAt, tmp_path: Path) -> None:
    (tmp_path / "research").mkdir()
    (tmp_path / "research/in the way").touch()
    done = alice.run("mount", "--all", str(tmp_path), code=3)
    failed = [one for one in done["workspaces"] if "error" in one]
    assert [(one["workspace"], one["exit"]) for one in failed] == [("research", 41)]
    assert os.path.ismount(tmp_path / STRANGE)
    assert alice.run("umount", "--all")["pending"] == 0


def test_a_daemon_that_is_killed_takes_no_other_workspace_away(
    alice: DeviceAt, tmp_path: Path
) -> None:
    alice.run("mount", "--all", str(tmp_path))
    (tmp_path / STRANGE / "goes on").write_text("here")
    os.kill(json.loads((tmp_path / "research/.status.json").read_text())["pid"], signal.SIGKILL)
    until(lambda: _mounted(alice) == [STRANGE])
    assert (tmp_path / STRANGE / "goes on").read_text() == "here"

    lazy_unmount(tmp_path / "research")
    alice.run("mount", "--all", str(tmp_path))
    assert os.path.ismount(tmp_path / "research")
    ended = alice.run("umount", "--all")["workspaces"]
    assert [one["pending"] for one in ended] == [0, 0]


def _mounted(device: DeviceAt) -> list[str]:
    return [Path(one["mountpoint"]).name for one in device.run("status")["workspaces"]]


def test_a_service_mounts_at_login_and_unmounts_when_it_ends(
    alice: DeviceAt, tmp_path: Path
) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    systemctl = programs / "systemctl"
    systemctl.write_text(f"#!{sys.executable}\n{Path(service_manager.__file__).read_text()}")
    systemctl.chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{programs}:{os.environ['PATH']}",
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
    }
    folder = tmp_path / "100% $HOME"
    command = alice.command("mount", STRANGE, str(folder), "--service")
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=90)
    assert done.returncode == 0, done.stdout + done.stderr
    unit = Path(json.loads(done.stdout)["unit"])
    assert (programs / "asked").read_text().splitlines() == [
        "--user daemon-reload",
        f"--user enable {unit.name}",
        f"--user restart {unit.name}",
    ]
    assert os.path.ismount(folder)
    (folder / "saved").write_text("before the end\n")

    stop = [str(systemctl), "--user", "stop", unit.name]
    subprocess.run(stop, env=environment, check=True, timeout=90)
    assert not os.path.ismount(folder)
    assert alice.run("status")["workspaces"] == []


def test_a_lock_says_what_stays_open_and_takes_it_away_when_asked(
    alice: DeviceAt, tmp_path: Path
) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    folder = tmp_path / "link/research"
    alice.run("mount", "research", str(folder))
    (folder / "kept").write_text("kept")
    shown = [{"workspace": "research", "mountpoint": str(folder)}]
    assert alice.run("lock")["mounted"] == shown

    with (folder / "kept").open() as used:
        code, said = alice.error("lock", "--umount")
        assert used.read() == "kept"
    assert code == 11
    assert f"({os.getpid()})" in said
    assert os.path.ismount(folder)

    assert alice.run("lock", "--umount")["mounted"] == []
    assert not os.path.ismount(folder)
    assert alice.run("lock", "--umount")["unmounted"] == []
    alice.run("mount", "research", str(folder))
    assert (folder / "kept").read_text() == "kept"


def test_a_device_that_locks_itself_takes_its_mounts_away(alice: DeviceAt, tmp_path: Path) -> None:
    folder, passphrase = tmp_path / "research", "correct horse battery"
    alice.run("device", "passphrase", "set", "--password-stdin", stdin=passphrase)
    try:
        alice.run("mount", "research", str(folder), "--password-stdin", stdin=passphrase)
        unlock = ("unlock", "--idle", "1s", "--umount", "--password-stdin")
        with (folder / "used").open("w") as used:
            assert alice.run(*unlock, stdin=passphrase)["umount"] is True
            until(lambda: "used by" in agent_log(alice), timeout_s=60)
            assert os.path.ismount(folder)
            used.write("to the end")
        until(lambda: mount_type(folder) is None, timeout_s=60)
        assert alice.error("mount", "research", str(folder))[0] == 12
    finally:
        alice.run("device", "passphrase", "remove", "--password-stdin", stdin=passphrase)
    alice.run("mount", "research", str(folder))
    assert (folder / "used").read_text() == "to the end"


def agent_log(device: DeviceAt) -> str:
    return (device.home / "device/agent.log").read_text()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[UserManager]:
    with user_manager(tmp_path) as running:
        yield running


def test_systemd_mounts_mounts_again_after_a_kill_and_unmounts_with_nothing_lost(
    alice: DeviceAt, manager: UserManager, tmp_path: Path
) -> None:
    folder = tmp_path / "100% $HOME"
    said = manager.run(*alice.command("mount", "research", str(folder), "--service"))
    unit = Path(json.loads(said)["unit"]).name
    assert manager.run("systemctl", "--user", "is-enabled", unit).strip() == "enabled"
    assert manager.show(unit, "ActiveState") == "active"
    _save(manager, folder / "before", "before the kill")

    manager.run("systemctl", "--user", "kill", "--signal=KILL", unit)
    until(lambda: manager.show(unit, "NRestarts") == "1" or None, timeout_s=60)
    until(lambda: manager.show(unit, "ActiveState") == "active" or None, timeout_s=60)
    assert manager.run("cat", str(folder / "before")) == "before the kill"
    _save(manager, folder / "after", "after it")

    manager.run("systemctl", "--user", "stop", unit)
    assert manager.show(unit, "ActiveState") == "inactive"
    assert manager.show(unit, "Result") == "success"
    manager.run("mountpoint", "-q", str(folder), code=32)
    assert alice.run("status")["workspaces"] == []

    manager.run("systemctl", "--user", "start", unit)
    assert manager.run("cat", str(folder / "after")) == "after it"
    manager.run("systemctl", "--user", "disable", "--now", unit)
    assert manager.show(unit, "ActiveState") == "inactive"
    manager.run("systemctl", "--user", "is-enabled", unit, code=1)


def _save(manager: UserManager, path: Path, text: str) -> None:
    manager.run("sh", "-ec", 'printf %s "$2" > "$1"; sync "$1"', "sh", str(path), text)

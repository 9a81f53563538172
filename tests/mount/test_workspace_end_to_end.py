"""Everything real: chain, server, daemons, mounts, two devices, driven by the command line."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.installation import (
    DeviceAt,
    Installation,
    installation,
    lazy_unmount,
    tree_of,
    until,
)
from tests.support.pairs import hears, link_of, said

WORKSPACE = "research"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    with installation(tmp_path_factory.mktemp("installation")) as running:
        yield running


@pytest.fixture
def alice(installed: Installation) -> DeviceAt:
    return installed.alice


@pytest.fixture
def mounted(installed: Installation, alice: DeviceAt) -> Iterator[Path]:
    """Alice's mount, gone afterwards."""
    folder = installed.root / "mnt-alice"
    alice.run("mount", WORKSPACE, str(folder))
    yield folder
    if alice.run("status")["workspaces"]:
        alice.run("umount", WORKSPACE)
    lazy_unmount(folder)


def fill(folder: Path) -> None:
    """Files of every kind and size class."""
    folder.mkdir()
    (folder / "small.txt").write_text("hello\n")
    (folder / "empty").touch()
    (folder / "large.bin").write_bytes(os.urandom(3_500_000))
    (folder / "deep/er/est").mkdir(parents=True)
    (folder / "deep/er/est/file").write_bytes(os.urandom(20_000))
    (folder / "link").symlink_to("small.txt")
    (folder / "tool").write_text("#!/bin/sh\n")
    (folder / "tool").chmod(0o755)
    (folder / "N\u00e4me mit Leerzeichen \N{SNOWMAN}").write_text("x")


def state_of(path: Path) -> str:
    return os.getxattr(path, "user.parsec.state", follow_symlinks=False).decode()


def test_files_are_audited_and_a_second_device_has_the_identical_tree(
    installed: Installation, alice: DeviceAt, mounted: Path
) -> None:
    fill(mounted / "first")
    waited = alice.run("wait", "--audited", "--timeout", "60")
    assert waited["local"] == 0
    assert state_of(mounted / "first/large.bin") == "audited"
    assert state_of(mounted / "first/deep/er/est/file") == "audited"

    bob = alice.add_device(installed.root / "desktop", "desktop")
    assert [one["name"] for one in bob.run("workspace", "list")["workspaces"]] == [WORKSPACE]
    other = installed.root / "mnt-desktop"
    bob.run("mount", WORKSPACE, str(other))
    assert tree_of(other) == tree_of(mounted)

    (other / "from-desktop").write_text("and back\n")
    until(lambda: (mounted / "from-desktop").exists())
    assert (mounted / "from-desktop").read_text() == "and back\n"
    versions = alice.run("log", str(mounted / "from-desktop"))["versions"]
    assert [(one["version"], one["by"]) for one in versions] == [(1, "alice (desktop)")]

    report = bob.run("verify")
    assert report["verified"]
    assert report["qualifiers"] == ["self-anchored"]
    assert bob.run("umount")["pending"] == 0


def test_device_with_another_code_is_not_added(
    installed: Installation, alice: DeviceAt, tmp_path: Path
) -> None:
    """Somebody else answered first: the screen of one's own device shows another code, or none."""
    before = alice.run("device", "list")
    with (
        alice.started("device", "add") as adding,
        DeviceAt(tmp_path / "mallory").started("device", "join") as joining,
    ):
        hears(joining, link_of(adding))
        assert len(said(joining)) == 4
        output, errors = adding.communicate("XXXX\n", timeout=30)
        told, _ = joining.communicate(timeout=30)
    assert (adding.returncode, joining.returncode) == (2, 2)
    assert "Nobody was added" in output + errors
    assert "did not recognize your code" in told
    assert alice.run("device", "list") == before


def test_status_says_what_waits(alice: DeviceAt, mounted: Path) -> None:
    (mounted / "new").write_text("x")
    document = alice.run("status", "--files")["workspaces"][0]
    assert document["name"] == WORKSPACE
    assert document["mountpoint"] == str(mounted)
    alice.run("wait", "--audited", "--timeout", "60")
    after = alice.run("status", "--files")["workspaces"][0]
    assert after["changes"]["local"] == 0
    assert after["files"] == []
    assert b"research" in (mounted / ".status").read_bytes()


def test_killed_daemon_loses_nothing_and_its_dead_mount_is_replaced(
    alice: DeviceAt, mounted: Path
) -> None:
    (mounted / "kept").write_text("after the kill")
    descriptor = os.open(mounted / "kept", os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)
    pid = alice.run("status")["workspaces"][0]["pid"]
    os.kill(pid, signal.SIGKILL)
    until(lambda: alice.run("status")["workspaces"] == [])
    with pytest.raises(OSError, match="not connected"):
        os.statvfs(mounted)
    alice.run("mount", WORKSPACE, str(mounted))
    assert (mounted / "kept").read_text() == "after the kill"


def test_busy_folder_stays_mounted(alice: DeviceAt, mounted: Path) -> None:
    with (mounted / "open").open("w") as file:
        file.write("x")
        code, message = alice.error("umount")
        assert code == 11
        assert "stays mounted" in message
        assert (mounted / "open").exists()
    assert alice.run("umount")["unmounted"]
    assert not (mounted / "open").exists()


def test_sigterm_unmounts_and_sigusr1_shows_stacks(alice: DeviceAt, mounted: Path) -> None:
    pid = alice.run("status")["workspaces"][0]["pid"]
    os.kill(pid, signal.SIGUSR1)
    until(lambda: "event=stacks" in alice.daemon_log())
    os.kill(pid, signal.SIGTERM)
    until(lambda: alice.run("status")["workspaces"] == [])
    assert not os.path.ismount(mounted)
    assert "event=ended" in alice.daemon_log()


def test_changes_made_offline_are_kept_and_sent_later(
    installed: Installation, alice: DeviceAt, mounted: Path
) -> None:
    installed.services.stop(lambda text: None)
    (mounted / "offline").write_text("no server")
    assert (mounted / "offline").read_text() == "no server"
    code, _ = alice.error("wait", "--logged", "--timeout", "1")
    assert code == 21
    assert alice.run("umount", "--no-wait", code=4)["pending"] > 0
    alice.run("mount", WORKSPACE, str(mounted))
    assert (mounted / "offline").read_text() == "no server"
    assert state_of(mounted / "offline") == "local"
    installed.services.start(lambda text: None)
    alice.run("wait", "--audited", "--timeout", "60")
    assert state_of(mounted / "offline") == "audited"


def test_refusals_name_their_reason(alice: DeviceAt, mounted: Path, tmp_path: Path) -> None:
    assert alice.error("mount", WORKSPACE, str(tmp_path / "x"))[0] == 11
    assert alice.error("mount", "nothing", str(tmp_path / "x"))[0] == 10
    assert alice.error("workspace", "create", WORKSPACE)[0] == 11
    assert alice.error("log", str(tmp_path))[0] == 10
    assert alice.error("org", "create", "b", "--server", "http://x", "--chain", "http://x")[0] == 11
    assert DeviceAt(tmp_path / "fresh").error("status")[0] == 12
    assert DeviceAt(tmp_path / "fresh").error("device", "join", stdin="http://x/join#A\n")[0] == 2
    alice.run("umount")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").touch()
    assert alice.error("mount", WORKSPACE, str(tmp_path / "full"))[0] == 41


def test_proof_is_checked_offline_against_ones_own_anchor(
    installed: Installation, alice: DeviceAt, mounted: Path, tmp_path: Path
) -> None:
    (mounted / "contract").write_text("signed")
    alice.run("wait", "--audited", "--timeout", "60")
    proof, anchor = tmp_path / "proof", tmp_path / "anchor"
    alice.run("org", "anchor", str(anchor))
    alice.run("proof", str(mounted / "contract"), "--output", str(proof))
    checked = DeviceAt(tmp_path / "nobody").run(
        "proof", "--check", str(proof), "--anchor", str(anchor)
    )
    assert checked["proven"]
    assert (checked["label"], checked["version"]) == ("contract", 1)

    damaged = bytearray(proof.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    proof.write_bytes(damaged)
    code, _ = alice.error("proof", "--check", str(proof), "--anchor", str(anchor))
    assert code in (1, 30)


def test_daemon_starts_from_any_folder_and_leaves_no_child(alice: DeviceAt, mounted: Path) -> None:
    document = alice.run("status")["workspaces"][0]
    assert os.readlink(f"/proc/{document['pid']}/cwd") == "/"
    listed = subprocess.run(
        ["ps", "--ppid", str(document["pid"]), "-o", "pid="], capture_output=True, text=True
    )
    assert listed.stdout.strip() == ""


def test_fsync_logged_returns_when_the_server_has_it(
    installed: Installation, alice: DeviceAt
) -> None:
    folder = installed.root / "mnt-fsync"
    alice.run("mount", WORKSPACE, str(folder), "--fsync", "logged")
    try:
        with (folder / "durable").open("w") as file:
            file.write("x")
            file.flush()
            os.fsync(file.fileno())
            assert state_of(folder / "durable") in ("logged", "audited")
    finally:
        alice.run("umount")


def test_strict_open_shows_what_was_logged_before(installed: Installation, alice: DeviceAt) -> None:
    folder, other = installed.root / "mnt-strict", installed.root / "mnt-writer"
    writer = alice.add_device(installed.root / "writer", "writer")
    writer.run("mount", WORKSPACE, str(other))
    alice.run("mount", WORKSPACE, str(folder), "--consistency", "strict")
    try:
        (other / "ledger").write_text("version 0")
        writer.run("wait", "--logged")
        until(lambda: (folder / "ledger").exists())
        for number in range(1, 4):
            (other / "ledger").write_text(f"version {number}")
            writer.run("wait", "--logged")
            assert (folder / "ledger").read_text() == f"version {number}"
        installed.services.stop(lambda text: None)
        with pytest.raises(OSError, match=r"unreachable|No route|Host"):
            (folder / "ledger").read_text()
    finally:
        installed.services.start(lambda text: None)
        alice.run("umount", WORKSPACE)
        writer.run("umount", WORKSPACE)

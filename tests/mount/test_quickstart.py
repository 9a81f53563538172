"""scripts/quickstart: start, resume, stop, and every way in which a start can fail."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.chain import require_cometbft
from tests.support.installation import SCRIPTS, Refused, Services, lazy_unmount, until

TIMEOUT_S = 120


class Quickstart:
    """The script with a state folder of its own."""

    def __init__(self, root: Path) -> None:
        self.home = root / "home"
        self.folder = root / "mnt"

    def command(self, *arguments: str) -> list[str]:
        script = str(SCRIPTS / "quickstart.py")
        return [sys.executable, script, "--home", str(self.home), "--json", *arguments]

    def run(self, *arguments: str) -> dict[str, object]:
        """Its document. Raises Refused."""
        done = subprocess.run(
            self.command(*arguments), capture_output=True, text=True, timeout=TIMEOUT_S
        )
        if done.returncode:
            raise Refused(done.returncode, done.stderr)
        document: dict[str, object] = json.loads(done.stdout)
        return document

    def up(self) -> dict[str, object]:
        return self.run(str(self.folder))

    def processes(self) -> list[int]:
        """Everything that runs for this state folder."""
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                command = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if os.fsencode(self.home) in command and int(entry.name) != os.getpid():
                found.append(int(entry.name))
        return found


@pytest.fixture
def quickstart(tmp_path: Path) -> Iterator[Quickstart]:
    require_cometbft()
    quickstart = Quickstart(tmp_path)
    yield quickstart
    subprocess.run(quickstart.command("--stop"), capture_output=True, timeout=TIMEOUT_S)
    lazy_unmount(quickstart.folder)
    for pid in quickstart.processes():
        os.kill(pid, signal.SIGKILL)


def test_start_stop_resume(quickstart: Quickstart) -> None:
    first = quickstart.up()
    assert first["folder"] == str(quickstart.folder)
    (quickstart.folder / "kept").write_text("x")
    assert quickstart.up()["pid"] == first["pid"]  # again: nothing to do

    assert quickstart.run("--stop") == {"stopped": True}
    assert quickstart.processes() == []
    assert not os.path.ismount(quickstart.folder)
    status = quickstart.run("--status")
    assert (status["installed"], status["servers"]) == (True, False)
    assert quickstart.run("--stop") == {"stopped": False}

    again = quickstart.run()  # the folder is remembered, and so are the ports
    assert (again["folder"], again["server"]) == (first["folder"], first["server"])
    assert (quickstart.folder / "kept").read_text() == "x"


def test_killed_start_is_resumed(quickstart: Quickstart) -> None:
    with subprocess.Popen(
        quickstart.command(str(quickstart.folder)), stdout=subprocess.DEVNULL
    ) as process:
        until(lambda: (quickstart.home / "services/supervisor.lock").exists())
        process.kill()
    assert quickstart.up()["folder"] == str(quickstart.folder)


def test_interrupted_start_leaves_nothing(quickstart: Quickstart) -> None:
    with subprocess.Popen(
        quickstart.command(str(quickstart.folder)), stdout=subprocess.DEVNULL
    ) as process:
        until(lambda: (quickstart.home / "services/supervisor.lock").exists())
        process.terminate()
        assert process.wait(TIMEOUT_S) == 130
    assert quickstart.processes() == []
    assert not quickstart.home.exists()


def test_half_made_services_are_made_anew(quickstart: Quickstart) -> None:
    (quickstart.home / "services/server").mkdir(parents=True)
    (quickstart.home / "services/server/head.key").write_bytes(b"half")
    assert quickstart.up()["folder"] == str(quickstart.folder)


def test_taken_port_is_named(quickstart: Quickstart) -> None:
    services = Services(quickstart.home / "services")
    services.create(validators=1)
    port = services.addresses().server_port
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", port))
        other.listen()
        with pytest.raises(Refused, match=f"port {port}.*taken"):
            quickstart.up()
    assert quickstart.processes() == []


def test_folder_that_is_not_empty_starts_nothing(quickstart: Quickstart) -> None:
    quickstart.folder.mkdir()
    (quickstart.folder / "mine").touch()
    with pytest.raises(Refused, match="not empty") as caught:
        quickstart.up()
    assert caught.value.code == 41
    assert quickstart.processes() == []
    assert not quickstart.home.exists()


def test_home_of_another_device_is_left_alone(quickstart: Quickstart) -> None:
    device = quickstart.home / "device"
    device.mkdir(parents=True)
    (device / "device.dat").write_bytes(b"of somebody")
    with pytest.raises(Refused, match="another server"):
        quickstart.up()
    assert (device / "device.dat").read_bytes() == b"of somebody"

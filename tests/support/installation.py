"""A whole installation on this machine: server, chain, devices, mounts, through the command line.

Data flow: scripts/services.py (servers) + parsec-fs (devices) -> tests -> everything gone again.
"""

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from abci_app.devnet import TEST_TIMING
from tests.support.chain import require_cometbft
from tests.support.pairs import exchange

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ROOT / "scripts"
if str(SCRIPTS) not in sys.path:
    sys.path.append(str(SCRIPTS))

from services import Services as Services  # noqa: E402

Json = dict[str, Any]
T = TypeVar("T")
EPOCH_MS = 1_000
COMMAND_TIMEOUT_S = 90


class Refused(AssertionError):
    """A command failed; `code` is its exit code."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"exit code {code}: {message}")
        self.code = code


class DeviceAt:
    """A device with its state folder, used as a person does: by commands."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def command(self, *arguments: str) -> list[str]:
        """Command line that prints JSON."""
        return [sys.executable, "-Pm", "parsec_fs", "--json", "--home", str(self.home), *arguments]

    def run(self, *arguments: str, stdin: str = "", code: int = 0) -> Json:
        """A command's document. Raises Refused for another exit code than `code`."""
        done = subprocess.run(
            self.command(*arguments),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT_S,
        )
        if done.returncode != code:
            raise Refused(done.returncode, done.stdout + done.stderr)
        document: Json = json.loads(done.stdout)
        return document

    def error(self, *arguments: str, stdin: str = "") -> tuple[int, str]:
        """Exit code and message of a command that fails."""
        try:
            document = self.run(*arguments, stdin=stdin)
        except Refused as refused:
            return refused.code, str(refused)
        raise AssertionError(f"did not fail: {document}")

    def daemon_log(self) -> str:
        """What the daemons of this device wrote."""
        logs = self.home.glob("device/workspaces/*/logs/daemon.log")
        return "\n".join(path.read_text(errors="replace") for path in logs)

    def add_device(self, home: Path, name: str) -> "DeviceAt":
        """A second device of the same user, by a link and two codes."""
        device = DeviceAt(home)
        with (
            self.started("device", "add") as adding,
            device.started("device", "join", "--name", name) as joining,
        ):
            exchange(adding, joining, timeout_s=COMMAND_TIMEOUT_S)
        return device

    @contextlib.contextmanager
    def started(self, *arguments: str) -> Iterator[Any]:
        """A command under way, with its three pipes; gone at the end."""
        pipe = subprocess.PIPE
        command = self.command(*arguments)
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
            try:
                yield process
            finally:
                process.kill()


class Installation:
    """Running servers, and a founded organization on the device `alice`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.services = Services(root / "services")
        self.alice = DeviceAt(root / "alice")

    def start(self) -> None:
        """Servers up."""
        require_cometbft()
        if not self.services.exist():
            self.services.create(validators=1, epoch_ms=EPOCH_MS, timing=TEST_TIMING)
        self.services.start(lambda text: None)

    def found(self) -> None:
        """An organization with a workspace named `research`."""
        addresses = self.services.addresses()
        token = self.services.draw_token()
        self.alice.run(
            *("org", "create", "acme", "--user", "alice", "--device", "laptop"),
            *("--server", addresses.server_url, "--chain", addresses.rpc_urls[0]),
            *("--genesis", str(self.services.genesis), "--token-file", str(token)),
        )
        self.alice.run("workspace", "create", "research")

    def stop(self) -> None:
        """Every mount and every server gone, whatever happened."""
        for folder in self.root.glob("mnt*"):
            lazy_unmount(folder)
        self.services.stop(lambda text: None)


@contextlib.contextmanager
def installation(root: Path) -> Iterator[Installation]:
    """A founded installation, taken down at the end."""
    installed = Installation(root)
    try:
        installed.start()
        installed.found()
        yield installed
    finally:
        installed.stop()


def lazy_unmount(folder: Path) -> None:
    """Also of a dead mount; not being mounted is fine."""
    subprocess.run(["fusermount3", "-uz", str(folder)], capture_output=True, timeout=30)


def until(probe: Callable[[], T | None], *, timeout_s: float = 30) -> T:
    """First result that is neither None nor False, as `waiting.eventually` for plain programs."""
    deadline = time.monotonic() + timeout_s
    while True:
        result = probe()
        if result is not None and result is not False:
            return result
        assert time.monotonic() < deadline, f"nothing after {timeout_s} s"
        time.sleep(0.05)


def tree_of(folder: Path) -> dict[str, tuple[Any, ...]]:
    """Everything below a folder that a person would compare: kind, mode, content or target."""
    found: dict[str, tuple[Any, ...]] = {}
    for path in sorted(folder.rglob("*")):
        stat = path.lstat()
        name = str(path.relative_to(folder))
        content: Any = None
        if path.is_symlink():
            content = path.readlink()
        elif path.is_file():
            content = path.read_bytes()
        found[name] = (oct(stat.st_mode), stat.st_mtime_ns, content)
    return found

"""Devices of `scripts/bench_scale`: one that knows very many files, and a second one that joins.

Data flow: bench_scale -> Known (installation, filled in bulk) -> rows; SecondDevice -> its mount.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from compileall import compile_dir
from pathlib import Path
from types import TracebackType

from bench_product import Product, Quiet, uninterrupted
from quickstart import WORKSPACE, Json, parsec_fs
from services import Services

from parsec_fs.config import Home
from tests.support.pairs import exchange

ROOT = Path(__file__).resolve().parent.parent
FILL = ROOT / "scripts" / "bench_fill.py"
AUDIT = ROOT / "scripts" / "bench_audit.py"
COMMIT = "path=/v1/realm/commit"
PUTS = ("method=PUT path=/v1/blocks/", "path=/v1/blocks/put")
TICKS = os.sysconf("SC_CLK_TCK")


class Known(Product):
    """The product with a workspace of `known` files made in bulk below `known/`. `keep`: what was
    made lasts beyond `stop`, and is what the next `start` begins with."""

    def __init__(self, backing: Path, *, keep: bool = False) -> None:
        super().__init__(backing, server_options=("--log-requests",))
        self._keep = keep
        self._count = backing / "known.json"
        self.known = json.loads(self._count.read_text()) if self._count.exists() else 0
        self._mounted = True
        self.start_cpu = (0.0, 0.0)

    def start(self) -> Path:
        """As a new product, or as the kept one was left, with the server's request log."""
        compile_dir(str(ROOT / "parsec_fs"), quiet=1)  # as every installation is after one start
        if not self.backing.exists():
            return super().start()
        self.resume()
        return self.mountpoint

    def stop(self) -> None:
        """Everything gone, or all but what is kept."""
        if not self._keep:
            super().stop()
            return
        with uninterrupted():
            subprocess.run(
                ["fusermount3", "-uz", str(self.mountpoint)], capture_output=True, check=False
            )
            self.end()

    @property
    def home(self) -> Home:
        """State of the first device and of the servers."""
        return self._home

    def fill(self, count: int) -> None:
        """Unmount, and let the device know so many files in all."""
        if count <= self.known:
            return
        self.unmount()
        more = str(count - self.known)
        folder = "known" if not self.known else f"known-{self.known}"
        start = time.monotonic()
        command = [sys.executable, str(FILL), str(self._home.root), folder, more]
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
        seconds = time.monotonic() - start
        print(f"  ({more} files made, sent and replayed in {seconds:.0f} s)", flush=True)
        self.known = count
        self._count.write_text(json.dumps(count))

    def unmount(self) -> None:
        """Not mounted, whatever it was."""
        if self._mounted:
            self._ask("umount", WORKSPACE)
            self._mounted = False

    def audited(self, epochs: int) -> dict[str, float]:
        """What epochs cost the auditor of this device (`bench_audit.py`)."""
        self.unmount()
        command = [sys.executable, str(AUDIT), str(self._home.root), str(epochs)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
        found: dict[str, float] = json.loads(done.stdout)
        return found

    def mount(self) -> float:
        """Mount; seconds from the command until the folder is listed. What it took of the CPU is in
        `start_cpu`: the command's and the daemon's share."""
        before, start = os.times(), time.monotonic()
        if not self._mounted:
            self._ask("mount", WORKSPACE, str(self.mountpoint))
            self._mounted = True
        command = os.times()
        os.listdir(self.mountpoint)
        seconds = time.monotonic() - start
        used = {pid: cpu_s(pid) for pid in daemons()}
        self._daemon = self._status()["pid"]
        self.start_cpu = (
            command.children_user
            + command.children_system
            - before.children_user
            - before.children_system,
            used[self._daemon],
        )
        return seconds

    def start_s(self) -> float:
        """Seconds that the interpreter needs for the daemon's modules."""
        start = time.monotonic()
        subprocess.run([sys.executable, "-Pc", "import parsec_fs.daemon"], check=True, cwd="/")
        return time.monotonic() - start

    def commits(self) -> int:
        """Commit requests that the server has seen, by its own log."""
        return self._server_log().count(COMMIT)

    def puts(self) -> int:
        """Requests that put blocks, by the server's own log."""
        log = self._server_log()
        return sum(map(log.count, PUTS))

    def _server_log(self) -> str:
        return (self._home.services / "logs" / "server.log").read_text(errors="replace")

    def cpu_s(self) -> float:
        """CPU time that the daemon has used."""
        return cpu_s(self.pid())

    def server_cpu_s(self) -> float:
        """CPU time that the metadata server has used."""
        supervisor = Services(self._home.services).pid()
        assert supervisor is not None
        return sum(cpu_s(pid) for pid in descendants(supervisor) if is_server(pid))

    def memory(self) -> int:
        """Proportional set size of the daemon and all its children, in bytes."""
        assert self._daemon is not None
        return sum(map(proportional_size, descendants(self._daemon)))


class SecondDevice:
    """Another device of the same user, joined by a link and mounted."""

    def __init__(self, first: Known) -> None:
        self._first = first
        self._home = Home(root=first.backing.parent / "second")
        self.mountpoint = first.backing.parent / "second.mnt"

    def __enter__(self) -> "SecondDevice":
        with (
            _started(self._first.home, "device", "add") as adding,
            _started(self._home, "device", "join", "--name", "second") as joining,
        ):
            exchange(adding, joining, timeout_s=600)
        self._ask("mount", WORKSPACE, str(self.mountpoint))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ask("umount", WORKSPACE, "--no-wait")
        shutil.rmtree(self._home.root, ignore_errors=True)

    def _ask(self, *arguments: str) -> Json:
        return parsec_fs(self._home, Quiet(), "", *arguments)


def _started(home: Home, *arguments: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-Pm", "parsec_fs", "--json", "--home", str(home.root), *arguments]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, cwd=ROOT)


def cpu_s(pid: int) -> float:
    """CPU time that a process has used, in itself and for it in the kernel."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def daemons() -> list[int]:
    """Processes that may be a mount."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdecimal() and b"parsec_fs" in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def is_server(pid: int) -> bool:
    """Is it the metadata server?"""
    arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    return any(one.endswith(b"/parsec-server") for one in arguments)


def descendants(pid: int) -> list[int]:
    """A process and all that it started."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue
            parents[int(entry.name)] = int(stat.rpartition(")")[2].split()[1])
    found = [pid]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found


def proportional_size(pid: int) -> int:
    """Bytes of memory, shared pages divided among those who share them; 0 if it has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next(int(one.split()[1]) * 1024 for one in lines if one.startswith("Pss:"))

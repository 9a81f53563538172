"""Keep the services of one folder running until told to stop.

Data flow: services.py writes plan.json -> this starts what it lists -> logs/, supervisor.lock.

One process, no threads. Programs of one group live and die together (CometBFT ends when its
application does): if one ends, the rest of its group is ended and the group is started again after
a pause that grows from half a second to ten. SIGTERM ends all, last started first. Every child
dies with this process, however it ends, so nothing is ever left behind.
"""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

PLAN_FILE = "plan.json"
LOCK_FILE = "supervisor.lock"
POLL_S = 0.1
STOP_S = 15.0
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 10.0
CALM_S = 30.0
"""A group that ran this long is started again without a long pause."""
LOG_MAX_SIZE = 32 * 1024 * 1024


@dataclass(frozen=True)
class Program:
    """A command line, and the name of its log."""

    name: str
    command: list[str]


@dataclass
class Group:
    """Programs that are started in order and ended together."""

    name: str
    programs: list[Program]
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)
    started_at: float = 0.0
    start_at: float = 0.0
    pause: float = FIRST_PAUSE_S

    def start(self, logs: Path) -> None:
        """Start every program."""
        self.started_at = time.monotonic()
        for program in self.programs:
            self.running.append(_start(program.command, logs / f"{program.name}.log"))
            note(f"event=started group={self.name} program={program.name}")

    def ended(self) -> bool:
        """Has any program ended?"""
        return any(process.poll() is not None for process in self.running)

    def stop(self) -> None:
        """End every program, last started first; kill what does not end in time."""
        for process in reversed(self.running):
            _stop(process)
        self.running = []

    def plan_restart(self) -> None:
        """Not at once, and less and less often, if it keeps ending."""
        calm = time.monotonic() - self.started_at > CALM_S
        self.pause = FIRST_PAUSE_S if calm else min(2 * self.pause, LONGEST_PAUSE_S)
        self.start_at = time.monotonic() + self.pause
        note(f"event=ended group={self.name} restart_in_s={self.pause}")


def note(text: str) -> None:
    """One line of the supervisor's own log."""
    print(f"{time.strftime('%Y-%m-%dT%H:%M:%S')} {text}", flush=True)


def main(folder: Path) -> int:
    """Run until SIGTERM or SIGINT."""
    with (folder / LOCK_FILE).open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            print(f"services in {folder} are running already", file=sys.stderr)
            return 11
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        _supervise(read_plan(folder / PLAN_FILE), folder / "logs")
    return 0


def read_plan(path: Path) -> list[Group]:
    """Groups in the order in which they are started."""
    return [
        Group(group["name"], [Program(**program) for program in group["programs"]])
        for group in json.loads(path.read_text())["groups"]
    ]


def _supervise(groups: list[Group], logs: Path) -> None:
    stopping = False

    def stop(_signal: int, _frame: object) -> None:
        nonlocal stopping
        stopping = True

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    while not stopping:
        for group in groups:
            _tend(group, logs)
        time.sleep(POLL_S)
    for group in reversed(groups):
        group.stop()
    note("event=stopped")


def _tend(group: Group, logs: Path) -> None:
    if group.running and group.ended():
        group.stop()
        group.plan_restart()
    if not group.running and time.monotonic() >= group.start_at:
        group.start(logs)


def _start(command: list[str], log: Path) -> subprocess.Popen[bytes]:
    setpriv = shutil.which("setpriv")
    if setpriv:
        # Dies with its supervisor, even if that is killed.
        command = [setpriv, "--pdeathsig", "TERM", "--", *command]
    if log.exists() and log.stat().st_size > LOG_MAX_SIZE:
        log.replace(log.with_suffix(".log.1"))
    with log.open("ab") as output:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            process_group=0,
            cwd=log.parent,
        )


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))

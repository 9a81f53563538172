"""A real systemd user manager of the tests' own, in namespaces that end with it.

Data flow: `unshare` (mounts, processes, cgroups) -> `systemd --user` -> `nsenter` runs commands.

What it has of its own is /run (with the folder by which programs see that systemd runs), /proc, a
cgroup2 and the folder of units. Network and files are those of the machine. When the outer process
ends, the kernel ends every process inside and unmounts what they mounted.
"""

import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.installation import until
from tests.support.requirements import require_program

RUNTIME = "/run/user/0"
WORLD = """
mount -t tmpfs none /run
mkdir -p /run/systemd/system /run/user/0
chmod 700 /run/user/0
mount -t proc proc /proc
mount -t cgroup2 none /sys/fs/cgroup
mkdir -p /sys/fs/cgroup/probe
rmdir /sys/fs/cgroup/probe
"$0" --user --log-target=console &  # not exec: as process 1 it would be a system manager
wait
"""


@dataclass(frozen=True, slots=True)
class UserManager:
    """A manager that answers."""

    inside: int
    environment: Mapping[str, str]

    def run(self, *command: str, code: int | None = 0) -> str:
        """What a command beside the manager writes; `code` None takes any exit code."""
        enter = ["nsenter", "--target", str(self.inside), "--mount", "--pid", "--cgroup"]
        done = subprocess.run(
            [*enter, "--", *command],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert code is None or done.returncode == code, done.stdout + done.stderr
        return done.stdout

    def show(self, unit: str, name: str) -> str:
        """A property of a unit, as the manager has it."""
        return self.run("systemctl", "--user", "show", "--value", "-p", name, unit).strip()


@contextmanager
def user_manager(root: Path) -> Iterator[UserManager]:
    """The manager; units lie in `root`. Skips where this machine does not let us have one."""
    program = Path("/usr/lib/systemd/systemd")
    if not program.exists():
        pytest.skip("systemd is missing: install Debian's package systemd")
    require_program("unshare", "install util-linux")
    if os.geteuid() != 0:
        pytest.skip("a systemd of one's own needs root: mounting a cgroup2 in a namespace")
    environment = {**os.environ, "XDG_RUNTIME_DIR": RUNTIME, "XDG_CONFIG_HOME": str(root)}
    spaces = ["--mount", "--pid", "--fork", "--kill-child", "--cgroup"]
    log = root / "manager.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["unshare", *spaces, "sh", "-ec", WORLD, str(program)],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        yield until(lambda: _answering(process, environment, log), timeout_s=60)
    finally:
        process.kill()
        process.wait(30)


def _answering(
    process: "subprocess.Popen[bytes]", environment: Mapping[str, str], log: Path
) -> UserManager | None:
    if process.poll() is not None:
        pytest.skip(f"no systemd can be started on this machine: {log.read_text()[-500:]}")
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    if not children:
        return None
    manager = UserManager(int(children[0]), environment)
    state = manager.run("systemctl", "--user", "is-system-running", code=None).strip()
    return manager if state in ("running", "degraded") else None

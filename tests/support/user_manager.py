"""A real systemd user manager of the tests' own, in namespaces that end with it.

Data flow: `unshare` (mounts, processes, cgroups) -> `systemd --user` -> `nsenter` runs commands.

What it has of its own is /run (with the folder by which programs see that systemd runs), /proc, a
cgroup that is removed at the end, a home and the folder of units. Network and files are those of
the machine. When the outer process ends, the kernel ends every process inside and unmounts what
they mounted.
"""

import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.installation import until
from tests.support.requirements import require_program

RUNTIME = "/run/user/0"
_SYSTEM_UNITS = "/usr/lib/systemd/user"
_MADE, _READY = "the cgroup is made", "the namespaces are ready"
_REFUSED = re.compile(r"^(mount|mkdir|unshare): ", re.MULTILINE)
ENTER = f"""
mount -t cgroup2 none "$1"
mkdir "$1$2"
echo "{_MADE}"
echo $$ > "$1$2/cgroup.procs"
umount "$1"
shift 2
exec "$@"
"""
"""A cgroup of our own, below the one that we are in: what a manager makes in it can be found."""
LEAVE = """
mount -t cgroup2 none "$1"
[ ! -d "$1$2" ] || find "$1$2" -depth -type d -exec rmdir {} +
"""
WORLD = f"""
# Copies of the machine's FUSE mounts would keep their daemons running after their unmount.
awk '$3 ~ /^fuse/ {{ print $2 }}' /proc/mounts | while read -r place; do
    umount --lazy "$(printf %b "$place")" || true  # its folder may have gone, and it as well
done
mount -t tmpfs none /run
mkdir -p /run/systemd/system /run/user/0
chmod 700 /run/user/0
mount -t proc proc /proc
mount -t cgroup2 none /sys/fs/cgroup
mkdir -p /sys/fs/cgroup/probe
rmdir /sys/fs/cgroup/probe
echo "{_READY}"
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
    environment = _environment(root)
    spaces = ["--mount", "--pid", "--fork", "--kill-child", "--cgroup"]
    seen, group = root / "cgroup", _own_cgroup() + f"/parsec-fs-test-{os.getpid()}"
    seen.mkdir()
    private = ["unshare", "--mount", "sh", "-ec"]
    entered = [*private, ENTER, "sh", str(seen), group]
    log = root / "manager.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*entered, "unshare", *spaces, "sh", "-ec", WORLD, str(program)],
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
        leave = [*private, LEAVE, "sh", str(seen), group]
        # The kernel ends what is inside in its own time; a cgroup with processes stays.
        if _MADE in log.read_text():
            until(lambda: subprocess.run(leave, capture_output=True).returncode == 0, timeout_s=60)


def _environment(root: Path) -> dict[str, str]:
    """Units are looked for where the product writes them and where systemd's own lie, only."""
    environment = {
        **os.environ,
        "HOME": str(root / "manager-home"),
        "XDG_RUNTIME_DIR": RUNTIME,
        "XDG_CONFIG_HOME": str(root),
        "SYSTEMD_UNIT_PATH": f"{root / 'systemd/user'}:{_SYSTEM_UNITS}",
    }
    for name in ("DBUS_SESSION_BUS_ADDRESS", "NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID"):
        environment.pop(name, None)  # abstract sockets cross mount namespaces
    (root / "manager-home").mkdir()
    return environment


def _own_cgroup() -> str:
    """Of this process, in cgroup2; "" for the root."""
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    found = [line[3:] for line in lines if line.startswith("0::")]
    if not found or found[0].startswith("/.."):
        pytest.skip("this machine has no cgroup2 that this process is in")
    return found[0].rstrip("/")


def _answering(
    process: "subprocess.Popen[bytes]", environment: Mapping[str, str], log: Path
) -> UserManager | None:
    ended, written = process.poll() is not None, log.read_text(errors="replace")
    if ended and _READY not in written and _REFUSED.search(written):
        pytest.skip(f"no systemd can be started on this machine: {written[-500:]}")
    assert not ended, f"the manager ended at its start: {written[-2000:]}"
    if _READY not in written:
        return None  # until then /run is that of the machine, and so is who answers there
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    if not children:
        return None
    manager = UserManager(int(children[0]), environment)
    state = manager.run("systemctl", "--user", "is-system-running", code=None).strip()
    return manager if state in ("running", "degraded") else None

"""A PostgreSQL of the tests' own: fresh, in a temporary folder, on a Unix socket.

Data flow: fixture -> initdb, postgres -> SQLAlchemy URL -> stopped and gone.
"""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.requirements import require_postgresql

USER = "postgres"


@contextmanager
def running_postgresql() -> Iterator[str]:
    """URL of an empty cluster. As root, the programs run as the system's postgres user, which
    they insist on."""
    programs = require_postgresql()
    root = Path(tempfile.mkdtemp(prefix="pg"))
    user = USER if os.geteuid() == 0 else None
    try:
        if user is not None:
            shutil.chown(root, user)
        data = root / "data"
        _run([programs / "initdb", "-D", data, "-U", USER, "-A", "trust", "--no-sync"], user, root)
        with (root / "log").open("wb") as output:
            process = subprocess.Popen(
                [programs / "postgres", "-D", data, "-k", root, "-c", "listen_addresses="],
                stdout=output,
                stderr=output,
                user=user,
                cwd=root,
            )
        try:
            _wait(programs, root, user)
            yield f"postgresql+psycopg://{USER}@/postgres?host={root}"
        finally:
            process.send_signal(signal.SIGINT)  # fast: does not wait for clients
            process.wait(30)
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _run(command: list[str | Path], user: str | None, folder: Path) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=120, user=user, cwd=folder)


def _wait(programs: Path, root: Path, user: str | None) -> None:
    deadline = time.monotonic() + 30
    command: list[str | Path] = [programs / "pg_isready", "-h", root, "-U", USER]
    while subprocess.run(command, capture_output=True, user=user, cwd=root, check=False).returncode:
        if time.monotonic() > deadline:
            raise AssertionError((root / "log").read_text())
        time.sleep(0.05)

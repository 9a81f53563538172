"""Ordinary programs, run as a person runs them.

Data flow: test -> `run` -> what the program printed, or AssertionError with its complaint.
"""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

TIMEOUT_S = 120


def run(*command: str | Path, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> str:
    """Standard output of a program that succeeds and complains about nothing."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**os.environ, "LC_ALL": "C.UTF-8", **(env or {})},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )
    assert (done.returncode, done.stderr) == (0, ""), (command, done.stdout, done.stderr)
    return done.stdout

"""Ordinary programs, run as a person runs them.

Data flow: test -> `run` -> what the program printed, or AssertionError with its complaint.
"""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

TIMEOUT_S = 120
_IDENTITY = ("-c", "user.name=n", "-c", "user.email=e@example.org")


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


def git(repository: Path, *arguments: str | Path) -> str:
    """A git command in a repository, with nobody's configuration."""
    env = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_EDITOR": "true"}
    return run("git", *_IDENTITY, *arguments, cwd=repository, env=env)


def commit(repository: Path, name: str, text: str) -> None:
    """One file, one commit."""
    (repository / name).write_text(text)
    git(repository, "add", name)
    git(repository, "commit", "-qm", f"{name}: {text[:20]!r}")

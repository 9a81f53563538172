"""What a test needs from the machine: present, or a skip (that CI turns into a failure).

Data flow: fixture or test -> `require_*` -> path of the program, or pytest.skip with the remedy.
"""

import glob
import os
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def require_program(name: str, remedy: str) -> Path:
    """Path of a program: from .tools/bin, the virtual environment, or PATH."""
    places = os.pathsep.join(
        (str(ROOT / ".tools/bin"), str(ROOT / ".venv/bin"), os.environ["PATH"])
    )
    found = shutil.which(name, path=places)
    if found is None:
        pytest.skip(f"{name} is missing: {remedy}")
    return Path(found)


def require_fuse() -> None:
    """FUSE can be used by this process."""
    require_program("fusermount3", "scripts/setup")
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip(
            "/dev/fuse is missing or closed: load the fuse module, or run in a container with it"
        )


def require_cometbft() -> Path:
    """The pinned CometBFT."""
    return require_program("cometbft", "scripts/install-cometbft")


def require_s3_server() -> Path:
    """A real S3 server, from a wheel."""
    return require_program("weed", "scripts/setup")


def require_postgresql() -> Path:
    """Folder with PostgreSQL's own programs (initdb, postgres)."""
    for folder in sorted(glob.glob("/usr/lib/postgresql/*/bin"), reverse=True):
        if os.access(os.path.join(folder, "initdb"), os.X_OK):
            return Path(folder)
    return require_program("initdb", "install Debian's package postgresql").parent

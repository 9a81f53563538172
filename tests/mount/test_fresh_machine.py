"""What a fresh machine may lack: each time a clear message with the way out, and nothing is left.

Data flow: scripts, in a copy or where something is hidden from them -> message, exit code, files.

A taken port and half-finished starts: `test_quickstart`.
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.installation import ROOT

TIMEOUT_S = 120
CLOSED = "http://127.0.0.1:1/"
"""Nobody listens there."""

WITHOUT_FUSE = """
mount -t tmpfs none "$0"
for name in null zero full random urandom tty; do
    touch "$0/$name"
    mount --bind "/dev/$name" "$0/$name"
done
ln -s /proc/self/fd "$0/fd"
mkdir "$0/shm"
mount --rbind "$0" /dev
exec "$@"
"""
"""A namespace of its own, in which /dev has everything that programs need but FUSE."""


def run(
    command: list[str], cwd: Path = ROOT, **environment: str
) -> subprocess.CompletedProcess[str]:
    """A command, as far from this machine's settings of pip and Go as possible."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PIP_", "GO"))}
    return subprocess.run(
        command,
        cwd=cwd,
        env=kept | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.fixture
def without_fuse(tmp_path: Path) -> list[str]:
    """What to put before a command."""
    device = tmp_path / "dev"
    device.mkdir()
    root = [] if os.geteuid() == 0 else ["--map-root-user"]
    prefix = ["unshare", *root, "--mount", "bash", "-ec", WITHOUT_FUSE, str(device)]
    tried = run([*prefix, "true"])
    if tried.returncode:
        pytest.skip(f"no mount namespace on this machine: {tried.stderr.strip()}")
    return prefix


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The scripts and what they read, not set up."""
    folder = tmp_path / "checkout"
    shutil.copytree(ROOT / "scripts", folder / "scripts")
    for name in ("pyproject.toml", "requirements.lock"):
        shutil.copy(ROOT / name, folder / name)
    return folder


def test_quickstart_without_fuse(without_fuse: list[str], checkout: Path) -> None:
    home = checkout.parent / "home"
    before = files(checkout)
    command = [str(checkout / "scripts/quickstart"), "--home", str(home), str(home / "mnt")]
    done = run([*without_fuse, *command])
    assert done.returncode == 1
    assert done.stderr.startswith("quickstart: this machine has no /dev/fuse")
    assert "modprobe fuse" in done.stderr
    assert "--device /dev/fuse" in done.stderr
    assert not home.exists()
    assert files(checkout) == before  # nothing was installed to be of no use


def test_quickstart_of_a_prepared_checkout_without_fuse(
    without_fuse: list[str], tmp_path: Path
) -> None:
    home, folder = tmp_path / "home", tmp_path / "mnt"
    script = str(ROOT / "scripts/quickstart.py")
    python = str(ROOT / ".venv/bin/python")
    done = run([*without_fuse, python, script, "--home", str(home), str(folder)])
    assert done.returncode == 1
    assert "this machine has no /dev/fuse" in done.stderr
    assert not home.exists()
    assert not folder.exists()


def test_setup_without_a_package_index(checkout: Path, tmp_path: Path) -> None:
    before = files(checkout)
    done = run(
        [str(checkout / "scripts/setup")],
        checkout,
        PIP_INDEX_URL=CLOSED,
        PIP_RETRIES="0",
        PIP_CONFIG_FILE=os.devnull,
        PIP_CACHE_DIR=str(tmp_path / "cache"),
    )
    assert done.returncode == 1
    assert "setup: the locked dependencies do not install" in done.stderr
    assert "pip must reach its package index" in done.stderr
    assert files(checkout) == before


def test_building_the_chain_without_its_sources(checkout: Path, tmp_path: Path) -> None:
    before = files(checkout)
    done = run(
        [str(checkout / "scripts/install-cometbft")],
        checkout,
        GOPROXY=CLOSED,
        GOMODCACHE=str(tmp_path / "modules"),
        GOFLAGS="-modcacherw",
        PIP_INDEX_URL=CLOSED,
        PIP_RETRIES="0",
        PIP_CONFIG_FILE=os.devnull,
    )
    assert done.returncode == 1
    assert "must reach its" in done.stderr  # Go its proxy, or pip its index where there is no Go
    assert files(checkout) == before

"""Server and chain stand still (SIGSTOP): the mount answers as if nothing had happened.

Data flow: stopped servers -> system calls on the cached tree, timed -> SIGCONT -> audited.

Local first: no system call on what is here waits for anybody. The bound is the one that people can
rely on, not the usual time, which is a hundred times shorter; the benchmarks watch that.
"""

import os
import signal
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.product import Machine, Product, product
from tests.support.requirements import require_fuse

FILES = 200
BOUND_S = 0.050
SERVERS = ("server", "app", "validator")


@pytest.fixture
def server() -> Iterator[Product]:
    require_fuse()
    with product() as running:
        yield running


def read(path: Path) -> None:
    assert path.read_bytes() == path.name.encode() * 100


def rewrite(path: Path) -> None:
    path.write_bytes(path.name.encode() * 100)


def rename_and_back(path: Path) -> None:
    other = path.with_suffix(".other")
    path.rename(other)
    other.rename(path)


def make_and_remove(path: Path) -> None:
    new = path.with_suffix(".new")
    new.write_bytes(b"new")
    new.unlink()


def look_for_nothing(path: Path) -> None:
    assert not path.with_suffix(".missing").exists()


WORK: tuple[Callable[[Path], object], ...] = (
    os.stat,
    read,
    rewrite,
    rename_and_back,
    make_and_remove,
    look_for_nothing,
    lambda path: list(os.scandir(path.parent)),
    lambda path: path.chmod(0o640),
)


def timed(action: Callable[[Path], object], path: Path) -> float:
    """Seconds that it takes."""
    started = time.perf_counter()
    action(path)
    return time.perf_counter() - started


def test_cached_operations_wait_for_nobody(server: Product) -> None:
    alice = server.first_device("alice").mount()
    folder = alice.path / "folder"
    folder.mkdir()
    paths = [folder / f"{number:03}" for number in range(FILES)]
    for path in paths:
        rewrite(path)
    alice.wait("audited")
    for name in SERVERS:
        server.programs.send(name, signal.SIGSTOP)
    try:
        times = [timed(work, path) for path in paths for work in WORK]
        (alice.path / "meanwhile").write_bytes(b"x" * 100_000)
        assert stands_still(alice)
    finally:
        for name in reversed(SERVERS):
            server.programs.send(name, signal.SIGCONT)
    assert statistics.quantiles(times, n=100)[98] <= BOUND_S, max(times)
    alice.wait("audited", timeout_s=60)
    bob = server.next_device(alice, "bob").mount()
    bob.wait_file("meanwhile", b"x" * 100_000)
    for path in paths[:10]:
        assert bob.read(f"folder/{path.name}") == path.name.encode() * 100
    for machine in (alice, bob):
        machine.in_peace()


def stands_still(machine: Machine) -> bool:
    """Something is waiting for servers that do not answer."""
    changes = machine.status()["changes"]
    pending: int = changes["local"]
    return pending > 0

"""The mount does what a plain directory does, and so does the mount of another device.

Data flow: `tree_machine` -> mount and plain directory -> the same; server -> second device -> the
same, once it has caught up.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis.stateful import rule

from tests.support.mounts import Daemon, mounted
from tests.support.product import Machine, poll, product
from tests.support.requirements import require_fuse
from tests.support.tree_machine import (
    TwoTrees,
    data_of,
    few,
    names,
    play,
    scaled,
    seeds,
    sizes,
    write_file,
)
from tests.support.two_trees import outcome, snapshot

CAUGHT_UP_S = 30.0


class Shared:
    """The first device's mount."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.path = machine.path

    def start(self) -> None:
        self.machine.mount("--stored-owners")

    def unmount(self) -> None:
        self.machine.unmount()

    def kill(self) -> None:
        self.machine.kill()

    def invalidate(self) -> None:
        """What the second device changes does that."""


class ThreeTrees(TwoTrees):
    """The same with a second device."""

    def __init__(self, shared: Shared, other: Machine, plain: Path) -> None:
        super().__init__(shared, plain, times=False)
        self.first, self.other = shared.machine, other
        self.second = other.path / self.pair.roots[0].name

    @rule()
    def catch_up(self) -> None:
        """What is written to open files counts from its fsync on, for other devices."""
        self.pair.sync_all()
        self.first.wait("logged")
        plain = snapshot(self.pair.roots[1])
        poll(lambda: outcome(snapshot, self.second) == ("result", plain), CAUGHT_UP_S, self._apart)

    def _apart(self) -> object:
        return {root: outcome(snapshot, root) for root in (*self.pair.roots, self.second)}

    @rule(name=names, offset=sizes, byte=few, length=sizes)
    def write_there(self, name: str, offset: int, byte: int, length: int) -> None:
        """A change of the second device arrives in the live mount of the first."""
        self.pair.close_all()
        self.catch_up()
        roots = (self.second, self.pair.roots[1])
        data = data_of(byte, length)
        there, here = (outcome(write_file, root / name, offset, data, 0) for root in roots)
        assert there == here
        self.other.wait("logged")
        plain = snapshot(self.pair.roots[1])
        poll(lambda: snapshot(self.pair.roots[0]) == plain, CAUGHT_UP_S, self._apart)


@pytest.fixture
def stored(tmp_path: Path) -> Iterator[Daemon]:
    require_fuse()
    with mounted(tmp_path, "--stored-owners") as daemon:
        yield daemon
        daemon.unmount()
        assert "unexpected error" not in daemon.log.read_text()


@pytest.mark.parametrize("seed", seeds(3))
def test_the_mount_does_what_a_plain_directory_does(
    stored: Daemon, tmp_path: Path, seed: int
) -> None:
    """20 examples of 100 steps."""
    plain = tmp_path / "plain"
    plain.mkdir()
    play(lambda: TwoTrees(stored, plain), examples=20, steps=100, seed=seed)


@pytest.fixture
def devices() -> Iterator[tuple[Shared, Machine]]:
    """Two devices of one workspace."""
    require_fuse()
    with product() as running:
        alice = running.first_device("alice").mount("--stored-owners")
        yield Shared(alice), running.next_device(alice, "bob").mount("--stored-owners")


def test_another_device_shows_the_same(devices: tuple[Shared, Machine], tmp_path: Path) -> None:
    """3 examples of 60 steps; now and then the other device catches up, or makes a change."""
    plain = tmp_path / "plain"
    plain.mkdir()
    play(lambda: ThreeTrees(*devices, plain), examples=scaled(3), steps=60)
    assert not devices[1].evidence_files()

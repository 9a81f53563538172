"""A live mount ends by SIGKILL at each named point: all that was fsynced is there, nothing is torn.

Data flow: recorder on the mount -> the daemon passes the point -> gone -> (fsck) -> mounted again
-> compared with the record; in the end with a second device.

A round counts only if something was fsynced in it before the end. What is left by one round is
where the next begins. `scripts/crash_test points` does it at all points, and more often.
"""

import contextlib
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.copying import differences
from tests.support.dying_stores import WHILE_ENDING, WHILE_PULLING, WHILE_STARTING, WHILE_WRITING
from tests.support.product import ROOT, Machine, lazy_unmount, poll, product
from tests.support.recorder import FOLDERS, GONE, Facts, read_facts, write_facts
from tests.support.requirements import require_fuse

ROUNDS = int(os.environ.get("PARSEC_CRASH_KILLS", "0"))
IN_CI = (
    "journal_torn_append",
    "journal_before_sync",
    "blocks_after_sync",
    "block_before_uploaded",
    "outbox_after_commit",
    "answer_before_commit",
    "journal_before_forget",
    "pulled_after_commit",
    "journal_before_close",
    "sweep_amid",
)
"""Once each, where nobody says how often: the other points lie beside these."""
CHANGES = 60
"""Of the recorder, in a round: about a second."""
MOST_PASSES = 3
MOST_BURSTS = 6
REST_S = 10.0
"""Longer than an upload stands back for a busy mount."""
END_S = 60.0


@dataclass(kw_only=True)
class Scene:
    """A device that dies, one that lives, and the record of what the first one promised."""

    alice: Machine
    bob: Machine
    facts: Facts
    record: Path
    armed: Path
    last: str = "nothing"
    ends: int = 0

    @property
    def folder(self) -> Path:
        """Where the recorder works."""
        return self.alice.path / "recorded"

    def dying(self, point: str, passes: int) -> list[str]:
        """The daemon, as options of Python."""
        return ["-m", "tests.support.dying_daemon", point, str(passes), str(self.armed)]

    def mount(self, point: str, passes: int) -> None:
        """A daemon that will end at this point, once `armed` is there; what the end before it left
        is compared first."""
        self.armed.unlink(missing_ok=True)
        self.alice.mount(program=self.dying(point, passes))
        self.check()
        self.last = point

    def mount_at_once(self, point: str) -> None:
        """A daemon that ends before anything is mounted."""
        assert self.armed.exists()
        self.last = point
        self.alice.mount(program=self.dying(point, 1))

    def start_writing(self, seed: int) -> "subprocess.Popen[bytes]":
        """The recorder, as another process."""
        write_facts(self.record, self.facts)
        command = [sys.executable, "-m", "tests.support.recorder", str(self.folder)]
        command += [str(self.record), str(seed), str(CHANGES), str(self.armed)]
        return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)

    def ended(self, *, look: bool = True) -> None:
        """The daemon is gone, by its own hand. Every other time fsck looks first at what is left:
        it replays the journal itself, and the next mount must not depend on that."""
        code = self.alice.product.programs.wait(self.alice.program, END_S)
        lazy_unmount(self.alice.path)
        assert code == -signal.SIGKILL, self.alice.log_tail()
        self.ends += 1
        if look and self.ends % 2:
            self.alice.cli("fsck")

    def wrote(self, writer: "subprocess.Popen[bytes]") -> None:
        """The recorder is done, or its mount went away; something was fsynced."""
        assert writer.wait(60) in (0, GONE)
        self.facts = read_facts(self.record)
        assert self.facts.fsynced > 0, "nothing to lose"

    def check(self) -> None:
        """Of the mounted device: all that was promised is there."""
        faults = self.facts.check(self.folder)
        assert faults == [], f"after {self.last}"

    def killed_while_writing(self, point: str, chance: random.Random, *, look: bool = True) -> None:
        """One round, up to the end of the daemon. What is only reached when changes are sent is so
        when the recorder rests; then it goes on."""
        self.mount(point, chance.randint(1, MOST_PASSES))
        for _ in range(MOST_BURSTS):
            self.wrote(self.start_writing(chance.getrandbits(32)))
            with contextlib.suppress(AssertionError):
                poll(lambda: not self.alice.product.programs.is_running(self.alice.program), REST_S)
                break
        self.ended(look=look)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    require_fuse()
    folder = tmp_path_factory.mktemp("recorded")
    with product() as server:
        alice = server.first_device("alice").mount()
        for part in FOLDERS:
            (alice.path / "recorded" / part).mkdir(parents=True)
        alice.wait("logged")
        bob = server.next_device(alice, "bob").mount()
        alice.unmount()
        yield Scene(
            alice=alice,
            bob=bob,
            facts=Facts(),
            record=folder / "facts",
            armed=folder / "armed",
        )


def rounds(points: dict[str, str]) -> pytest.MarkDecorator:
    """Every point as often as told, or some of them once."""
    names = [point for point in points if ROUNDS or point in IN_CI]
    return pytest.mark.parametrize("point", [name for name in names for _ in range(ROUNDS or 1)])


@rounds(WHILE_WRITING)
def test_while_writing(scene: Scene, chance: random.Random, point: str) -> None:
    scene.killed_while_writing(point, chance)


@rounds(WHILE_PULLING)
def test_while_pulling(scene: Scene, chance: random.Random, point: str) -> None:
    """What the other device made comes all the same."""
    scene.mount(point, 1)
    scene.alice.wait("logged")
    content = chance.randbytes(20_000)
    scene.armed.touch()
    (scene.bob.path / point).write_bytes(content)
    scene.ended()
    scene.mount(point, 1)
    scene.alice.wait_file(point, content)
    scene.alice.unmount()


@rounds(WHILE_ENDING)
def test_while_ending(scene: Scene, chance: random.Random, point: str) -> None:
    scene.mount(point, 1)
    writer = scene.start_writing(chance.getrandbits(32))
    assert writer.wait(60) == 0
    subprocess.run(["fusermount3", "-u", str(scene.alice.path)], check=True, timeout=30)
    scene.ended()
    scene.wrote(writer)


@rounds(WHILE_STARTING)
def test_while_starting(scene: Scene, chance: random.Random, point: str) -> None:
    """Over what an end just after a block was written leaves."""
    scene.killed_while_writing("block_written", chance, look=False)
    with pytest.raises(AssertionError, match="ended"):
        scene.mount_at_once(point)
    scene.ended()


def test_the_other_device_has_it_too(scene: Scene) -> None:
    """All of it, and nothing is left over; nobody is accused."""
    alice, bob = scene.alice.mount(), scene.bob
    scene.check()
    alice.wait("audited", timeout_s=60)
    poll(lambda: differences(alice.path, bob.path) == [], 60)
    # What was sealed and replaced since goes once the journal that says so is durable: 5 s.
    poll(lambda: alice.status()["changes"]["pending_bytes"] == 0, 30, alice.status)
    assert list(alice.home.root.rglob("blocks/pending/*")) == []
    for machine in (alice, bob):
        machine.in_peace()
        machine.unmount()
        machine.cli("fsck")

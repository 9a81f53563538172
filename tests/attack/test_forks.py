"""Two devices are shown two histories; a commit is acknowledged and then forgotten.

Data flow: hostile server (two branches, equally long) -> alice, victims -> epochs -> audit.

| attack                        | state     | errno | exit | evidence | epochs | check             |
|-------------------------------|-----------|-------|------|----------|--------|-------------------|
| a fork: alice's change hidden | convicted | EROFS | 30   | P1       | 1      | `own_is_anchored` |
| acknowledged, then forgotten  | convicted | EROFS | 30   | P2       | 1      | `promise_is_kept` |

`epochs`: the alarm comes with the first epoch that is cut after the lie. Branches are kept at one
length with read stamps, which need nobody's key, so that no check on sizes helps by chance. The
anchored branch is alice's: she stays verified throughout.
"""

import errno
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.support.product import WORKSPACE, Machine, Product

OLD, NEW = b"price: 100", b"price: 250"


@pytest.fixture(scope="module")
def alice(hostile: Product) -> Iterator[Machine]:
    """On the branch that the chain sees; she has to be fine in the end."""
    machine = hostile.first_device("alice").mount()
    for name in ("fork", "weak-fork"):
        (machine.path / name).write_bytes(OLD)
    machine.wait("audited")
    yield machine
    machine.in_peace()


def fork(product: Product, name: str, *victims: Machine) -> int:
    """From now on these devices live on another branch. The final epochs before that."""
    product.tell(do="fork", name=name)
    product.tell(do="pad", branches=["main", name])
    product.show(name, *victims)
    return product.final_epochs()


def test_a_fork_convicts(hostile: Product, alice: Machine) -> None:
    """A mounted device, and one that audits without a mount and without keys."""
    bob, blind = hostile.victim(alice, "bob"), hostile.next_device(alice, "blind")
    before = fork(hostile, "hidden", bob, blind)
    (alice.path / "fork").write_bytes(NEW)
    alice.wait("audited")
    bob.convicted_of("P1")
    assert bob.epochs() - before <= 1
    assert bob.read("fork") == OLD  # verified before the lie
    assert blind.run("audit", WORKSPACE)[0] == 30
    assert blind.proven() == {"P1"}


def test_a_fork_without_the_check_shows_the_past_for_ever(hostile: Product, alice: Machine) -> None:
    carol = hostile.victim(alice, "carol", without="own_is_anchored")
    before = fork(hostile, "hidden-weak", carol)
    (alice.path / "weak-fork").write_bytes(NEW)
    alice.wait("audited")
    carol.live_on(before + 4)
    assert carol.read("weak-fork") == OLD
    carol.in_peace()


def forget(product: Product, victim: Machine, branch: str) -> int:
    """The victim's commit is acknowledged on a branch that is never anchored. Nothing is added to
    the anchored one meanwhile, so that only the missing length can tell."""
    product.tell(do="hold", held=True)
    product.tell(do="pad", branches=[])
    product.tell(do="fork", name=branch)
    product.show(branch, victim)
    before = product.final_epochs()
    (victim.path / branch).write_bytes(NEW)
    victim.wait("logged")
    product.tell(do="hold", held=False)
    return before


@contextmanager
def silent(product: Product, machine: Machine) -> Iterator[None]:
    """A read stamp of hers would make the anchored branch differ at a size the victim compares."""
    product.programs.send(machine.program, signal.SIGSTOP)
    try:
        yield
    finally:
        product.programs.send(machine.program, signal.SIGCONT)


def test_a_forgotten_commit_convicts(hostile: Product, alice: Machine) -> None:
    dave = hostile.victim(alice, "dave")
    with silent(hostile, alice):
        before = forget(hostile, dave, "acked")
        dave.convicted_of("P2")
    assert dave.epochs() - before <= 1
    assert dave.errno_of(lambda: (dave.path / "acked").read_bytes()) == errno.EIO
    assert alice.read("acked") is None


def test_a_forgotten_commit_without_the_check_seems_to_be_there(
    hostile: Product, alice: Machine
) -> None:
    erin = hostile.victim(alice, "erin", without="promise_is_kept")
    with silent(hostile, alice):
        before = forget(hostile, erin, "acked-weak")
        erin.live_on(before + 4)
    assert erin.read("acked-weak") == NEW
    assert os.getxattr(erin.path / "acked-weak", "user.parsec.state") == b"logged"
    assert alice.read("acked-weak") is None
    erin.in_peace()

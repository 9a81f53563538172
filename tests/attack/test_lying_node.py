"""A chain node lies for a server that shows some devices another history.

Data flow: hostile server (a branch with statements of its own) + lying node -> victims -> audit.

| what the node forges         | state    | errno | exit | evidence | epochs | check           |
|------------------------------|----------|-------|------|----------|--------|-----------------|
| value (under honest proof)   | suspect  | 0     | 1    | none     | 1      | `state_proof`   |
| proof (fits the value)       | suspect  | 0     | 1    | none     | 1      | `state_proof`   |
| header (fits the proof)      | suspect  | 0     | 1    | none     | 1      | `commit_is_for` |
| commit (fits the header)     | suspect  | 0     | 1    | none     | 1      | `has_signed`    |
| any, beside an honest node   | as it is | -     | -    | P7       | 1      | all             |

Each takes the one before for granted, so that exactly one check stands between the device and the
branch; without it the device reads a price that was changed long ago. A node signs nothing, so it
is never accused, only named by `verify`; beside an honest node it is passed over, and the server's
two statements convict the server.
"""

import shutil
from collections.abc import Iterator

import pytest

from tests.support.lying_node import LIES
from tests.support.product import Machine, Product

OLD, NEW = b"price: 100", b"price: 250"
CHECKS = {
    "value": "state_proof",
    "proof": "state_proof",
    "header": "commit_is_for",
    "commit": "has_signed",
}


@pytest.fixture(scope="module")
def alice(hostile: Product) -> Iterator[Machine]:
    """On the branch that the chain holds, with an honest node; she has to be fine in the end."""
    machine = hostile.first_device("alice").mount()
    (machine.path / "price").write_bytes(OLD)
    machine.wait("audited")
    yield machine
    machine.in_peace()


@pytest.fixture(scope="module")
def bob(hostile: Product, alice: Machine) -> Machine:
    """On a branch that only the lying node shows as anchored. Not mounted."""
    machine = hostile.victim(alice, "bob")
    machine.unmount()
    machine.use_nodes(hostile.lying_node_url)
    hostile.tell(do="fork", name="apart")
    hostile.tell(do="apart", branch="apart")
    hostile.show("apart", machine)
    (alice.path / "price").write_bytes(NEW)
    alice.wait("audited")
    shutil.copytree(machine.home.root, machine.home.root.with_suffix(".kept"))
    return machine


@pytest.fixture
def victim(bob: Machine) -> Iterator[Machine]:
    """Bob, as he was when the lies began; to be mounted by the test."""
    shutil.rmtree(bob.home.root)
    shutil.copytree(bob.home.root.with_suffix(".kept"), bob.home.root)
    yield bob
    bob.kill()


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_makes_suspicious(hostile: Product, victim: Machine, lie: str) -> None:
    hostile.tell(do="node", lie=lie)
    before = victim.mount().epochs()
    victim.only_suspect()
    assert victim.epochs() == before
    assert victim.read("price") == OLD  # verified before the lies
    assert hostile.lying_node_url in victim.run("verify")[1]["lying_nodes"]


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_is_believed_without_its_check(
    hostile: Product, alice: Machine, victim: Machine, lie: str
) -> None:
    hostile.tell(do="node", lie=lie)
    victim.mount(without=CHECKS[lie])
    victim.live_on(hostile.final_epochs() + 1)
    assert victim.wait_word("verified", "pending")
    assert victim.verify() == 0
    assert victim.evidence_files() == []
    assert (alice.read("price"), victim.read("price")) == (NEW, OLD)


def test_beside_an_honest_node_it_is_passed_over(hostile: Product, victim: Machine) -> None:
    hostile.tell(do="node", lie="proof")
    victim.use_nodes(hostile.lying_node_url, hostile.node.rpc_url)
    victim.mount()
    victim.convicted_of("P7")

"""Lies about epochs: an organization listed twice, a second statement, statements sent again.

Data flow: hostile server -> chain; openings and statements -> victims -> audit.

| attack                                   | state     | errno | exit | evidence | epochs | check |
|------------------------------------------|-----------|-------|------|----------|--------|-------|
| the organization listed twice            | suspect   | 0     | 1    | none     | 1      | (1)   |
| another statement shown for an epoch     | convicted | EROFS | 30   | P7       | 1      | (2)   |
| a statement published twice              | verified  | 0     | 0    | none     | -      | chain |
| a statement published with another root  | verified  | 0     | 0    | none     | -      | chain |

(1) `epoch_opening`, (2) `statement_is_anchored`. In both cases the victim lives on a branch that
the chain does not anchor; without the check it is content and reads a price that was changed long
ago. While suspect, changes are taken and stay on the device (errno 0). An opening is not signed, so
the second place in the list accuses nobody. The chain takes one statement per epoch, so what is
sent again or sent otherwise changes nothing for anyone.
"""

from collections.abc import Iterator

import pytest

from tests.support.product import Machine, Product

OLD, NEW = b"price: 100", b"price: 250"


@pytest.fixture(scope="module")
def alice(hostile: Product) -> Iterator[Machine]:
    """On the anchored branch; she has to be fine in the end."""
    machine = hostile.first_device("alice").mount()
    (machine.path / "price").write_bytes(OLD)
    machine.wait("audited")
    yield machine
    machine.in_peace()


@pytest.mark.parametrize("other_root", [False, True])
def test_the_chain_takes_one_statement_per_epoch(
    hostile: Product, alice: Machine, other_root: bool
) -> None:
    said = hostile.tell(do="publish_again", other_root=other_root)
    refused = "error" in said["answer"] or said["answer"]["result"]["code"] != 0
    assert refused, said
    alice.live_on(said["epoch"] + 3)
    alice.in_peace()


def test_another_statement_convicts(hostile: Product, alice: Machine) -> None:
    bob, carol = victims(hostile, alice, "apart", weak="statement_is_anchored")
    hostile.tell(do="apart", branch="apart")
    before = hostile.final_epochs()
    (alice.path / "price").write_bytes(NEW)
    bob.convicted_of("P7")
    assert bob.epochs() - before <= 1
    is_fooled(carol, alice, before)


def test_a_second_place_in_the_list_is_not_believed(hostile: Product, alice: Machine) -> None:
    (alice.path / "price").write_bytes(OLD)
    alice.wait("audited")
    dave, erin = victims(hostile, alice, "second", weak="epoch_opening")
    hostile.tell(do="list_twice", branch="second")
    before = hostile.final_epochs()
    (alice.path / "price").write_bytes(NEW)
    dave.only_suspect()
    assert dave.epochs() - before <= 1
    is_fooled(erin, alice, before)


def victims(product: Product, alice: Machine, branch: str, *, weak: str) -> tuple[Machine, Machine]:
    """A device with all checks and one without `weak`, both on a branch of their own."""
    pair = (
        product.victim(alice, f"strict-{branch}"),
        product.victim(alice, f"weak-{branch}", without=weak),
    )
    product.tell(do="fork", name=branch)
    product.show(branch, *pair)
    return pair


def is_fooled(victim: Machine, alice: Machine, before: int) -> None:
    """What alice changed, and the chain anchored, never happened for the victim."""
    alice.wait("audited")
    victim.live_on(before + 4)
    assert (alice.read("price"), victim.read("price")) == (NEW, OLD)
    victim.in_peace()

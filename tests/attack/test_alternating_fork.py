"""Two histories, anchored in turn: one in even epochs, the other in odd ones (rule 22).

Data flow: hostile server (two branches, equally long) -> alice, bob -> every epoch -> audit.

| attack                                   | state     | errno | exit | evidence | epochs | check |
|------------------------------------------|-----------|-------|------|----------|--------|-------|
| a fork alternating by epoch              | convicted | EROFS | 30   | P1       | 2      | below |

Half of all epochs agree with each device. The check that stops this is `own_is_anchored` in *every*
epoch; the two victims each look at every other epoch only, as a client would that audits now and
then, and are content for ever. `epochs` is two, because the first one may be the device's own.
"""

import pytest

from tests.support.product import Machine, Product

OLD, NEW = b"price: 100", b"price: 250"


@pytest.fixture(scope="module")
def pair(hostile: Product) -> tuple[Machine, Machine]:
    """Alice looks at even epochs, bob at odd ones; the server knows."""
    alice = hostile.first_device("alice").mount()
    (alice.path / "price").write_bytes(OLD)
    alice.wait("audited")
    bob = hostile.next_device(alice, "bob").mount(without="even_epochs")
    alice.unmount()
    alice.mount(without="odd_epochs")
    for machine in (alice, bob):
        machine.wait_word("verified")
    hostile.tell(do="fork", name="odd")
    hostile.tell(do="pad", branches=["main", "odd"])
    hostile.show("odd", bob)
    hostile.tell(do="anchor", plan=["main", "odd"])
    return alice, bob


def test_without_the_check_each_lives_in_a_world_of_its_own(
    hostile: Product, pair: tuple[Machine, Machine]
) -> None:
    alice, bob = pair
    (alice.path / "price").write_bytes(NEW)
    (bob.path / "order").write_bytes(b"for 100")
    for machine in pair:
        machine.wait("logged")
        machine.live_on(hostile.final_epochs() + 4)
    assert (alice.read("price"), alice.read("order")) == (NEW, None)
    assert (bob.read("price"), bob.read("order")) == (OLD, b"for 100")
    for machine in pair:
        machine.in_peace()


@pytest.mark.parametrize("who", [0, 1])
def test_whoever_looks_at_every_epoch_convicts(
    hostile: Product, pair: tuple[Machine, Machine], who: int
) -> None:
    machine = pair[who]
    machine.unmount()
    before = hostile.final_epochs()
    machine.mount()
    machine.convicted_of("P1")
    assert machine.epochs() - before <= 2

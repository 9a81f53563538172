"""The database rolled back to a copy while the server keeps signing.

Data flow: hostile server (a copy, taken before alice's change) -> chain, devices -> audit.

| attack                        | state     | errno | exit | evidence | epochs | check             |
|-------------------------------|-----------|-------|------|----------|--------|-------------------|
| rolled back, less is anchored | convicted | EROFS | 30   | P2 or P3 | 1      | `log_grows`       |
| rolled back, made long again  | convicted | EROFS | 30   | P1       | 1      | `own_is_anchored` |

P3 if the device asks before the next epoch: the answer is then shorter than what is anchored. The
second kind is what a careful server does: it fills the copy with read stamps, so that no size ever
shrinks. A device that was away meanwhile reads the past without the one check that is left. What
leaving out `log_grows` alone does is shown in memory (`test_history_attacks`): every device that
held the lost records stays content, and none that did not can be shown the epoch that had them.
"""

import errno

from tests.support.product import Machine, Product, product
from tests.support.requirements import require_fuse

OLD, NEW = b"price: 100", b"price: 250"


def copy_then_change(server: Product, *away: str) -> Machine:
    """Alice's price is audited, the database copied, the price changed and audited. Other devices
    have seen the first price and are not mounted."""
    alice = server.first_device("alice").mount()
    (alice.path / "price").write_bytes(OLD)
    alice.wait("audited")
    for name in away:
        machine = server.victim(alice, name)
        machine.wait_file("price", OLD)
        machine.unmount()
    server.tell(do="fork", name="copy")
    (alice.path / "price").write_bytes(NEW)
    alice.wait("audited")
    return alice


def roll_back(server: Product) -> int:
    """From now on the copy is the server's only truth. The final epochs before that."""
    server.show("copy", *server.machines)
    server.tell(do="anchor", plan=["copy"])
    return server.final_epochs()


def test_rolled_back() -> None:
    require_fuse()
    with product(hostile=True) as server:
        alice = copy_then_change(server)
        (alice.path / "unlogged").write_bytes(b"")
        before = roll_back(server)
        alice.convicted_of("P2", "P3")
        assert alice.epochs() - before <= 1
        assert alice.read("price") == NEW  # verified before the lie
        assert alice.errno_of(lambda: (alice.path / "unlogged").read_bytes()) == errno.EIO
        alice.unmount()
        alice.mount()
        alice.convicted_of("P2", "P3")  # for good


def test_rolled_back_and_made_as_long_again() -> None:
    require_fuse()
    with product(hostile=True) as server:
        alice = copy_then_change(server, "bob", "carol")
        bob, carol = server.machines[1:]
        alice.unmount()
        server.tell(do="pad", branches=["main", "copy"])
        before = roll_back(server)
        bob.mount(without="own_is_anchored")
        bob.live_on(before + 3)
        bob.wait_word("verified")
        assert bob.read("price") == OLD
        bob.in_peace()
        for machine in (alice, carol):
            machine.mount()
            machine.convicted_of("P1")
            assert machine.epochs() <= before + 1
        assert (alice.read("price"), carol.read("price")) == (NEW, OLD)

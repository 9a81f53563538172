"""A mounted workspace over four validators: one is lost, a node lies, two are stopped.

Data flow: mounts of two devices -> server -> four validators -> audit of both devices.

| what happens        | must end as          | exit | evidence |
|---------------------|----------------------|------|----------|
| one validator dies  | verified             | 0    | none     |
| one node lies       | verified, node named | 0    | none     |
| two validators stop | lagging, usable      | 20   | none     |
| they come back      | verified             | 0    | none     |
"""

import os
import signal
from collections.abc import Iterator

import pytest

from tests.support.lying_proxy import Lie, LyingProxy, forge_commit, forge_value, lying_proxy
from tests.support.product import Machine, Product, product
from tests.support.requirements import require_fuse

MEANWHILE = b"written meanwhile"
LAGGING_S = 60.0
"""Rule 24: it lags after 20 s without an epoch; the rest is for a busy machine."""


@pytest.fixture(scope="module")
def network() -> Iterator[Product]:
    require_fuse()
    with product(validators=4) as running:
        yield running


@pytest.fixture(scope="module")
def liar(network: Product) -> Iterator[LyingProxy]:
    """In front of the second validator."""
    with lying_proxy(network.nodes[1].rpc_url) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def alice(network: Product, liar: LyingProxy) -> Machine:
    """Asks the liar first, then the others."""
    machine = network.first_device("alice")
    others = [network.nodes[index].rpc_url for index in (0, 2, 3)]
    machine.use_nodes(liar.url, *others)
    return machine.mount()


@pytest.fixture(scope="module")
def bob(network: Product, alice: Machine) -> Machine:
    machine = network.next_device(alice, "bob")
    machine.use_nodes(*(node.rpc_url for node in network.nodes))
    return machine.mount()


def goes_on(alice: Machine, bob: Machine, name: str) -> None:
    """What is written now is audited here, and seen and audited there; nobody is accused."""
    content = os.urandom(50_000)
    (alice.path / name).write_bytes(content)
    alice.wait("audited", timeout_s=60)
    bob.wait_file(name, content, timeout_s=60)
    for machine in (alice, bob):
        machine.wait_word("verified", "pending", timeout_s=60)
        machine.in_peace()


def test_one_validator_dies(network: Product, alice: Machine, bob: Machine) -> None:
    goes_on(alice, bob, "with four")
    for program in ("validator3", "app3"):
        network.programs.kill(program)
    goes_on(alice, bob, "with three")
    network.start_app(3)
    network.start_validator(3)
    goes_on(alice, bob, "with four again")


@pytest.mark.parametrize("lie", [forge_value, forge_commit])
def test_one_node_lies(alice: Machine, bob: Machine, liar: LyingProxy, lie: Lie) -> None:
    alice.unmount()
    liar.lie, liar.told = lie, 0
    alice.mount()
    goes_on(alice, bob, lie.__name__)
    assert liar.told, "nobody was lied to"
    code, report = alice.run("verify", "docs")
    assert (code, list(report["lying_nodes"])) == (0, [liar.url])


def test_two_validators_stop_and_come_back(network: Product, alice: Machine, bob: Machine) -> None:
    goes_on(alice, bob, "before the stop")
    stopped = [f"{kind}{index}" for index in (2, 3) for kind in ("validator", "app")]
    for program in stopped:
        network.programs.send(program, signal.SIGSTOP)
    try:
        lags(alice, bob)
    finally:
        for program in stopped:
            network.programs.send(program, signal.SIGCONT)
    for machine in (alice, bob):
        machine.wait_word("verified", timeout_s=60)
        machine.wait("audited", timeout_s=60)
    alice.wait_file("by bob/final", MEANWHILE)
    bob.wait_file("by alice/final", MEANWHILE)
    goes_on(alice, bob, "after the stop")


def lags(alice: Machine, bob: Machine) -> None:
    """Both say so, and both work; nobody is accused."""
    (alice.path / "at the stop").write_bytes(b"no epoch holds this")
    for machine in (alice, bob):
        machine.wait_word("lagging", timeout_s=LAGGING_S)
        assert machine.evidence_files() == []
        folder = machine.path / f"by {machine.name}"
        folder.mkdir()
        (folder / "draft").write_bytes(MEANWHILE)
        (folder / "draft").rename(folder / "final")
        assert machine.read(f"by {machine.name}/final") == MEANWHILE
        assert os.getxattr(folder / "final", "user.parsec.state") != b"audited"
    assert alice.verify() == 20  # it waits for the nodes that do not answer
    assert alice.run("wait", "--audited", "--timeout", "1")[0] == 21

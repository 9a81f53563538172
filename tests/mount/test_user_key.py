"""A user renews their key while two devices have the workspace mounted; a third joins later, and
one comes back from paper that is older than the key.

Data flow: `parsec-fs device rotate-user-key` -> org log -> daemons make a new realm key -> files.
"""

import os
import shlex
from collections.abc import Iterator

import pytest

from tests.support.product import ROOT, Machine, Product, poll, product
from tests.support.requirements import require_fuse
from tests.support.terminals import Terminal

SLOWEST_S = 30.0


@pytest.fixture
def server() -> Iterator[Product]:
    require_fuse()
    with product() as running:
        yield running


def from_paper(server: Product, words: list[str]) -> Machine:
    """A new machine, with nothing but the words and the server's address."""
    machine = server.machine("dave")
    tried = machine.cli("recovery", "drill", "--server", server.server_url, stdin=" ".join(words))
    assert (tried["works"], tried["generations"]) == (True, 2)
    assert not machine.home.root.exists()
    machine.cli("recovery", "use", "--server", server.server_url, stdin="\n".join(words))
    return machine


def interrupted(machine: Machine) -> int:
    """Exit code of a command that is interrupted at its question."""
    command = shlex.join(machine.command("recovery", "create"))
    terminal = Terminal(command, environment=os.environ, folder=ROOT)
    try:
        terminal.expect("Type words", SLOWEST_S)
        terminal.interrupt()
        return terminal.end(SLOWEST_S)
    finally:
        terminal.kill()


def test_new_user_key_under_mounted_workspaces(server: Product) -> None:
    alice = server.first_device("alice").mount()
    (alice.path / "before").write_bytes(b"under the first key")
    bob = server.next_device(alice, "bob").mount()
    bob.wait_file("before", b"under the first key")
    assert interrupted(alice) == 130
    assert alice.status()["recovery"] == []
    kit = alice.cli("recovery", "create", "--no-check")

    renewed = alice.cli("device", "rotate-user-key")
    assert renewed["generation"] == 2
    devices = {alice.device_id(), bob.device_id(), kit["device"]}
    assert {one["id"] for one in renewed["devices"]} == devices

    def rekeyed() -> bool:
        logs = [server.programs.log(one.program).read_text() for one in (alice, bob)]
        return any("made key 2 of the workspace" in one for one in logs)

    poll(rekeyed, SLOWEST_S, alice.log_tail)
    (bob.path / "after").write_bytes(b"under the second key")
    alice.wait_file("after", b"under the second key")
    carol = server.next_device(bob, "carol").mount()
    dave = from_paper(server, kit["words"]).mount()
    for name, content in (("before", b"under the first key"), ("after", b"under the second key")):
        carol.wait_file(name, content)
        dave.wait_file(name, content)
    assert dave.status()["recovery"] == [kit["kit"]]
    for machine in (alice, bob, carol, dave):
        machine.wait_word("verified")
        assert not machine.evidence_files()

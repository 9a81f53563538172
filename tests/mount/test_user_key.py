"""A user renews their key while two devices have the workspace mounted, and a third joins later.

Data flow: `parsec-fs device rotate-user-key` -> org log -> daemons make a new realm key -> files.
"""

from collections.abc import Iterator

import pytest

from tests.support.product import Product, poll, product
from tests.support.requirements import require_fuse

SLOWEST_S = 30.0


@pytest.fixture
def server() -> Iterator[Product]:
    require_fuse()
    with product() as running:
        yield running


def test_new_user_key_under_mounted_workspaces(server: Product) -> None:
    alice = server.first_device("alice").mount()
    (alice.path / "before").write_bytes(b"under the first key")
    bob = server.next_device(alice, "bob").mount()
    bob.wait_file("before", b"under the first key")

    renewed = alice.cli("device", "rotate-user-key")
    assert renewed["generation"] == 2
    assert {one["id"] for one in renewed["devices"]} == {alice.device_id(), bob.device_id()}

    def rekeyed() -> bool:
        logs = [server.programs.log(one.program).read_text() for one in (alice, bob)]
        return any("made key 2 of the workspace" in one for one in logs)

    poll(rekeyed, SLOWEST_S, alice.log_tail)
    (bob.path / "after").write_bytes(b"under the second key")
    alice.wait_file("after", b"under the second key")
    carol = server.next_device(bob, "carol").mount()
    for name, content in (("before", b"under the first key"), ("after", b"under the second key")):
        carol.wait_file(name, content)
    for machine in (alice, bob, carol):
        machine.wait_word("verified")
        assert not machine.evidence_files()

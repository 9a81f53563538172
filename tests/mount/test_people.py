"""Two people, two machines, one workspace: invited, shared, only read, written, taken away.

Data flow: `parsec-fs user`, `workspace share` -> server -> mounts of both.
"""

import errno
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.pairs import exchange
from tests.support.product import WORKSPACE, Machine, Product, poll, product
from tests.support.requirements import require_fuse

SLOWEST_S = 40.0


@pytest.fixture
def server() -> Iterator[Product]:
    require_fuse()
    with product() as running:
        yield running


def invite(inviter: Machine, machine: Machine) -> None:
    """As two people on the telephone."""
    asked = ("user", "invite", machine.name, "--email", "bob@acme.example")
    with (
        inviter.started(*asked) as here,
        machine.started("user", "join", "--device", "tablet") as there,
    ):
        exchange(here, there, timeout_s=SLOWEST_S)


def open_to_write(path: Path) -> None:
    """And nothing else."""
    with path.open("r+b"):
        pass


def seen_since(bob: Machine, id: str) -> None:
    """Who came, with which role, in which epoch; who changed how much."""
    document = bob.cli("audit", "--since", "0", id)
    events = document["events"]
    assert [one["person"]["name"] for one in events if one["kind"] == "joined"] == ["alice", "bob"]
    (role,) = [one for one in events if one["kind"] == "role" and one["role"] == "auditor"]
    assert (role["person"]["email"], role["workspace"]) == ("bob@acme.example", id)
    assert role["by"]["device"] == "alice"
    assert isinstance(events[0]["epoch"], int)
    (workspace,) = document["workspaces"]
    assert {one["by"]["name"] for one in workspace["changes"]} == {"alice"}
    assert sum(one["operations"] for one in workspace["changes"]) > 0


def verifies_without_opening(alice: Machine, bob: Machine) -> None:
    """Bob as an auditor: he verifies the whole log, and neither mounts nor reads."""
    alice.wait()
    shared = alice.cli("workspace", "share", WORKSPACE, "bob", "--role", "auditor")
    id = shared["workspace_id"][:8]
    listed = bob.cli("workspace", "list")
    assert [one["id"][:8] for one in listed["without_key"]] == [id]
    report = bob.cli("audit", id)
    assert (report["verified"], report["records"] >= report["audited"] > 0) == (True, True)
    assert [one["role"] for one in bob.cli("members", id)["members"]] == ["owner", "auditor"]
    seen_since(bob, id)
    code, refused = bob.run("mount", id, str(bob.path))
    assert (code, f"parsec-fs audit {id}" in refused["error"]) == (13, True)
    kept = b"".join(file.read_bytes() for file in bob.home.root.rglob("*") if file.is_file())
    assert b"meet at noon" not in kept


def test_invite_share_read_write_and_take_away(server: Product, tmp_path: Path) -> None:
    alice = server.first_device("alice").mount()
    (alice.path / "plan").write_bytes(b"meet at noon")
    bob = server.machine("bob")
    invite(alice, bob)
    users = alice.cli("user", "list")["users"]
    assert [(one["name"], one["email"]) for one in users][1] == ("bob", "bob@acme.example")
    assert bob.cli("workspace", "list")["workspaces"] == []

    verifies_without_opening(alice, bob)
    assert alice.cli("workspace", "share", WORKSPACE, "bob", "--role", "reader")["changed"]
    (listed,) = bob.cli("workspace", "list")["workspaces"]
    assert listed["name"] == WORKSPACE
    bob.mount()
    bob.wait_file("plan", b"meet at noon")
    plan = bob.path / "plan"
    assert bob.errno_of(lambda: open_to_write(plan)) == errno.EACCES
    assert bob.errno_of(lambda: (bob.path / "new").write_bytes(b"")) == errno.EACCES
    code, refused = bob.run("workspace", "share", WORKSPACE, "bob", "--role", "owner")
    assert (code, "your role does not allow" in refused["error"]) == (13, True)

    alice.cli("workspace", "share", WORKSPACE, "bob@acme.example", "--role", "contributor")
    poll(lambda: bob.errno_of(lambda: open_to_write(plan)) == 0, SLOWEST_S, bob.log_tail)
    plan.write_bytes(b"meet at one")
    alice.wait_file("plan", b"meet at one")
    rows = bob.cli("members", WORKSPACE)["members"]
    assert [(one["name"], one["role"]) for one in rows] == [
        ("alice", "owner"),
        ("bob", "contributor"),
    ]

    assert alice.cli("workspace", "unshare", WORKSPACE, "bob")["changed"]
    (alice.path / "plan").write_bytes(b"without bob")
    alice.wait("logged")
    poll(lambda: "NOT_ALLOWED" in bob.status()["trouble"], SLOWEST_S, bob.log_tail)
    (bob.path / "of bob").write_bytes(b"not sent")
    assert bob.read("plan") == b"meet at one"

    events = alice.cli("audit", "--since", "1h")["events"]
    roles = [one["role"] for one in events if one["kind"] == "role"]
    assert roles == ["owner", "auditor", "reader", "contributor", "none"]
    code, asked = alice.run("user", "revoke", "bob@acme.example")
    assert (code, "nothing was done" in asked["error"]) == (2, True)
    assert alice.cli("user", "revoke", "bob@acme.example", "--yes")["revoked"].startswith("bob <")
    assert [one["revoked"] for one in alice.cli("user", "list")["users"]] == [False, True]
    assert [one["revoked"] for one in alice.cli("device", "list")["devices"]] == [False, True]
    code, told = bob.run("user", "list")
    assert (code, "this device was revoked" in told["error"]) == (14, True)
    code, told = bob.run("mount", "--all", str(bob.path.parent / "all"))
    assert (code, "all workspaces are mounted already" in told["error"]) == (10, True)
    poll(lambda: "was revoked" in bob.status()["trouble"], 2 * SLOWEST_S, bob.log_tail)
    assert bob.errno_of(lambda: open_to_write(plan)) == errno.EACCES
    assert bob.read("plan") == b"meet at one"
    saved = tmp_path / "saved"
    assert bob.cli("export", "--unsynced", str(saved))["files"] == 1
    assert (saved / "of bob").read_bytes() == b"not sent"
    for machine in (alice, bob):
        assert not machine.evidence_files()

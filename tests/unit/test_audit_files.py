"""The floor in org.db, evidence on the disk, and the report that people read.

Data flow: simulated device -> DeviceAuditStore -> new process; TrustedState -> Report.
"""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from parsec_fs.audit.audit_store import DeviceAuditStore
from parsec_fs.audit.auditor import Auditor
from parsec_fs.audit.client_state import Word
from parsec_fs.audit.clock import SystemClock
from parsec_fs.audit.evidence import check_offline
from parsec_fs.audit.report import audit_report, proof_notes
from parsec_fs.protocol.certificates import CONTRIBUTOR
from parsec_fs.storage.org_store import OrgStore
from tests.support.audited import AuditedDevice, SimulatedChain, SimulatedLightClient
from tests.support.history import HonestServer
from tests.support.simulated_chain import operators

pytestmark = pytest.mark.allows_log("audit: ")


def make_device(**options: object) -> AuditedDevice:
    server = HonestServer(**options)  # type: ignore[arg-type]
    server.add_member("bob", CONTRIBUTOR)
    server.commit(server.alice)
    return AuditedDevice(server, SimulatedChain(server=server))


def on_disk(device: AuditedDevice, store: OrgStore, folder: Path) -> Auditor:
    """The device's auditor over real files."""
    return Auditor(
        anchor=device.anchor,
        server=device.door,
        chain=SimulatedLightClient(device.chain),
        histories=(device.org, device.realm),
        store=DeviceAuditStore(store, device.realm.log, folder / "evidence"),
        clock=device.clock,
    )


async def test_floor_and_conviction_survive_on_disk(tmp_path: Path) -> None:
    device = make_device()
    server = device.chain.server
    store = OrgStore(tmp_path / "org.db", device.anchor.org)
    await device.pull()
    device.chain.publish(server.cut())
    assert (await on_disk(device, store, tmp_path).audit_once()).word is Word.VERIFIED
    store.close()

    store = OrgStore(tmp_path / "org.db", device.anchor.org)
    auditor = on_disk(device, store, tmp_path)
    assert auditor.epochs == 1
    device.chain.publish(server.cut(realm=server.realm_log.states[-2]))
    state = await auditor.audit_once()
    store.close()
    assert state.word is Word.CONVICTED

    store = OrgStore(tmp_path / "org.db", device.anchor.org)
    again = on_disk(device, store, tmp_path).client_state()
    store.close()
    assert again.word is Word.CONVICTED
    assert again.reason
    names = os.listdir(tmp_path / "evidence")
    assert names == list(again.evidence)
    file = (tmp_path / "evidence" / names[0]).read_bytes()
    assert check_offline(file, device.anchor).kind.code == "P2"


async def test_epochs_of_leaves_are_kept_with_the_floor(tmp_path: Path) -> None:
    device = make_device()
    store = OrgStore(tmp_path / "org.db", device.anchor.org)
    await device.pull()
    device.chain.publish(device.chain.server.cut())
    await on_disk(device, store, tmp_path).audit_once()
    store.close()
    store = OrgStore(tmp_path / "org.db", device.anchor.org)
    for history in (device.org, device.realm):
        assert store.anchored(history.log) == [(0, history.size(), 0)]
    (kept,) = DeviceAuditStore.all(store, tmp_path)
    assert kept.load() == store.fact(f"audit:{device.realm.log.hex()}")
    store.close()


async def test_two_workspaces_of_one_device_keep_their_own_floors(tmp_path: Path) -> None:
    device = make_device()
    store = OrgStore(tmp_path / "org.db", device.anchor.org)
    one = DeviceAuditStore(store, device.realm.log, tmp_path)
    other = DeviceAuditStore(store, device.org.log, tmp_path)
    await one.save(b"floor")
    assert one.load() == b"floor"
    assert other.load() is None
    store.close()


def test_the_monotonic_clock_counts_on() -> None:
    clock = SystemClock()
    first = clock.monotonic_ns()
    assert clock.monotonic_ns() >= first
    assert clock.now_ns() > 1_700_000_000 * 10**9


async def test_the_report_ticks_what_was_verified() -> None:
    device = make_device()
    await device.pull()
    device.chain.publish(device.chain.server.cut())
    await device.audit()
    auditor = device.auditor
    report = audit_report(
        "research", auditor.state, auditor.client_state(), records=9, lying={"http://n": "lied"}
    )
    text = report.text()
    assert report.verified
    assert "research is complete and unaltered up to epoch 0." in text
    assert "newer records wait" in text
    assert "http://n: lied" in text
    assert all(tick.passed for tick in report.ticks)
    assert report.json()["verified"] is True
    assert [one["name"] for one in report.json()["ticks"]] == [one.name for one in report.ticks]


async def test_the_report_of_a_convicted_server_claims_nothing() -> None:
    device = make_device()
    server = device.chain.server
    await device.pull()
    device.chain.publish(server.cut())
    await device.audit()
    device.chain.publish(server.cut(realm=server.realm_log.states[-2]))
    await device.audit()
    auditor = device.auditor
    report = audit_report("research", auditor.state, auditor.client_state(), records=4, lying={})
    assert not report.verified
    assert "complete" not in report.text()
    assert "Evidence: p2-" in report.text()
    failed = {tick.name for tick in report.ticks if tick.passed is False}
    assert failed == {"consistency", "promises"}


async def test_a_single_validator_is_called_self_anchored() -> None:
    device = make_device(validators=operators(1))
    await device.pull()
    device.chain.publish(device.chain.server.cut())
    assert await device.audit() == Word.VERIFIED
    state = device.auditor.client_state()
    assert state.qualifiers == ("self-anchored",)
    report = audit_report("research", device.auditor.state, state, records=4, lying={})
    assert "Note, self-anchored" in report.text()


@pytest.mark.parametrize("declared", [0, 1, 3, 4])
async def test_four_validators_of_fewer_operators_are_self_anchored(declared: int) -> None:
    """Who runs them is what counts, and the genesis must say it (rule 29)."""
    four = replace(operators(1, 2, 3, 4), operators=declared)
    device = make_device(validators=four)
    await device.pull()
    device.chain.publish(device.chain.server.cut())
    assert await device.audit() == Word.VERIFIED
    qualifiers = device.auditor.client_state().qualifiers
    assert qualifiers == (() if declared == 4 else ("self-anchored",))


async def test_before_the_first_epoch_nothing_is_ticked() -> None:
    device = make_device()
    await device.audit()
    auditor = device.auditor
    report = audit_report("research", auditor.state, auditor.client_state(), records=0, lying={})
    assert not report.verified
    assert not any(tick.passed for tick in report.ticks)


async def test_a_bootstrapped_workspace_is_not_called_verified() -> None:
    """Rule 25: until the whole log was replayed, the server has committed to it, no more."""
    device = make_device()
    await device.pull()
    device.chain.publish(device.chain.server.cut())
    device.realm.vouched = device.realm.size()
    assert await device.audit() == Word.VERIFIED
    auditor = device.auditor
    report = audit_report("research", auditor.state, auditor.client_state(), records=4, lying={})
    assert not report.verified
    assert "research: the server committed to it up to epoch 0." in report.text()
    assert "Note, bootstrapped: " in report.text()
    assert "complete" not in report.text()
    assert "the server committed to" in proof_notes(auditor.client_state().qualifiers)[0]
    assert proof_notes(("self-anchored",)) == []

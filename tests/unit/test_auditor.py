"""The audit loop: floors, restarts, trouble that convicts nobody, lag under any clock.

Data flow: simulated device -> rounds -> word, stored floor, evidence.
"""

from dataclasses import replace
from pathlib import Path

import pytest
import trio

from parsec_fs.audit.chain_head import VerifiedChainHead
from parsec_fs.audit.checks import ALL_CHECKS, Checks
from parsec_fs.audit.client_state import Word
from parsec_fs.audit.ports import AuditRecord, stored_trust
from parsec_fs.audit.verdict import Kind
from parsec_fs.protocol.certificates import CONTRIBUTOR
from parsec_fs.protocol.codec import decode, encode
from parsec_fs.protocol.commands import EpochProof
from parsec_fs.protocol.errors import (
    DataError,
    ForkError,
    OfflineError,
    ProofError,
    RollbackError,
    VerificationError,
)
from parsec_fs.protocol.ids import Hash, LogId
from parsec_fs.protocol.realm_state import verify_leaf
from tests.support.audited import AuditedDevice, SimulatedChain
from tests.support.history import HonestServer
from tests.support.weakened import switched_checks

pytestmark = pytest.mark.allows_log("audit: ")


class World:
    """One device and an honest server with two members."""

    def __init__(self, *, checks: Checks = ALL_CHECKS) -> None:
        self.server = HonestServer()
        self.chain = SimulatedChain(server=self.server)
        self.bob = self.server.add_member("bob", CONTRIBUTOR)
        self.device = AuditedDevice(self.server, self.chain, checks=checks)

    async def work(self, epochs: int = 1) -> None:
        """Commits, seen here, anchored and audited."""
        for _ in range(epochs):
            self.server.commit(self.bob)
            await self.device.pull()
            self.chain.publish(self.server.cut())
        assert await self.device.audit() == Word.VERIFIED


async def test_words_of_an_ordinary_day() -> None:
    world = World()
    assert await world.device.audit() == Word.PENDING
    await world.work()
    world.server.commit(world.bob)
    await world.device.pull()
    assert world.device.auditor.client_state().word is Word.PENDING
    world.chain.publish(world.server.cut())
    assert await world.device.audit() == Word.VERIFIED
    assert world.device.auditor.client_state().qualifiers == ()


async def test_a_long_absence_is_worked_off_without_a_gap() -> None:
    world = World()
    await world.work()
    for _ in range(250):
        world.chain.publish(world.server.cut())
    assert await world.device.audit() == Word.VERIFIED
    assert world.device.auditor.epochs == 251


async def test_a_device_that_starts_late_opens_every_epoch() -> None:
    world = World()
    await world.work(epochs=5)
    late = AuditedDevice(world.server, world.chain)
    await late.pull()
    assert await late.audit() == Word.VERIFIED
    assert late.auditor.epochs == 5


async def test_the_floor_survives_a_restart() -> None:
    world = World()
    await world.work(epochs=2)
    state = world.device.auditor.state
    world.device.restart()
    assert world.device.auditor.state == state
    assert world.device.auditor.epochs == 2
    assert stored_trust(world.device.store, world.device.anchor) == state.chain
    await world.work()


async def test_a_floor_of_other_logs_is_refused() -> None:
    world = World()
    await world.work()
    record = decode(AuditRecord, world.device.store.record or b"")
    world.device.realm.log = LogId(bytes(32))
    with pytest.raises(RollbackError):
        world.device.restart()
    world.device.store.record = encode(record)[:-1]
    with pytest.raises(DataError):
        world.device.restart()


async def test_nothing_is_reported_before_it_is_stored() -> None:
    world = World()
    await world.work()

    async def full_disk(record: bytes) -> None:
        raise OSError(28, "no space")

    world.device.store.before_save = full_disk
    world.chain.publish(world.server.cut())
    with pytest.raises(OSError, match="no space"):
        await world.device.audit()
    assert world.device.auditor.epochs == 1


async def test_waiting_for_an_index_ends_with_its_epoch() -> None:
    world = World()
    await world.work()
    index = world.server.commit(world.bob) + 1
    log = world.server.realm_log.log
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            await nursery.start(world.device.auditor.run)
            world.chain.publish(world.server.cut())
            await world.device.auditor.wait_audited(log, index)
            nursery.cancel_scope.cancel()
    assert world.device.auditor.verified_index(log) == index


async def test_anchored_comes_before_the_comparison_and_audited_after_it(tmp_path: Path) -> None:
    off = tmp_path / "off"
    world = World(checks=switched_checks(off))
    await world.work()
    auditor, log = world.device.auditor, world.server.realm_log.log
    assert auditor.anchored_index(log) == auditor.verified_index(log)

    off.touch()
    index = world.server.commit(world.bob) + 1
    await world.device.pull()
    await world.device.audit()
    assert auditor.anchored_index(log) < index  # logged, and no checkpoint covers it
    world.chain.publish(world.server.cut())
    await world.device.audit()
    assert auditor.verified_index(log) < auditor.anchored_index(log) == index

    off.unlink()
    assert await world.device.audit() == Word.VERIFIED
    assert auditor.verified_index(log) == auditor.anchored_index(log) == index


async def test_doubt_takes_the_word_anchored_back(tmp_path: Path) -> None:
    off = tmp_path / "off"
    world = World(checks=switched_checks(off))
    await world.work()
    auditor, log = world.device.auditor, world.server.realm_log.log
    off.touch()
    world.server.commit(world.bob)
    await world.device.pull()
    world.chain.publish(world.server.cut())
    await world.device.audit()
    assert auditor.anchored_index(log) > auditor.verified_index(log)
    world.chain.failure = ProofError("chain node http://node: state proof does not lead there")
    assert await world.device.audit() == Word.SUSPECT
    assert auditor.anchored_index(log) == auditor.verified_index(log)


async def test_catching_up_ends_or_says_why_not() -> None:
    world = World()
    await world.work()
    assert world.device.auditor.most_due() == 2
    with pytest.raises(OfflineError):
        await world.device.auditor.catch_up(2)
    world.chain.publish(world.server.cut())
    await world.device.auditor.catch_up(2)
    assert world.device.auditor.most_due() == 3


# Trouble that convicts nobody (rules 30, 32)


async def test_a_restored_server_that_refuses_and_heals_is_never_convicted() -> None:
    world = World()
    await world.work()
    backup = world.server.fork()
    backup.random, backup.alice = world.server.random, world.server.alice
    world.server.commit(world.bob)
    world.server.commit(world.bob)
    await world.device.pull()
    lost = world.server.realm_log.leaves[len(backup.realm_log.leaves) :]
    world.device.door.reachable = False
    world.server.tick(30_000)
    assert await world.device.audit() == Word.LAGGING
    for leaf in lost:
        org = backup.org_states[leaf.header.org_size - 1]
        backup.take(
            leaf, verify_leaf(backup.realm_state, leaf, org=org, objects=backup.objects.get)
        )
    backup.now_ms = world.server.now_ms
    world.device.door.server, world.device.door.reachable = backup, True
    await world.device.pull()
    world.chain.publish(backup.cut())
    assert await world.device.audit() == Word.VERIFIED
    assert not world.device.store.evidence


async def test_a_server_behind_its_own_promises_is_suspect_until_it_heals() -> None:
    world = World()
    await world.work()
    log = world.server.realm_log.log
    world.server.commit(world.bob)
    await world.device.pull()
    world.device.door.shown[log] = world.device.realm.size() - 1
    with pytest.raises(RollbackError) as caught:
        await world.device.pull()
    await world.device.auditor.report(caught.value)
    assert world.device.auditor.client_state().word is Word.SUSPECT
    del world.device.door.shown[log]
    await world.device.pull()
    world.chain.publish(world.server.cut())
    assert await world.device.audit() == Word.VERIFIED
    assert not world.device.store.evidence


async def test_a_lying_chain_node_makes_suspicious_and_no_more() -> None:
    world = World()
    await world.work()
    world.chain.failure = ProofError("chain node http://node: state proof does not lead there")
    assert await world.device.audit() == Word.SUSPECT
    assert not world.device.store.evidence
    world.chain.failure = None
    assert await world.device.audit() == Word.VERIFIED


async def test_a_chain_node_that_is_behind_is_no_proof_of_anything() -> None:
    world = World()
    await world.work(epochs=3)
    newest = world.chain.statements.pop()
    await world.device.audit()
    assert world.device.auditor.client_state().word is Word.VERIFIED
    assert world.device.auditor.epochs == 3
    world.chain.statements.append(newest)
    assert await world.device.audit() == Word.VERIFIED


async def test_a_server_that_opens_nothing_is_behind_and_then_lags() -> None:
    world = World()
    await world.work()
    world.chain.publish(world.server.cut())
    world.device.door.opens = False
    assert await world.device.audit() == Word.VERIFIED
    assert world.device.auditor.epochs == 1
    world.server.tick(21_000)
    assert await world.device.audit() == Word.LAGGING
    assert "does not open" in world.device.auditor.client_state().reason


# Convictions


async def convicted_world() -> World:
    world = World()
    await world.work()
    world.server.commit(world.bob)
    await world.device.pull()
    past = world.server.realm_log.states[-2]
    world.chain.publish(world.server.cut(realm=past))
    assert await world.device.audit() == Word.CONVICTED
    return world


async def test_a_conviction_survives_a_restart_and_honest_days() -> None:
    world = await convicted_world()
    world.device.frozen.clear()
    world.device.restart()
    assert world.device.auditor.client_state().word is Word.CONVICTED
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            await nursery.start(world.device.auditor.run)
            nursery.cancel_scope.cancel()
    assert world.device.frozen == [True]
    world.chain.publish(world.server.cut())
    assert await world.device.audit() == Word.CONVICTED
    assert world.device.auditor.epochs == 1


async def test_evidence_is_durable_before_the_conviction_that_names_it() -> None:
    world = World()
    await world.work()
    seen: list[int] = []

    async def look(record: bytes) -> None:
        if decode(AuditRecord, record).convictions:
            seen.append(len(world.device.store.evidence))

    world.device.store.before_save = look
    world.server.commit(world.bob)
    await world.device.pull()
    world.chain.publish(world.server.cut(realm=world.server.realm_log.states[-2]))
    assert await world.device.audit() == Word.CONVICTED
    assert seen == [1]


async def test_two_heads_of_one_size_convict_when_a_replica_reports_them() -> None:
    world = World()
    await world.work()
    log, twin = world.server.realm_log.log, world.server.fork()
    twin.commit(twin.alice)
    world.server.commit(world.bob)
    one, two = world.server.head(log), twin.head(log)
    error = ForkError("two heads", evidence=(encode(one[1]), encode(two[1])))
    await world.device.auditor.report(error)
    assert world.device.auditor.client_state().word is Word.CONVICTED
    assert [verdict.kind for verdict in world.device.verdicts()] == [Kind.SPLIT_VIEW]


async def test_a_report_without_proof_convicts_nobody() -> None:
    world = World()
    await world.work()
    log = world.server.realm_log.log
    honest = encode(world.server.head(log)[1])
    junk = (b"", b"\xff" * 40, honest, honest, honest[:-1])
    await world.device.auditor.report(VerificationError("odd", evidence=junk))
    assert world.device.auditor.client_state().word is Word.SUSPECT
    assert not world.device.store.evidence
    assert await world.device.audit() == Word.VERIFIED


# Clocks (T12, A45)


@pytest.mark.parametrize("years", [-10, 0])
async def test_a_silent_publisher_lags_whatever_the_wall_clock_says(years: int) -> None:
    world = World()
    await world.work()
    world.device.clock.turn_wall(years * 365.25 * 86_400)
    world.server.tick(19_000)
    assert await world.device.audit() == Word.VERIFIED
    world.server.tick(2_000)
    assert await world.device.audit() == Word.LAGGING
    assert not world.device.auditor.client_state().writes_stay_local
    world.server.tick(120_000)
    assert world.device.auditor.client_state().writes_stay_local


async def test_a_wall_clock_set_forward_raises_a_false_alarm_at_most() -> None:
    world = World()
    await world.work()
    world.device.clock.turn_wall(10 * 365 * 86_400)
    world.chain.publish(world.server.cut())
    assert await world.device.audit() == Word.LAGGING
    world.device.clock.turn_wall(-10 * 365 * 86_400)
    assert await world.device.audit() == Word.VERIFIED


async def test_an_old_floor_shows_its_age_after_a_restart() -> None:
    world = World()
    await world.work()
    world.chain.reachable = False
    world.server.tick(3_600_000)
    world.device.restart()
    assert await world.device.audit() == Word.LAGGING
    assert world.device.auditor.client_state().age_ns >= 3600 * 10**9


def test_the_simulated_chain_proves_its_head_from_the_anchor() -> None:
    world = World()
    world.chain.publish(world.server.cut())
    head = world.chain.head()
    assert isinstance(head, VerifiedChainHead)
    assert head.statement.epoch == 0
    assert head.validator_count == 4


# A device that began with a snapshot (rule 25)


async def joined_late(epochs: int, *, vouched_for: int) -> tuple[World, AuditedDevice]:
    """A device that joins after these epochs, with a snapshot of the size of the named one."""
    world, sizes = World(), []
    for _ in range(epochs):
        await world.work()
        sizes.append(world.device.realm.size())
    late = AuditedDevice(world.server, world.chain)
    await late.pull()
    late.realm.vouched = sizes[vouched_for]
    return world, late


async def test_what_lies_before_a_snapshot_is_compared_after_the_replay() -> None:
    _, late = await joined_late(4, vouched_for=2)
    assert await late.audit() == Word.VERIFIED
    assert late.auditor.client_state().qualifiers == ("bootstrapped",)
    late.restart()
    assert late.auditor.client_state().qualifiers == ("bootstrapped",)
    late.realm.vouched = 0
    assert late.auditor.client_state().qualifiers == ("bootstrapped",), "not compared yet"
    assert await late.audit() == Word.VERIFIED
    assert late.auditor.client_state().qualifiers == ()
    late.restart()
    assert (late.auditor.epochs, late.auditor.client_state().qualifiers) == (4, ())


async def test_epochs_before_a_snapshot_audit_nothing() -> None:
    world, late = await joined_late(2, vouched_for=1)
    world.server.commit(world.bob)
    await late.pull()
    late.realm.vouched = late.realm.size()
    late.realm.heads = {late.realm.size(): late.realm.heads[late.realm.size()]}
    assert await late.audit() == Word.PENDING
    assert (late.auditor.epochs, late.auditor.verified_index(late.realm.log)) == (2, 0)
    world.chain.publish(world.server.cut())
    assert await late.audit() == Word.VERIFIED
    assert late.auditor.verified_index(late.realm.log) == late.realm.size()


async def test_another_past_than_the_anchored_one_shows_after_the_replay() -> None:
    """In one epoch only: the log goes on as everybody sees it."""
    _, late = await joined_late(4, vouched_for=2)
    assert await late.audit() == Word.VERIFIED
    size = late.auditor.state.of(late.realm.log).size - 2
    late.realm.states[size] = replace(late.realm.states[size], map_root=Hash(bytes(32)))
    late.realm.vouched = 0
    for _ in range(2):
        assert await late.audit() == Word.SUSPECT
        assert late.auditor.client_state().qualifiers == ("bootstrapped",)
    assert not late.auditor.convicted


# Since when a leaf is anchored


async def test_each_leaf_is_recorded_with_the_first_epoch_that_anchors_it() -> None:
    """Whoever looks every day, comes late, or began with a snapshot: all record the same."""
    world, late = await joined_late(4, vouched_for=2)
    await late.audit()
    daily = world.device.store.anchored
    for log in late.auditor.state.logs:
        ranges = [one for one in daily if one.log == log]
        assert ranges[0].first == 0
        assert [one.first for one in ranges[1:]] == [one.size for one in ranges[:-1]]
        assert ranges[-1].size == late.auditor.state.of(log).size
    realm = [one for one in daily if one.log == late.realm.log]
    assert [one.epoch for one in realm] == [0, 1, 2, 3]
    assert late.store.anchored == daily
    late.store.anchored.clear()
    late.realm.vouched = 0
    await late.audit()
    assert late.store.anchored == daily, "once more with the replayed log"


# Other replicas than those that reached the floor: an audit without a mount


async def beside(world: World, server: HonestServer) -> AuditedDevice:
    """A second program on the device, which replays the log for itself."""
    other = AuditedDevice(server, world.chain)
    other.store.record = world.device.store.record
    other.restart(own_floor=False)
    return other


async def test_other_replicas_are_compared_with_the_floor_without_a_new_epoch() -> None:
    world = World()
    await world.work(epochs=3)
    other = await beside(world, world.server)
    assert (other.auditor.epochs, other.realm.size()) == (3, 0)
    assert await other.audit() == Word.VERIFIED
    assert other.realm.size() == world.device.realm.size()


async def test_another_log_than_the_one_below_the_floor_convicts() -> None:
    world = World()
    await world.work()
    twin = world.server.fork()
    await world.work()
    twin.commit(twin.alice)
    other = await beside(world, twin)
    await other.pull()
    assert await other.audit() == Word.CONVICTED
    assert {one.kind for one in other.verdicts()} == {Kind.SPLIT_VIEW}


def another_salt(proof: EpochProof) -> EpochProof:
    """The same epoch, committed to in another leaf of E."""
    return replace(proof, opening=replace(proof.opening, salt=bytes(32)))


async def test_other_epochs_than_the_verified_ones_show_after_the_replay() -> None:
    _, late = await joined_late(4, vouched_for=2)
    assert await late.audit() == Word.VERIFIED
    late.realm.vouched = 0
    late.door.twist = another_salt
    assert await late.audit() == Word.SUSPECT
    late.door.twist = lambda proof: proof
    assert await late.audit() == Word.VERIFIED


async def test_a_past_that_is_known_to_be_false_is_no_matter_of_one_round() -> None:
    _, late = await joined_late(3, vouched_for=1)
    late.realm.past_failure = ForkError("the replayed log and the snapshot differ")
    for _ in range(2):
        assert await late.audit() == Word.SUSPECT
        assert not late.auditor.may_send()
    late.realm.past_failure = None
    assert await late.audit() == Word.VERIFIED

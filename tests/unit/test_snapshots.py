"""Snapshots of a realm: what an honest server says opens, everything else is refused (rule 34).

Data flow: an honest realm, told again at an old size -> start and pages, one thing wrong -> error.
"""

from dataclasses import replace

import pytest

from parsec_fs.protocol.certificates import CONTRIBUTOR, MANAGER, NO_ROLE, READER, Role
from parsec_fs.protocol.codec import decode, encode
from parsec_fs.protocol.errors import DataError, ProofError, SignatureError, TrustchainError
from parsec_fs.protocol.ids import Hash
from parsec_fs.protocol.log_state import DeviceChainError
from parsec_fs.protocol.realm_state import RealmState, verify_leaf
from parsec_fs.protocol.snapshots import Snapshot, SnapshotPage, SnapshotStart, open_start
from tests.support.honest_logs import HonestRealm, workspace_of_three
from tests.support.honest_snapshots import Told, keys_of, pages, told_at


@pytest.fixture
def realm() -> HonestRealm:
    """A realm with writes, tombstones, roles taken, two rotations, and a voucher by everybody."""
    realm, bob, carol = workspace_of_three(b"snapshots")
    ids = [realm.new_object() for _ in range(12)]
    realm.commit(ids[:6])
    realm.commit(ids[4:9], bob)
    realm.commit(ids[:1], deleted=True)
    realm.give(carol, NO_ROLE)
    realm.rotate(bob)
    realm.commit(ids[9:])
    return realm


def opened(told: Told, realm: HonestRealm) -> Snapshot:
    return open_start(told.start, expected_context=realm.context, keys=keys_of(realm))


def taken(told: Told, realm: HonestRealm, size: int = 5) -> RealmState:
    snapshot = opened(told, realm)
    for page in pages(told.items, size):
        snapshot = snapshot.after(page)
    return snapshot.finish()


def refused(told: Told, realm: HonestRealm, reason: str) -> None:
    with pytest.raises(ProofError, match=reason):
        taken(told, realm)


@pytest.mark.parametrize("size", [1, 3, 7, 100])
def test_snapshot_is_the_realm_without_chains(realm: HonestRealm, size: int) -> None:
    told = told_at(realm, len(realm.leaves))
    state = taken(told, realm, size)
    now = realm.state
    assert state == replace(now, chains={}, base=now.position.size, map=state.map)
    assert state.map.root() == now.map.root()
    assert dict(state.map.items()) == dict(now.map.items())


def test_every_old_size_opens_and_goes_on_to_the_newest(realm: HonestRealm) -> None:
    for size in range(1, len(realm.leaves) + 1):
        told = told_at(realm, size)
        state, objects = taken(told, realm), {one.object: one.state for one in told.items}
        for leaf in realm.leaves[size:]:
            step = verify_leaf(state, leaf, org=realm.org.state, objects=objects.get)
            state = step.state
            objects |= {record.object: new for record, new in step.objects}
        assert (state.position, state.map.root()) == (realm.state.position, realm.state.map.root())
        assert (state.roles, state.key) == (realm.state.roles, realm.state.key)


def test_records_survive_the_codec(realm: HonestRealm) -> None:
    told = told_at(realm, len(realm.leaves))
    assert decode(SnapshotStart, encode(told.start)) == told.start
    for page in pages(told.items, 4):
        assert decode(SnapshotPage, encode(page)) == page


def test_only_devices_that_were_asked_for_vouch(realm: HonestRealm) -> None:
    told = told_at(realm, len(realm.leaves))
    keys, author = keys_of(realm), realm.owner.device
    others = {device: key for device, key in keys.items() if device != author}
    with pytest.raises(TrustchainError, match="not asked"):
        open_start(told.start, expected_context=realm.context, keys=others)
    mixed = {author: next(iter(others.values()))}
    with pytest.raises(SignatureError):
        open_start(told.start, expected_context=realm.context, keys=mixed)


def test_voucher_of_another_log_is_refused(realm: HonestRealm) -> None:
    other = replace(realm.context, log=realm.org.context.log)
    for size in (len(realm.leaves), 2):
        with pytest.raises(SignatureError):
            start = told_at(realm, size).start
            open_start(start, expected_context=other, keys=keys_of(realm))


def test_voucher_that_has_seen_nothing_is_refused(realm: HonestRealm) -> None:
    told = told_at(realm, len(realm.leaves))
    first = replace(told.start, voucher=realm.leaves[0].body)
    with pytest.raises(ProofError, match="another size"):
        opened(replace(told, start=first), realm)


def test_garbage_is_no_voucher(realm: HonestRealm) -> None:
    told = told_at(realm, len(realm.leaves))
    with pytest.raises(DataError):
        opened(replace(told, start=replace(told.start, voucher=b"\x90")), realm)


def test_state_of_another_size_is_refused(realm: HonestRealm) -> None:
    now, before = told_at(realm, len(realm.leaves)), told_at(realm, len(realm.leaves) - 1)
    start = replace(now.start, last=before.start.last, frontier=before.start.frontier)
    with pytest.raises(ProofError, match="another size"):
        opened(replace(now, start=start), realm)
    refused(replace(now, items=before.items), realm, "not as many")
    old = replace(before, start=replace(before.start, objects=len(now.items)), items=now.items)
    refused(old, realm, "does not fit")


def test_another_leaf_or_frontier_is_refused(realm: HonestRealm) -> None:
    told = told_at(realm, 8)
    wrong = Hash(bytes(32))
    for start in (
        replace(told.start, last=replace(told.start.last, time_ms=told.start.last.time_ms + 1)),
        replace(told.start, frontier=(wrong, *told.start.frontier[1:])),
    ):
        with pytest.raises(ProofError, match="log root"):
            opened(replace(told, start=start), realm)
    with pytest.raises(DataError):
        short = replace(told.start, frontier=told.start.frontier[1:])
        opened(replace(told, start=short), realm)


def test_roles_follow_from_the_map(realm: HonestRealm) -> None:
    told = told_at(realm, len(realm.leaves))
    roles = told.start.roles
    raised = tuple(replace(one, role=MANAGER) for one in roles)
    extra = Role(user=realm.org.new_person().user, role=CONTRIBUTOR)
    revived = tuple(replace(one, role=one.role or READER) for one in roles)
    for wrong in (raised, roles[1:], revived, tuple(sorted((*roles, extra), key=lambda r: r.user))):
        refused(replace(told, start=replace(told.start, roles=wrong)), realm, "map root")


def test_created_and_rotations_follow_from_the_map(realm: HonestRealm) -> None:
    told = told_at(realm, len(realm.leaves))
    start = told.start
    stranger = realm.org.new_person()
    owned = replace(start, created=replace(start.created, owner=stranger.user))
    refused(replace(told, start=owned), realm, "map root")
    older = replace(start, rotations=start.rotations[:1])
    refused(replace(told, start=older), realm, "map root")
    last = replace(start.rotations[-1], commitment=Hash(bytes(32)))
    refused(
        replace(told, start=replace(start, rotations=(start.rotations[0], last))), realm, "map root"
    )
    with pytest.raises(ProofError, match="rotation"):
        opened(replace(told, start=replace(start, rotations=start.rotations[1:])), realm)
    with pytest.raises(ProofError, match="another realm"):
        other = replace(start.created, realm=type(realm.id)(bytes(32)))
        opened(replace(told, start=replace(start, created=other)), realm)


def test_every_forged_item_is_refused(realm: HonestRealm) -> None:
    told = told_at(realm, len(realm.leaves))
    one = told.items[3]
    wrong = Hash(b"x" * 32)
    record, state = one.record, one.state
    for forged, reason in (
        (replace(one, record=replace(record, payload=wrong)), "last write"),
        (replace(one, record=replace(record, blocks_root=wrong)), "last write"),
        (replace(one, commit=wrong), "last write"),
        (replace(one, state=replace(state, write=wrong)), "last write"),
        (replace(one, state=replace(state, version=state.version + 1)), "does not fit"),
        (replace(one, state=replace(state, flags=1)), "does not fit"),
        (replace(one, state=replace(state, write_index=len(realm.leaves))), "does not fit"),
        (replace(one, state=replace(state, operations=state.operations + 1)), "map root"),
        (replace(one, state=replace(state, history=wrong)), "map root"),
        (replace(one, state=replace(state, write_index=state.write_index - 1)), "map root"),
    ):
        items = (*told.items[:3], forged, *told.items[4:])
        refused(replace(told, items=items), realm, reason)


def test_no_item_can_be_left_out_added_or_moved(realm: HonestRealm) -> None:
    told = told_at(realm, len(realm.leaves))
    for at in range(len(told.items)):
        left = (*told.items[:at], *told.items[at + 1 :])
        refused(replace(told, items=left), realm, "not as many")
        less = replace(told.start, objects=len(left))
        refused(replace(told, start=less, items=left), realm, "map root")
    refused(replace(told, items=(*told.items, told.items[-1])), realm, "increase")
    refused(replace(told, items=(told.items[1], told.items[0], *told.items[2:])), realm, "increase")
    refused(replace(told, start=replace(told.start, objects=3)), realm, "not as many")


def test_pages_must_lead_on(realm: HonestRealm) -> None:
    snapshot = opened(told_at(realm, len(realm.leaves)), realm)
    with pytest.raises(ProofError, match="empty page"):
        snapshot.after(SnapshotPage(items=(), more=1))
    with pytest.raises(ProofError, match="not as many"):
        snapshot.after(SnapshotPage(items=(), more=0))
    with pytest.raises(ProofError, match="not as many"):
        snapshot.finish()


def test_chains_are_adopted_once_after_the_base(realm: HonestRealm) -> None:
    """The map does not hold device chains: the first record of a device is taken as it comes, the
    next one must follow it."""
    size = len(realm.leaves)
    state = taken(told_at(realm, size), realm)
    objects = dict(realm.objects)
    before = realm.state.chains[realm.owner.device]
    first, second = (realm.commit([realm.new_object()]) for _ in range(2))
    state = verify_leaf(state, first, org=realm.org.state, objects=objects.get).state
    assert set(state.chains) == {realm.owner.device}
    chain = state.chains[realm.owner.device]
    assert chain.sequence == before.sequence + 1
    forgetful = replace(state, chains={realm.owner.device: replace(chain, last=Hash(bytes(32)))})
    with pytest.raises(DeviceChainError):
        verify_leaf(forgetful, second, org=realm.org.state, objects=objects.get)
    verify_leaf(state, second, org=realm.org.state, objects=objects.get)


def test_whoever_replays_from_the_start_adopts_nobody(realm: HonestRealm) -> None:
    unknown = replace(realm.state, chains={})
    leaf = realm.commit([realm.new_object()])
    with pytest.raises(DeviceChainError):
        verify_leaf(unknown, leaf, org=realm.org.state, objects=realm.objects.get)

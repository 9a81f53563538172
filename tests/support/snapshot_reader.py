"""Takes snapshots as a joining device does, from a server or from a liar in between.

Data flow: RawDevice -> snapshot commands -> `open_start`, `after`, `finish` -> state, items.
"""

from collections.abc import Sequence

from parsec_fs.protocol.ids import DeviceId, LogId, ObjectId, RealmId
from parsec_fs.protocol.membership import realm_context
from parsec_fs.protocol.realm_state import RealmState, verify_leaf
from parsec_fs.protocol.records import ObjectState
from parsec_fs.protocol.snapshots import SnapshotItem, open_start
from parsec_fs.workspace.replica_checks import REPLICA_CHECKS, ReplicaChecks
from tests.support.devices import RawDevice


async def take(
    device: RawDevice,
    realm: RealmId,
    vouchers: Sequence[DeviceId],
    *,
    most: int,
    checks: ReplicaChecks = REPLICA_CHECKS,
) -> tuple[RealmState, tuple[SnapshotItem, ...]]:
    """A verified snapshot, in pages of at most `most` objects."""
    org = device.org_state()
    start = await device.server.read_snapshot(realm, tuple(vouchers))
    snapshot = open_start(
        start,
        expected_context=realm_context(org, realm),
        keys={one: org.device(one).key for one in vouchers},
    )
    items = list[SnapshotItem]()
    while snapshot.count < snapshot.objects:
        page = await device.server.read_snapshot_page(
            realm, snapshot.position.size, snapshot.last, most
        )
        assert len(page.items) <= most
        snapshot = snapshot.after(page)
        items += page.items
    return checks.snapshot(snapshot), tuple(items)


async def items_at(
    device: RawDevice, realm: RealmId, size: int, *, most: int
) -> dict[ObjectId, SnapshotItem]:
    """All objects at a size, as the server tells them."""
    found = dict[ObjectId, SnapshotItem]()
    last: tuple[ObjectId, ...] = ()
    while True:
        page = await device.server.read_snapshot_page(realm, size, last, most)
        found |= {one.object: one for one in page.items}
        last = tuple(one.object for one in page.items[-1:])
        if not page.more:
            return found


async def replay(
    device: RawDevice, realm: RealmId
) -> tuple[list[RealmState], list[dict[ObjectId, ObjectState]]]:
    """State and objects after every number of leaves."""
    await device.pull_org()
    org = device.org_state()
    state, now = RealmState(context=realm_context(org, realm)), dict[ObjectId, ObjectState]()
    states, objects = [state], [now]
    while True:
        found = await device.server.read_leaves(LogId(realm), state.position.size, 1000)
        for leaf in found.leaves:
            step = verify_leaf(state, leaf, org=org, objects=now.get)
            state, now = step.state, now | {record.object: new for record, new in step.objects}
            states.append(state)
            objects.append(now)
        if state.position.size >= found.head.head.size:
            return states, objects

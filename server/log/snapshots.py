"""Snapshots of realms: which size is vouched for, and everything of the realm at that size (R-34).

Data flow: reader, after access -> `start_of`, `page_of` in one transaction -> SnapshotStart, page.

A voucher is only offered if what its author claims to have seen is what the log holds: a device
that signs nonsense must not keep others of its user from a snapshot. The one who asks believes
neither; it recomputes both roots.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from parsec_fs.protocol.certificates import (
    RealmCreated,
    Role,
    Rotation,
    decode_content,
    peek_certificate,
)
from parsec_fs.protocol.ids import DeviceId, LogId, UserId
from parsec_fs.protocol.merkle import Frontier
from parsec_fs.protocol.realm_state import RealmState
from parsec_fs.protocol.records import Leaf, Seen
from parsec_fs.protocol.snapshots import (
    PAGE_MOST,
    ReadSnapshotPage,
    SnapshotPage,
    SnapshotStart,
    voucher_header,
)
from server.store import logs, objects, records, subtrees
from server.store.database import Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class _Voucher:
    """The newest record of a device, and what its author had seen."""

    body: bytes
    seen: Seen


def start_of(
    transaction: Transaction, state: RealmState, devices: Iterable[DeviceId]
) -> SnapshotStart | None:
    """The realm as the device with the newest view has seen it, but for the objects. None if none
    of them has written here after it had seen anything."""
    log = state.context.log
    node = subtrees.node_source(transaction, log)
    for voucher in _vouchers(transaction, state, devices):
        size = voucher.seen.size
        before = subtrees.frontier_at(node, size - 1)
        last = _leaf(transaction, log, size - 1)
        if _is_true(transaction, state, voucher.seen, before.append(last.header.hash())):
            return _start(transaction, log, voucher, before, last)
    return None


def page_of(transaction: Transaction, request: ReadSnapshotPage) -> SnapshotPage:
    """Objects of a realm at a size; one more than asked for is read, to know if it exists."""
    most = max(1, min(request.most, PAGE_MOST))
    after = request.after[0] if request.after else None
    log = LogId(request.realm)
    found = objects.items_at(transaction, log, request.size, after, most + 1)
    return SnapshotPage(items=tuple(found[:most]), more=int(len(found) > most))


def _vouchers(
    transaction: Transaction, state: RealmState, devices: Iterable[DeviceId]
) -> Iterator[_Voucher]:
    """Newest records of these devices in this log, those that have seen most first."""
    log = state.context.log
    last = [state.chains[one].last for one in devices if one in state.chains]
    found = list[_Voucher]()
    for index in records.accepted_records(transaction, log, last).values():
        body = _leaf(transaction, log, index).body
        found.append(_Voucher(body=body, seen=voucher_header(body).seen))
    found.sort(key=lambda one: one.seen.size, reverse=True)
    return (one for one in found if one.seen.size > 0)


def _is_true(transaction: Transaction, state: RealmState, seen: Seen, frontier: Frontier) -> bool:
    """Did the log have these roots at that size?"""
    if seen.size == state.position.size:
        map_root = state.map.root()
    else:
        map_root = _leaf(transaction, state.context.log, seen.size).header.map_root
    return (seen.log_root, seen.map_root) == (frontier.root(), map_root)


def _start(
    transaction: Transaction, log: LogId, voucher: _Voucher, before: Frontier, last: Leaf
) -> SnapshotStart:
    size = voucher.seen.size
    created = list[RealmCreated]()
    roles = dict[UserId, Role]()
    rotations = list[Rotation]()
    for body in logs.certificates(transaction, log, size):
        certificate = peek_certificate(body)
        content = decode_content(certificate.kind, certificate.content)
        if isinstance(content, Role):
            roles[content.user] = content
        elif isinstance(content, Rotation):
            rotations.append(content)
        elif isinstance(content, RealmCreated):
            created.append(content)
    return SnapshotStart(
        voucher=voucher.body,
        last=last.header,
        frontier=before.nodes,
        created=created[0],
        roles=tuple(roles[user] for user in sorted(roles)),
        rotations=tuple(rotations),
        objects=objects.count_at(transaction, log, size),
    )


def _leaf(transaction: Transaction, log: LogId, index: int) -> Leaf:
    (leaf,) = logs.read_leaves(transaction, log, index, index + 1)
    return leaf

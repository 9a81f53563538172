"""Snapshots as an honest server would tell them, computed naively from the leaves of a log.

Data flow: `HonestRealm` -> `told_at` a size -> start, items -> `pages` -> verifiers and attacks.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from parsec_fs.protocol.certificates import (
    RealmCreated,
    Role,
    Rotation,
    decode_content,
    peek_certificate,
)
from parsec_fs.protocol.codec import decode
from parsec_fs.protocol.commits import CommitBody, commit_hash
from parsec_fs.protocol.ids import DeviceId, ObjectId, UserId
from parsec_fs.protocol.keys import VerifyKey
from parsec_fs.protocol.merkle import Frontier
from parsec_fs.protocol.realm_state import RealmState, verify_leaf
from parsec_fs.protocol.records import CERTIFICATE, COMMIT, Leaf, ObjectState
from parsec_fs.protocol.snapshots import (
    SnapshotItem,
    SnapshotPage,
    SnapshotStart,
    voucher_header,
)
from tests.support.honest_logs import HonestRealm


@dataclass(frozen=True, kw_only=True)
class Told:
    """A snapshot as it travels."""

    start: SnapshotStart
    items: tuple[SnapshotItem, ...]


def keys_of(realm: HonestRealm) -> dict[DeviceId, VerifyKey]:
    """Public keys of all devices of the organization."""
    return {device: one.key for device, one in realm.org.state.devices.items()}


def told_at(realm: HonestRealm, size: int) -> Told:
    """The realm after `size` leaves, vouched for by the record that follows, or by one that the
    owner signs now."""
    leaves = realm.leaves[:size]
    if size < len(realm.leaves):
        voucher = realm.leaves[size].body
    else:
        voucher = realm.sign_commit([realm.record(realm.new_object())], realm.owner)
    assert voucher_header(voucher).seen.size == size
    items = items_of(realm, leaves)
    before = Frontier().extend([one.header.hash() for one in leaves[:-1]])
    created, roles, rotations = certificates_of(leaves)
    start = SnapshotStart(
        voucher=voucher,
        last=leaves[-1].header,
        frontier=before.nodes,
        created=created,
        roles=roles,
        rotations=rotations,
        objects=len(items),
    )
    return Told(start=start, items=items)


def certificates_of(
    leaves: Sequence[Leaf],
) -> tuple[RealmCreated, tuple[Role, ...], tuple[Rotation, ...]]:
    """Creation, the newest role of every user, all rotations."""
    roles, rotations = dict[UserId, Role](), list[Rotation]()
    created: RealmCreated | None = None
    for leaf in leaves:
        if leaf.header.kind != CERTIFICATE:
            continue
        certificate = peek_certificate(leaf.body)
        content = decode_content(certificate.kind, certificate.content)
        if isinstance(content, RealmCreated):
            created = content
        elif isinstance(content, Role):
            roles[content.user] = content
        elif isinstance(content, Rotation):
            rotations.append(content)
    assert created is not None
    return created, tuple(roles[user] for user in sorted(roles)), tuple(rotations)


def items_of(realm: HonestRealm, leaves: Sequence[Leaf]) -> tuple[SnapshotItem, ...]:
    """Every object after these leaves with its last write."""
    state, objects = RealmState(context=realm.context), dict[ObjectId, ObjectState]()
    items = dict[ObjectId, SnapshotItem]()
    for leaf in leaves:
        step = verify_leaf(state, leaf, org=realm.org.state, objects=objects.get)
        state = step.state
        name = commit_hash(decode(CommitBody, leaf.body)) if leaf.header.kind == COMMIT else None
        for record, new in step.objects:
            assert name is not None
            objects[record.object] = new
            items[record.object] = SnapshotItem(
                object=record.object, state=new, commit=name, record=record
            )
    return tuple(items[one] for one in sorted(items))


def pages(items: Sequence[SnapshotItem], size: int) -> Iterator[SnapshotPage]:
    """The items in pages of at most `size`."""
    for at in range(0, max(len(items), 1), size):
        yield SnapshotPage(items=tuple(items[at : at + size]), more=int(at + size < len(items)))

"""Snapshots: a realm at a size that somebody trusted has signed, without replaying its log (R-34).

Data flow: server -> `SnapshotStart`, pages -> `open_start`, `after`, `finish` -> replica.

The server is not believed. A voucher, which is a record of one's own device or of the inviter, says
which log root and map root its author had verified at some size; whatever the server hands over
must lead to both (rule 25). The map covers objects, roles, key and creation, so nothing can be
forged, left out, added or taken from another size. It does not cover device chains, former
rotations, and what the newest one seals (name, key before): chains are judged by the replay of the
whole log, rotations by their commitments and by opening what they seal.

What fails here is a wrong answer, not evidence: nobody signed it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from types import MappingProxyType
from typing import Annotated, Final

from parsec_fs.protocol.certificates import (
    OWNER,
    Content,
    RealmCreated,
    Role,
    Rotation,
    peek_certificate,
    verify_certificate,
)
from parsec_fs.protocol.codec import U32, U64, Increasing, IntRange, Size, decode, encode_trusted
from parsec_fs.protocol.commits import CommitBody, ObjectRecord, peek_commit, verify_commit
from parsec_fs.protocol.errors import DataError, ProofError, TrustchainError
from parsec_fs.protocol.hashing import object_record_hash
from parsec_fs.protocol.ids import DeviceId, Hash, ObjectId, RealmId
from parsec_fs.protocol.keys import VerifyKey
from parsec_fs.protocol.limits import ENTRY_MAX_SIZE
from parsec_fs.protocol.log_state import LogPosition
from parsec_fs.protocol.merkle import Frontier
from parsec_fs.protocol.prefix_map import BUCKET_ITEMS, PrefixMap
from parsec_fs.protocol.realm_state import RealmState, content_entry, key_state, object_entry
from parsec_fs.protocol.records import Context, DeviceHeader, LeafHeader, ObjectState, Seen

PAGE_MOST: Final = 2_000
"""Items in one page: 0.6 MB, so that nobody waits long while the server encodes one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadSnapshot:
    """realm/snapshot: the realm as the newest record of any of these devices has seen it."""

    realm: RealmId
    vouchers: Annotated[tuple[DeviceId, ...], Increasing(), Size(1, 1000)]


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotStart:
    """Everything of a realm at a size but its objects. `voucher` is the body of a record in this
    log whose author had seen that size; `last` the header of the last leaf, `frontier` that of the
    leaves before it; `roles` those that certificates gave and took (the first owner's role follows
    from `created`), `rotations` all of them; `objects` how many there are."""

    voucher: Annotated[bytes, Size(1, ENTRY_MAX_SIZE)]
    last: LeafHeader
    frontier: Annotated[tuple[Hash, ...], Size(0, 64)]
    created: RealmCreated
    roles: Annotated[tuple[Role, ...], Increasing(), Size(0, 10000)]
    rotations: Annotated[tuple[Rotation, ...], Increasing(), Size(0, 10000)]
    objects: U64


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadSnapshotPage:
    """realm/objects: objects of a realm at a size, in order of their ids: the first `most` after
    one of them, or from the beginning."""

    realm: RealmId
    size: U64
    after: Annotated[tuple[ObjectId, ...], Size(0, 1)]
    most: U32


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotItem:
    """An object: its map value, and what that takes in of its last write: the name of the commit
    and the object's record, which names payload and blocks."""

    object: ObjectId
    state: ObjectState
    commit: Hash
    record: ObjectRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotPage:
    """Objects in order of their ids, tombstones too; `more` is 1 if others follow."""

    items: Annotated[tuple[SnapshotItem, ...], Increasing(), Size(0, PAGE_MOST)]
    more: Annotated[int, IntRange(0, 1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A snapshot under verification: voucher and position hold. `map` lacks the objects after
    `last`, which is what the next page is asked for with. Nothing here counts before `finish`."""

    context: Context
    author: DeviceId
    seen: Seen
    position: LogPosition
    created: RealmCreated
    roles: tuple[Role, ...]
    rotations: tuple[Rotation, ...]
    objects: int
    map: PrefixMap = field(repr=False)
    last: tuple[ObjectId, ...] = ()
    count: int = 0

    def after(self, page: SnapshotPage) -> "Snapshot":
        """The snapshot with one more page. Raises ProofError, for any item that cannot be what it
        says or is out of order, and for a page that leads nowhere."""
        ids = [*self.last, *(one.object for one in page.items)]
        if any(first >= second for first, second in pairwise(ids)):
            raise ProofError("snapshot: objects must increase from page to page")
        if page.more and not page.items:
            raise ProofError("snapshot: an empty page that says that more follows")
        for one in page.items:
            _check_item(one, self.position.size)
        entries = [object_entry(one.object, one.state) for one in page.items]
        count = self.count + len(entries)
        if count > self.objects or page.more != (count < self.objects):
            raise ProofError("snapshot: not as many objects as announced")
        return replace(self, map=self.map.set_many(entries), last=tuple(ids[-1:]), count=count)

    def finish(self) -> RealmState:
        """The realm, once every page is in: its map is the one that the voucher's author had
        verified. Raises ProofError."""
        if self.count != self.objects:
            raise ProofError("snapshot: not as many objects as announced")
        if self.map.root() != self.seen.map_root:
            raise ProofError("snapshot does not lead to the map root that was vouched for")
        roles = {self.created.owner: OWNER} | {one.user: one.role for one in self.roles}
        return RealmState(
            context=self.context,
            position=self.position,
            map=self.map,
            roles=MappingProxyType(roles),
            key=key_state(self.rotations[-1]) if self.rotations else None,
            rotations=self.rotations,
            base=self.position.size,
        )


def open_start(
    unverified: SnapshotStart, *, expected_context: Context, keys: Mapping[DeviceId, VerifyKey]
) -> Snapshot:
    """The beginning of a snapshot. `keys` are those of the devices that were asked for, from the
    org log; nobody else's word counts.

    Raises DataError, SignatureError, TrustchainError, ProofError."""
    author = _verified_author(unverified.voucher, expected_context, keys)
    position = _verified_position(unverified, author.seen)
    _check_certificates(unverified, expected_context)
    contents: list[Content] = [unverified.created, *unverified.roles, *unverified.rotations[-1:]]
    return Snapshot(
        context=expected_context,
        author=author.device,
        seen=author.seen,
        position=position,
        created=unverified.created,
        roles=unverified.roles,
        rotations=unverified.rotations,
        objects=unverified.objects,
        map=PrefixMap(most=BUCKET_ITEMS).set_many(map(content_entry, contents)),
    )


def voucher_header(unverified_body: bytes) -> DeviceHeader:
    """Header of a commit or certificate, NOT verified. Raises DataError."""
    if _is_commit(unverified_body):
        return peek_commit(unverified_body).header
    return peek_certificate(unverified_body).header


def _verified_author(
    unverified_body: bytes, context: Context, keys: Mapping[DeviceId, VerifyKey]
) -> DeviceHeader:
    """Header of the voucher, signed by one of these devices for this log."""
    key = keys.get(voucher_header(unverified_body).device)
    if key is None:
        raise TrustchainError("snapshot: vouched for by a device that was not asked")
    if _is_commit(unverified_body):
        return verify_commit(unverified_body, key=key, expected_context=context).commit.header
    return verify_certificate(unverified_body, key=key, expected_context=context).header


def _is_commit(unverified_body: bytes) -> bool:
    """Bodies of commits and certificates have different shapes, so one of them decodes."""
    try:
        decode(CommitBody, unverified_body)
    except DataError:
        return False
    return True


def _verified_position(unverified: SnapshotStart, seen: Seen) -> LogPosition:
    """The log as the voucher's author had verified it."""
    if seen.size == 0 or unverified.last.index != seen.size - 1:
        raise ProofError("snapshot: the voucher's author had seen another size")
    before = Frontier(size=seen.size - 1, nodes=unverified.frontier)
    frontier = before.append(unverified.last.hash())
    if frontier.root() != seen.log_root:
        raise ProofError("snapshot does not lead to the log root that was vouched for")
    return LogPosition(
        frontier=frontier, time_ms=unverified.last.time_ms, org_size=unverified.last.org_size
    )


def _check_certificates(unverified: SnapshotStart, context: Context) -> None:
    if bytes(unverified.created.realm) != bytes(context.log):
        raise ProofError("snapshot of another realm")
    indexes = [one.index for one in unverified.rotations]
    if indexes != list(range(1, len(indexes) + 1)):
        raise ProofError("snapshot: a rotation of the key is missing")


def _check_item(item: SnapshotItem, size: int) -> None:
    """The record is the last write that the state names, so the map root covers it too."""
    state, record = item.state, item.record
    if state.write != object_record_hash(item.commit, encode_trusted(record)):
        raise ProofError("snapshot: an object's record is not its last write")
    claimed = (record.object, record.version, record.flags)
    if claimed != (item.object, state.version, state.flags) or state.write_index >= size:
        raise ProofError("snapshot: an object's record does not fit its state")

"""The part of a realm that one leaf touches, rebuilt from map openings.

Data flow: replica's state -> `open_touched` -> evidence -> `realm_before` -> transition rules.

A leaf touches: its author's role, the realm's creation and key, and the objects, preconditions,
users or other entries that it names; all roles, if it changes its author's own. `touched` derives
them from the leaf itself, so an accuser cannot leave one out; openings are checked against the map
root that the leaf names.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Final

from parsec_fs.protocol.certificates import (
    OWNER,
    KeyState,
    RealmCreated,
    Role,
    Rotation,
    peek_certificate,
    verify_certificate,
)
from parsec_fs.protocol.codec import Size, decode, encode_trusted
from parsec_fs.protocol.commits import CommitBody, commit_hash, peek_commit, verify_commit
from parsec_fs.protocol.errors import DataError, ProofError, TrustchainError, VerificationError
from parsec_fs.protocol.hashing import map_key, map_value, signed_hash
from parsec_fs.protocol.ids import DeviceId, Hash, ObjectId, RealmId, UserId
from parsec_fs.protocol.log_state import DeviceChain
from parsec_fs.protocol.membership import OrgState
from parsec_fs.protocol.partial_map import partial_map
from parsec_fs.protocol.prefix_map import MapProof, PrefixMap
from parsec_fs.protocol.realm_state import ObjectView, RealmState, StampBatch
from parsec_fs.protocol.records import (
    CERTIFICATE,
    COMMIT,
    STAMPS,
    Context,
    DeviceHeader,
    Leaf,
    ObjectState,
)

OBJECT: Final = b"object"
ROLE: Final = b"role"
KEY: Final = b"key"
CREATED: Final = b"created"
Subject = tuple[bytes, bytes]
"""(kind, subject) of a map key, as `hashing.map_key` takes them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MapOpening:
    """Encoded value of a map key (none if absent), and its proof; not yet checked."""

    kind: Annotated[bytes, Size(1, 16)]
    subject: Annotated[bytes, Size(0, 32)]
    value: Annotated[tuple[bytes, ...], Size(0, 1)]
    proof: MapProof


@dataclass(frozen=True, slots=True, kw_only=True)
class RealmBefore:
    """A realm right before a leaf, as far as the leaf touches it."""

    state: RealmState
    objects: dict[ObjectId, ObjectState]


def author_of(leaf: Leaf) -> tuple[Hash, DeviceHeader]:
    """Name and header of the record in a leaf. Raises DataError if no device signed it."""
    if leaf.header.kind == COMMIT:
        return commit_hash(decode(CommitBody, leaf.body)), peek_commit(leaf.body).header
    if leaf.header.kind == CERTIFICATE:
        return signed_hash(leaf.body), peek_certificate(leaf.body).header
    raise DataError("this kind of leaf holds no device's record")


def touched(leaf: Leaf, *, org: OrgState, context: Context) -> frozenset[Subject]:
    """Map keys that the rules will read or write. Raises DataError, VerificationError if the leaf
    is malformed, not signed by its author, or of an unknown kind."""
    if leaf.header.kind == STAMPS:
        decode(StampBatch, leaf.body)
        return frozenset()
    if leaf.header.kind not in (COMMIT, CERTIFICATE):
        raise TrustchainError("unknown kind of leaf")
    _, header = author_of(leaf)
    author = org.device(header.device)
    keys: set[Subject] = {(ROLE, author.device.user), (CREATED, context.log)}
    if leaf.header.kind == COMMIT:
        verified = verify_commit(leaf.body, key=author.key, expected_context=context)
        ids = [one.object for one in verified.objects]
        ids += [one.object for one in verified.commit.preconditions]
        return frozenset(keys | {(KEY, b"")} | {(OBJECT, one) for one in ids})
    authored = verify_certificate(leaf.body, key=author.key, expected_context=context)
    return frozenset(keys | _of_content(authored.content, author.device.user, org))


def _of_content(content: object, author: UserId, org: OrgState) -> set[Subject]:
    """Who changes their own role leaves the workspace an owner, or takes it over because it has
    none (A20): that asks for the role of everybody whom the organization knows."""
    if isinstance(content, RealmCreated):
        return set()
    if isinstance(content, Role):
        users = {content.user} | (set(org.users) if content.user == author else set())
        return {(ROLE, one) for one in users}
    if isinstance(content, Rotation):
        return {(KEY, b"")}
    raise TrustchainError("this kind of certificate does not belong into a realm log")


def realm_before(
    leaf: Leaf,
    keys: frozenset[Subject],
    unverified: Iterable[MapOpening],
    *,
    context: Context,
    org: OrgState,
) -> RealmBefore:
    """Everything that the rules ask of the state before the leaf. Raises DataError, ProofError if
    openings are missing or do not lead to the map root that the leaf names."""
    openings = {(one.kind, one.subject): one for one in unverified}
    if not keys <= openings.keys():
        raise DataError("transition: a touched key of the map is not opened")
    wanted = {subject: openings[subject] for subject in sorted(keys)}
    proofs = {map_key(*subject): one.proof for subject, one in wanted.items()}
    known = partial_map(proofs, expected_root=leaf.header.map_root)
    values = {subject: _value(known, one) for subject, one in wanted.items()}
    state = RealmState(
        context=context,
        map=known,
        roles=MappingProxyType(_roles(values)),
        key=_key(values.get((KEY, b""))),
        chains=MappingProxyType({} if leaf.header.kind == STAMPS else _chain(leaf)),
    )
    return RealmBefore(state=state, objects=_objects(values))


def _value(known: PrefixMap, one: MapOpening) -> bytes | None:
    value_hash = known.get(map_key(one.kind, one.subject))
    if value_hash is None and not one.value:
        return None
    if value_hash is None or not one.value or map_value(one.value[0]) != value_hash:
        raise ProofError("opened value is not the one in the map")
    return one.value[0]


def _roles(values: dict[Subject, bytes | None]) -> dict[UserId, int]:
    """The first owner's role is in the realm's creation until a certificate changes it."""
    owners: dict[UserId, int] = {}
    given: dict[UserId, int] = {}
    for (kind, subject), value in values.items():
        if kind == CREATED and value is not None:
            owners[decode(RealmCreated, value).owner] = OWNER
        elif kind == ROLE and value is not None:
            given[UserId(subject)] = decode(Role, value).role
    return owners | given


def _key(value: bytes | None) -> KeyState | None:
    return None if value is None else decode(KeyState, value)


def _objects(values: dict[Subject, bytes | None]) -> dict[ObjectId, ObjectState]:
    return {
        ObjectId(subject): decode(ObjectState, value)
        for (kind, subject), value in values.items()
        if kind == OBJECT and value is not None
    }


def _chain(leaf: Leaf) -> dict[DeviceId, DeviceChain]:
    _, header = author_of(leaf)
    return {header.device: DeviceChain(sequence=header.sequence, last=header.previous)}


def open_touched(
    leaf: Leaf, before: RealmState, objects: ObjectView, *, org: OrgState
) -> tuple[MapOpening, ...]:
    """Openings of all touched keys, from a replica's state right before the leaf.

    Empty if the leaf is already wrong by itself. Accusers call this; judges never do."""
    try:
        keys = touched(leaf, org=org, context=before.context)
    except (DataError, VerificationError):
        return ()
    return tuple(_open_one(one, before, objects) for one in sorted(keys))


def _open_one(subject: Subject, before: RealmState, objects: ObjectView) -> MapOpening:
    kind, name = subject
    proof = before.map.open(map_key(kind, name))
    value = _held(kind, name, before, objects)
    present = before.map.get(map_key(kind, name)) is not None
    held = () if value is None or not present else (encode_trusted(value),)
    return MapOpening(kind=kind, subject=name, value=held, proof=proof)


def _held(kind: bytes, name: bytes, before: RealmState, objects: ObjectView) -> object | None:
    if kind == OBJECT:
        return objects(ObjectId(name))
    if kind == KEY:
        return before.key
    if kind == ROLE:
        return Role(user=UserId(name), role=before.role(UserId(name)))
    return _creation(before)


def _creation(before: RealmState) -> RealmCreated | None:
    """The creation's owner is whoever it says; its value hash tells which user that is."""
    realm = RealmId(before.context.log)
    expected = before.map.get(map_key(CREATED, realm))
    for user in before.roles:
        created = RealmCreated(realm=realm, owner=user)
        if map_value(encode_trusted(created)) == expected:
            return created
    return None

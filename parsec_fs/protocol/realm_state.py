"""The transition rules of a realm log: who may append what, and what it does to the map.

Data flow: leaf -> `verify_leaf` against the prefix -> `Transition` -> replica or server store.

Objects can be millions, so their states are not held here: the caller hands in a view and stores
the transition's new states. Everything else of a realm is in the immutable `RealmState`.
Server and replicas run the same functions (P4, P5: what they refuse can never be in an honest log).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Annotated

from parsec_fs.protocol.certificates import (
    CONTRIBUTOR,
    MANAGER,
    NO_ROLE,
    OUTSIDER,
    OWNER,
    Authored,
    Content,
    KeyState,
    RealmCreated,
    Role,
    Rotation,
    peek_certificate,
    verify_certificate,
)
from parsec_fs.protocol.codec import Bytes32, Increasing, Size, decode, encode_trusted
from parsec_fs.protocol.commits import (
    DELETED,
    ObjectRecord,
    VerifiedCommit,
    peek_commit,
    verify_commit,
)
from parsec_fs.protocol.errors import TrustchainError
from parsec_fs.protocol.hashing import history_digest, map_key, map_value
from parsec_fs.protocol.ids import (
    NO_HASH,
    ROOT_OBJECT,
    DeviceId,
    Hash,
    ObjectId,
    RealmId,
    UserId,
)
from parsec_fs.protocol.log_state import (
    DeviceChain,
    LogPosition,
    NotAllowedError,
    ReplacedError,
    check_chain,
)
from parsec_fs.protocol.membership import OrgState
from parsec_fs.protocol.ownership import leaves_vacant, may_take_over
from parsec_fs.protocol.prefix_map import PrefixMap
from parsec_fs.protocol.records import (
    CERTIFICATE,
    COMMIT,
    STAMPS,
    Conflict,
    Context,
    Leaf,
    ObjectState,
)

ObjectView = Callable[[ObjectId], ObjectState | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class StampBatch:
    """Body of a stamps leaf: blinded reads of one window, in order of their bytes."""

    stamps: Annotated[tuple[Bytes32, ...], Increasing(), Size(1, 4096)]


@dataclass(frozen=True, slots=True, kw_only=True)
class RealmState:
    """A realm after `position.size` leaves, without its objects' states.

    `base`: size at which it was taken from a snapshot (R-34), 0 if every leaf was checked. The map
    does not hold device chains, so those of before the base are not known."""

    context: Context
    position: LogPosition = field(default_factory=LogPosition)
    map: PrefixMap = field(default_factory=PrefixMap)
    roles: Mapping[UserId, int] = field(default_factory=lambda: MappingProxyType({}))
    key: KeyState | None = None
    rotations: tuple[Rotation, ...] = ()
    chains: Mapping[DeviceId, DeviceChain] = field(default_factory=lambda: MappingProxyType({}))
    base: int = 0

    def role(self, user: UserId) -> int:
        """Role number of a user, 0 if none."""
        return self.roles.get(user, NO_ROLE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """What one leaf does: the state after it, and the objects it changed."""

    state: RealmState
    objects: tuple[tuple[ObjectRecord, ObjectState], ...] = ()
    author: DeviceId | None = None
    record: Hash = NO_HASH


class CommitConflictError(TrustchainError):
    """Compare-and-swap failed: these objects are not at the state the commit names."""

    def __init__(self, conflicts: tuple[Conflict, ...]) -> None:
        super().__init__(f"{len(conflicts)} objects have changed meanwhile")
        self.conflicts = conflicts


class KeyIndexError(TrustchainError):
    """The commit is sealed under a key index that is not the newest (attack A18)."""


class DeletedError(TrustchainError):
    """The commit goes on from a tombstone, or makes one of the root: ids and versions never come
    back (rule 7)."""


def verify_leaf(state: RealmState, leaf: Leaf, *, org: OrgState, objects: ObjectView) -> Transition:
    """Check one leaf against the prefix before it; `org` is the org log's prefix of
    `leaf.header.org_size` leaves, or longer: what was revoked later binds no earlier leaf (R-9).

    Raises DataError, SignatureError, TrustchainError, ProofError."""
    state.position.check(leaf, expected_map_root=state.map.root())
    if leaf.header.kind == COMMIT:
        key = org.device(peek_commit(leaf.body).header.device).check_at(leaf.header.org_size).key
        commit = verify_commit(leaf.body, key=key, expected_context=state.context)
        transition = apply_commit(state, commit, org=org, objects=objects)
    elif leaf.header.kind == CERTIFICATE:
        author = org.device(peek_certificate(leaf.body).header.device)
        key = author.check_at(leaf.header.org_size).key
        authored = verify_certificate(leaf.body, key=key, expected_context=state.context)
        org_size = leaf.header.org_size
        transition = apply_certificate(state, authored, org=org, org_size=org_size)
    elif leaf.header.kind == STAMPS and state.position.size:
        decode(StampBatch, leaf.body)
        transition = Transition(state=state)
    else:
        raise TrustchainError("this kind of leaf does not belong here", evidence=(leaf.body,))
    position = state.position.after(leaf)
    return replace(transition, state=replace(transition.state, position=position))


def apply_commit(
    state: RealmState, verified: VerifiedCommit, *, org: OrgState, objects: ObjectView
) -> Transition:
    """The state after a commit at index `state.position.size` (position itself unchanged).

    Order of checks: author, role, chain, key index, preconditions and versions, tombstones.
    Raises NotAllowedError, TrustchainError, KeyIndexError, CommitConflictError, DeletedError."""
    commit = verified.commit
    author = org.device(commit.header.device)
    if state.role(author.device.user) < CONTRIBUTOR:
        raise NotAllowedError("only contributors write")
    check_chain(state.chains, commit.header, expected_size=state.position.size, base=state.base)
    if state.key is None or commit.key_index != state.key.index:
        raise KeyIndexError("commit is not sealed under the newest key")
    _check_versions(verified, objects)
    _check_alive(verified, objects)
    index = state.position.size
    changed = tuple(
        (record, _next_state(objects(record.object), record, record_hash, index))
        for record, record_hash in zip(verified.objects, verified.record_hashes, strict=True)
    )
    new_map = state.map.set_many(object_entry(record.object, new) for record, new in changed)
    chains = _chained(state, commit.header.device, commit.header.sequence, verified.hash)
    return Transition(
        state=replace(state, map=new_map, chains=chains),
        objects=changed,
        author=commit.header.device,
        record=verified.hash,
    )


def apply_certificate(
    state: RealmState, authored: Authored, *, org: OrgState, org_size: int
) -> Transition:
    """The state after a certificate (position itself unchanged), judged by the first `org_size`
    leaves of the org log. Raises TrustchainError."""
    header, content = authored.header, authored.content
    user = org.device(header.device).device.user
    check_chain(state.chains, header, expected_size=state.position.size, base=state.base)
    if isinstance(content, RealmCreated):
        _check_creation(state, authored, content, org)
        state = replace(state, roles=MappingProxyType({user: OWNER}))
    elif isinstance(content, Role):
        _check_role(state, content, user, org, org_size)
        state = replace(state, roles=MappingProxyType({**state.roles, content.user: content.role}))
    elif isinstance(content, Rotation):
        _check_rotation(state, content, state.role(user))
        state = replace(state, key=key_state(content), rotations=(*state.rotations, content))
    else:
        raise TrustchainError("this kind of certificate does not belong into a realm log")
    key, value = certificate_entry(authored)
    if (state.map.get(key) or NO_HASH) != authored.replaces:
        raise ReplacedError("certificate replaces a value that is not there (rule 8)")
    if isinstance(content, Role):
        _check_registered(authored, org, org_size)
    chains = _chained(state, header.device, header.sequence, authored.hash)
    state = replace(state, map=state.map.set(key, value), chains=chains)
    return Transition(state=state, author=header.device, record=authored.hash)


def key_state(rotation: Rotation) -> KeyState:
    """Map value of the realm's key after a rotation."""
    return KeyState(
        index=rotation.index,
        commitment=rotation.commitment,
        boxes_root=rotation.boxes_root,
        rotations=rotation.index,
    )


def object_entry(object_id: ObjectId, state: ObjectState) -> tuple[Hash, Hash]:
    """Key and value hash of an object in the realm's map."""
    return map_key(b"object", object_id), map_value(encode_trusted(state))


def certificate_entry(authored: Authored) -> tuple[Hash, Hash]:
    """Key and value hash that a certificate of a realm log puts into the map."""
    return content_entry(authored.content)


def content_entry(content: Content) -> tuple[Hash, Hash]:
    """Key and value hash of a certificate's content in the realm's map."""
    if isinstance(content, RealmCreated):
        return map_key(b"created", content.realm), map_value(encode_trusted(content))
    if isinstance(content, Role):
        return map_key(b"role", content.user), map_value(encode_trusted(content))
    if isinstance(content, Rotation):
        return map_key(b"key", b""), map_value(encode_trusted(key_state(content)))
    raise TrustchainError("this kind of certificate does not belong into a realm log")


def _check_versions(verified: VerifiedCommit, objects: ObjectView) -> None:
    expected = [(one.object, one.version, one.write) for one in verified.commit.preconditions]
    expected += [(one.object, one.version - 1, one.base) for one in verified.objects]
    conflicts = {}
    for object_id, version, write in expected:
        current = objects(object_id)
        found = (current.version, current.write) if current else (0, NO_HASH)
        if found != (version, write):
            state = (current,) if current else ()
            conflicts[object_id] = Conflict(object=object_id, state=state)
    if conflicts:
        raise CommitConflictError(tuple(conflicts[one] for one in sorted(conflicts)))


def _check_alive(verified: VerifiedCommit, objects: ObjectView) -> None:
    """Nothing follows a tombstone, and the root, whose id is fixed, gets none. Whoever meets a
    tombstone unaware gets a conflict before; a precondition may name one."""
    for record in verified.objects:
        current = objects(record.object)
        if current is not None and current.flags & DELETED:
            raise DeletedError("a deleted object is not written again (rule 7)")
        if record.object == ROOT_OBJECT and record.flags & DELETED:
            raise DeletedError("the root is never deleted (rule 7)")


def _next_state(
    old: ObjectState | None, record: ObjectRecord, record_hash: Hash, index: int
) -> ObjectState:
    return ObjectState(
        version=record.version,
        write_index=index,
        write=record_hash,
        operations=old.operations + 1 if old else 1,
        history=history_digest(old.history if old else NO_HASH, record_hash),
        flags=record.flags,
    )


def _chained(
    state: RealmState, device: DeviceId, sequence: int, last: Hash
) -> Mapping[DeviceId, DeviceChain]:
    chain = DeviceChain(sequence=sequence + 1, last=last)
    return MappingProxyType({**state.chains, device: chain})


def _check_creation(
    state: RealmState, authored: Authored, content: RealmCreated, org: OrgState
) -> None:
    if state.position.size != 0 or content.owner != org.device(authored.header.device).device.user:
        raise TrustchainError("a realm is created once, by its first owner")
    if RealmId(state.context.log) != content.realm:
        raise TrustchainError("realm created in another realm's log")
    if org.realms.get(content.realm) != authored.hash:
        raise TrustchainError("realm is not registered in its organization (rule 6)")


def _check_role(
    state: RealmState, content: Role, author: UserId, org: OrgState, org_size: int
) -> None:
    """Owners set any role; managers those below their own (Parsec's rules). Where no owner is
    left, whoever has the highest role may take it (A20); no owner leaves a workspace without."""
    profile = org.profile_at(content.user, org_size)
    if content.role > OWNER or profile is None:
        raise TrustchainError("unknown role or user")
    if content.role >= MANAGER and profile == OUTSIDER:
        raise NotAllowedError("an outsider is neither owner nor manager")
    own, current = state.role(author), state.role(content.user)
    takes_over = author == content.user and content.role == OWNER
    allowed = own == OWNER or (own == MANAGER and max(content.role, current) < MANAGER)
    if not allowed and not (
        takes_over and may_take_over(state.roles, author, org=org, org_size=org_size)
    ):
        raise NotAllowedError("this role may not be given or taken by the author")
    if author == content.user and leaves_vacant(
        state.roles, author, content.role, org=org, org_size=org_size
    ):
        raise NotAllowedError("the last owner of a workspace who is not revoked stays one")


def _check_registered(authored: Authored, org: OrgState, org_size: int) -> None:
    """Nothing else says when in an epoch a role was signed: a revoked owner's device, helped by the
    server, could give and take roles behind its revocation (A17). The org log takes nothing of a
    revoked device, and its order is one for all (rule 9)."""
    if not org.is_registered_at(authored.hash, org_size):
        raise TrustchainError("the role is not registered in its organization (rule 9)")


def _check_rotation(state: RealmState, content: Rotation, role: int) -> None:
    if role < CONTRIBUTOR:
        raise NotAllowedError("only owners, managers and contributors rotate keys (rule 10)")
    if content.index != (state.key.index if state.key else 0) + 1:
        raise TrustchainError("key rotations count up by one")

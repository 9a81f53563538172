"""What may enter a realm log beside commits: creation, roles, key rotations, read stamps.

Data flow: request -> decision over realm_state's rules -> effects | Outcome.

The rules are `parsec_fs.protocol.realm_state`. Here is what replicas cannot check or do not need
to: that a realm is registered and created in one step (no hidden realm, rule 6), and that the boxes
that come with a rotation are those that it names and serve every member.
"""

from dataclasses import dataclass, replace

from parsec_fs.protocol.certificates import (
    NO_ROLE,
    READER,
    Authored,
    KeyBox,
    RealmCreated,
    RealmRegistered,
    Role,
    Rotation,
    verify_certificate,
)
from parsec_fs.protocol.codec import encode
from parsec_fs.protocol.commands import AppendCertificate, CreateRealm, Outcome
from parsec_fs.protocol.errors import ParsecFSError
from parsec_fs.protocol.hashing import signed_hash
from parsec_fs.protocol.ids import DeviceId
from parsec_fs.protocol.membership import OrgState, realm_context
from parsec_fs.protocol.merkle import tree_root
from parsec_fs.protocol.realm_state import RealmState, StampBatch, apply_certificate
from parsec_fs.protocol.records import CERTIFICATE, STAMPS
from server.decisions import orgs
from server.decisions.access import is_outsider
from server.decisions.effects import LogChange, OrgEffects, RealmEffects, next_leaf
from server.decisions.reasons import outcome_of


@dataclass(frozen=True, slots=True, kw_only=True)
class RealmFounded:
    """Both logs change, or none."""

    org: OrgEffects
    realm: RealmEffects


def create(
    request: CreateRealm, *, org: OrgState, author: DeviceId, now_ms: int
) -> RealmFounded | Outcome:
    """Registration in the org log, creation and first rotation in the realm log. That the id is
    new follows from the org map: its registration replaces nothing."""
    registered = orgs.append(
        org, request.registered, author=author, now_ms=now_ms, kinds=(RealmRegistered,)
    )
    if isinstance(registered, Outcome):
        known = request.realm in org.realms
        return Outcome.EXISTS if known and registered is Outcome.CONFLICT else registered
    if registered.state.realms.get(request.realm) != signed_hash(request.created):
        return Outcome.INVALID
    org_after = registered.state
    state = RealmState(context=realm_context(org_after, request.realm))
    created = _append(
        state, request.created, org=org_after, author=author, now_ms=now_ms, kinds=(RealmCreated,)
    )
    if isinstance(created, Outcome):
        return created
    rotated = _append(
        created.state,
        request.rotation,
        org=org_after,
        author=author,
        now_ms=now_ms,
        kinds=(Rotation,),
        boxes=request.boxes,
    )
    if isinstance(rotated, Outcome):
        return rotated
    return RealmFounded(org=registered, realm=_joined(created, rotated))


def append(
    request: AppendCertificate,
    *,
    org: OrgState,
    realm: RealmState | None,
    author: DeviceId,
    now_ms: int,
) -> RealmEffects | Outcome:
    """A role or a rotation in an existing realm."""
    if realm is None or is_outsider(org, realm, author):
        return Outcome.NOT_ALLOWED
    return _append(
        realm,
        request.body,
        org=org,
        author=author,
        now_ms=now_ms,
        kinds=(Role, Rotation),
        boxes=request.boxes,
    )


def add_stamps(
    realm: RealmState, stamps: frozenset[bytes], *, org: OrgState, now_ms: int
) -> RealmEffects:
    """One leaf with the read stamps of a window; they change no state but the log's size."""
    body = encode(StampBatch(stamps=tuple(sorted(stamps))))
    leaf = next_leaf(
        realm.position,
        STAMPS,
        body,
        map_root=realm.map.root(),
        org_size=org.position.size,
        now_ms=now_ms,
    )
    state = replace(realm, position=realm.position.after(leaf))
    change = LogChange(
        context=state.context,
        position=state.position,
        map_root=state.map.root(),
        leaves=(leaf,),
    )
    return RealmEffects(state=state, change=change)


def _append(
    state: RealmState,
    body: bytes,
    *,
    org: OrgState,
    author: DeviceId,
    now_ms: int,
    kinds: tuple[type, ...],
    boxes: tuple[KeyBox, ...] = (),
) -> RealmEffects | Outcome:
    try:
        authored = verify_certificate(
            body,
            key=org.device(author).check_at(org.position.size).key,
            expected_context=state.context,
        )
        if authored.header.device != author or not isinstance(authored.content, kinds):
            return Outcome.NOT_ALLOWED
        if _gives_to_revoked(authored, org):
            return Outcome.INVALID
        transition = apply_certificate(state, authored, org=org, org_size=org.position.size)
    except ParsecFSError as error:
        return outcome_of(error)
    if not _boxes_fit(authored, boxes, transition.state, org):
        return Outcome.INVALID
    leaf = next_leaf(
        state.position,
        CERTIFICATE,
        body,
        map_root=state.map.root(),
        org_size=org.position.size,
        now_ms=now_ms,
    )
    after = replace(transition.state, position=state.position.after(leaf))
    changed_roles = {
        user: role for user, role in after.roles.items() if state.roles.get(user) != role
    }
    change = LogChange(
        context=after.context,
        position=after.position,
        map_root=after.map.root(),
        leaves=(leaf,),
        accepted=((authored.hash, leaf.header.index),),
        chains={author: after.chains[author]},
        roles=changed_roles,
        key_index=after.key.index if after.key and boxes else 0,
        boxes=boxes,
    )
    return RealmEffects(state=after, change=change)


def _gives_to_revoked(authored: Authored, org: OrgState) -> bool:
    """A role given to somebody who was revoked meanwhile; it would open nothing, and only confuse
    whoever reads the list of members. Roles of revoked people can be taken."""
    content = authored.content
    return isinstance(content, Role) and content.role != NO_ROLE and not org.is_member(content.user)


def _boxes_fit(
    authored: Authored, boxes: tuple[KeyBox, ...], after: RealmState, org: OrgState
) -> bool:
    """The boxes are those under `boxes_root`, one for the present key of every
    member who has a device, in order."""
    if not isinstance(authored.content, Rotation):
        return not boxes
    members = sorted(
        user for user, role in after.roles.items() if role >= READER and org.takes_keys(user)
    )
    expected = [(user, org.users[user].generation) for user in members]
    if [(box.user, box.generation) for box in boxes] != expected:
        return False
    return tree_root([box.leaf() for box in boxes]) == authored.content.boxes_root


def _joined(first: RealmEffects, second: RealmEffects) -> RealmEffects:
    change = replace(
        second.change,
        leaves=first.change.leaves + second.change.leaves,
        accepted=first.change.accepted + second.change.accepted,
        roles={**first.change.roles, **second.change.roles},
    )
    return RealmEffects(state=second.state, change=change)

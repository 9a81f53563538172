"""States of logs rebuilt from what is stored, and checked against the stored roots.

Data flow: store.logs -> `restore_org`, `restore_realm` -> books.

An org log is replayed under all its rules. A realm can be long: its certificates, device chains and
object states are folded into the state map, and the map's root must be the stored one, so a damaged
or edited database is noticed before anything is signed over it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType

from parsec_fs.protocol import membership
from parsec_fs.protocol.certificates import (
    OWNER,
    Authored,
    RealmCreated,
    Role,
    Rotation,
    decode_content,
    peek_certificate,
)
from parsec_fs.protocol.errors import ProofError
from parsec_fs.protocol.hashing import signed_hash
from parsec_fs.protocol.ids import DeviceId, Hash, ObjectId
from parsec_fs.protocol.log_state import DeviceChain, LogPosition
from parsec_fs.protocol.membership import OrgState
from parsec_fs.protocol.prefix_map import PrefixMap
from parsec_fs.protocol.realm_state import (
    RealmState,
    certificate_entry,
    key_state,
    object_entry,
)
from parsec_fs.protocol.records import Context, Leaf, ObjectState


def restore_org(
    leaves: Iterable[Leaf], *, expected_map_root: Hash, expected_root: Hash
) -> OrgState:
    """Replay an org log. Raises VerificationError if it is not the one that was stored."""
    iterator = iter(leaves)
    state = membership.found(next(iterator))
    for leaf in iterator:
        state = membership.append(state, leaf)
    if state.map.root() != expected_map_root or state.position.root() != expected_root:
        raise ProofError("org log does not lead to its stored roots: the database is damaged")
    return state


def restore_realm(
    context: Context,
    position: LogPosition,
    *,
    certificates: Iterable[bytes],
    chains: Mapping[DeviceId, DeviceChain],
    objects: Iterable[tuple[ObjectId, ObjectState]],
    expected_map_root: Hash,
) -> RealmState:
    """Fold what is stored of a realm. Raises ProofError if the map has another root."""
    state = RealmState(context=context, position=position, chains=MappingProxyType(dict(chains)))
    for body in certificates:
        state = _fold(state, _stored_certificate(body))
    state = replace(state, map=state.map.set_many(object_entry(*one) for one in objects))
    if state.map.root() != expected_map_root:
        raise ProofError("realm does not lead to its stored map: the database is damaged")
    return state


def _stored_certificate(body: bytes) -> Authored:
    """A certificate of our own log: it was verified before it was appended."""
    certificate = peek_certificate(body)
    return Authored(
        header=certificate.header,
        content=decode_content(certificate.kind, certificate.content),
        replaces=certificate.replaces,
        hash=signed_hash(body),
    )


def _fold(state: RealmState, authored: Authored) -> RealmState:
    content, roles = authored.content, dict(state.roles)
    entered: PrefixMap = state.map.set(*certificate_entry(authored))
    if isinstance(content, RealmCreated):
        roles[content.owner] = OWNER
    elif isinstance(content, Role):
        roles[content.user] = content.role
    elif isinstance(content, Rotation):
        rotations = (*state.rotations, content)
        return replace(state, map=entered, key=key_state(content), rotations=rotations)
    return replace(state, map=entered, roles=MappingProxyType(roles))

"""States of logs rebuilt from what is stored, and checked against the stored roots.

Data flow: store.logs -> `restore_*`, `continue_*` -> `check_stored` -> books.

An org log is replayed under all its rules. A realm can be long: its certificates, device chains and
object states are folded into the state map, and the map's root must be the stored one, so a damaged
or edited database is noticed before anything is signed over it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import TypeVar

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
from parsec_fs.protocol.codec import decode
from parsec_fs.protocol.commits import CommitBody
from parsec_fs.protocol.errors import ProofError
from parsec_fs.protocol.hashing import signed_hash
from parsec_fs.protocol.ids import DeviceId, ObjectId
from parsec_fs.protocol.log_state import DeviceChain, LogPosition
from parsec_fs.protocol.membership import OrgState
from parsec_fs.protocol.prefix_map import PrefixMap
from parsec_fs.protocol.realm_state import (
    RealmState,
    certificate_entry,
    key_state,
    object_entry,
)
from parsec_fs.protocol.records import CERTIFICATE, COMMIT, Context, Leaf, ObjectState
from server.store.logs import StoredLog

S = TypeVar("S", OrgState, RealmState)


def restore_org(leaves: Iterable[Leaf]) -> OrgState:
    """Replay an org log. Raises VerificationError."""
    iterator = iter(leaves)
    return continue_org(membership.found(next(iterator)), iterator)


def continue_org(state: OrgState, leaves: Iterable[Leaf]) -> OrgState:
    """Replay more of an org log. Raises VerificationError."""
    for leaf in leaves:
        state = membership.append(state, leaf)
    return state


def restore_realm(
    context: Context,
    position: LogPosition,
    *,
    certificates: Iterable[bytes],
    chains: Mapping[DeviceId, DeviceChain],
    objects: Iterable[tuple[ObjectId, ObjectState]],
) -> RealmState:
    """Fold what is stored of a realm, from nothing."""
    state = RealmState(context=context)
    return _folded(state, position, certificates, chains, objects)


def continue_realm(
    state: RealmState,
    position: LogPosition,
    *,
    leaves: Iterable[Leaf],
    chains: Mapping[DeviceId, DeviceChain],
    objects: Mapping[ObjectId, ObjectState],
) -> RealmState:
    """Fold what other processes have added to a realm; `objects` are those that its new leaves
    name, as they are now."""
    certificates = [leaf.body for leaf in leaves if leaf.header.kind == CERTIFICATE]
    return _folded(state, position, certificates, chains, objects.items())


def changed_objects(leaves: Iterable[Leaf]) -> list[ObjectId]:
    """Objects that commits among these leaves of our own have written, in order."""
    bodies = [decode(CommitBody, leaf.body) for leaf in leaves if leaf.header.kind == COMMIT]
    return sorted({record.object for body in bodies for record in body.objects})


def check_stored(state: S, stored: StoredLog) -> S:
    """The state leads to the stored roots. Raises ProofError: nothing is signed over a database
    that does not agree with itself."""
    found = (state.position.size, state.position.root(), state.map.root())
    if found != (stored.position.size, stored.position.root(), stored.map_root):
        raise ProofError(
            f"log {stored.log.hex()} does not lead to its stored roots: the database is damaged"
        )
    return state


def _folded(
    state: RealmState,
    position: LogPosition,
    certificates: Iterable[bytes],
    chains: Mapping[DeviceId, DeviceChain],
    objects: Iterable[tuple[ObjectId, ObjectState]],
) -> RealmState:
    for body in certificates:
        state = _fold(state, _stored_certificate(body))
    return replace(
        state,
        position=position,
        map=state.map.set_many(object_entry(*one) for one in objects),
        chains=MappingProxyType(dict(chains)),
    )


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

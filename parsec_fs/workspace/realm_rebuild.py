"""A realm's state from the local store, when a program starts.

Data flow: storage/realm_store -> this -> replica.

Roles, key rotations and chains come at once from the stored certificates, and what lies before the
snapshot that the store may begin with, from its base. The map of all objects
is rebuilt in slices afterwards; mounting does not wait for it. At the end its root must be the one
stored with the last leaf: a damaged store is found before anything is verified against it.
"""

from collections.abc import Generator
from dataclasses import replace
from types import MappingProxyType
from typing import Final

from parsec_fs.protocol.certificates import (
    NO_ROLE,
    OWNER,
    READER,
    Authored,
    Certificate,
    Content,
    RealmCreated,
    Role,
    Rotation,
    decode_content,
)
from parsec_fs.protocol.codec import decode
from parsec_fs.protocol.errors import DataError
from parsec_fs.protocol.hashing import signed_hash
from parsec_fs.protocol.ids import Hash, UserId
from parsec_fs.protocol.prefix_map import BUCKET_ITEMS, PrefixMap
from parsec_fs.protocol.realm_state import (
    RealmState,
    content_entry,
    key_state,
    object_entry,
)
from parsec_fs.protocol.records import Context, DeviceHeader, LeafHeader, Signed
from parsec_fs.storage.realm_store import RealmStore

_STEP: Final = 8


def light_state(store: RealmStore, context: Context) -> RealmState:
    """Everything but the map. The certificates were verified before they were stored."""
    roles: dict[UserId, int] = {}
    rotations: list[Rotation] = []
    base = store.base()
    for content in _contents(store):
        if isinstance(content, RealmCreated):
            roles[content.owner] = OWNER
        elif isinstance(content, Role):
            roles[content.user] = content.role
        elif isinstance(content, Rotation):
            rotations.append(content)
    return RealmState(
        context=context,
        position=store.position(),
        map=PrefixMap(most=BUCKET_ITEMS),
        roles=MappingProxyType(roles),
        key=key_state(rotations[-1]) if rotations else None,
        rotations=tuple(rotations),
        chains=MappingProxyType(store.chains()),
        base=0 if base is None else base.state.size,
    )


def rotation_pending(store: RealmStore) -> bool:
    """True iff somebody who held the keys lost their role, or became an auditor, since the newest
    key was made: until the next rotation they could open what is sealed now (rule 10). A snapshot
    does not say which came first, nor who an auditor was before: then a new key is made, once."""
    base = store.base()
    before = () if base is None else base.roles
    roles = {one.user: one.role for one in before}
    pending = any(role < READER for role in roles.values())
    for content in (one.content for one in _certificates(store)):
        if isinstance(content, RealmCreated):
            roles[content.owner] = OWNER
        elif isinstance(content, Rotation):
            pending = False
        elif isinstance(content, Role):
            pending |= roles.get(content.user, NO_ROLE) >= READER > content.role
            roles[content.user] = content.role
    return pending


def members_without_key(store: RealmStore) -> bool:
    """True iff somebody began to hold keys since the newest was made: it was not sealed to them.
    Those of a snapshot have theirs, or whoever replayed the log has seen to it."""
    base = store.base()
    before = () if base is None else base.roles
    roles = {one.user: one.role for one in before}
    waiting: set[UserId] = set()
    for content in (one.content for one in _certificates(store)):
        if isinstance(content, RealmCreated):
            roles[content.owner] = OWNER
        elif isinstance(content, Rotation):
            waiting.clear()
        elif isinstance(content, Role):
            if content.role < READER:
                waiting.discard(content.user)
            elif roles.get(content.user, NO_ROLE) < READER:
                waiting.add(content.user)
            roles[content.user] = content.role
    return bool(waiting)


def newest_rotation(store: RealmStore) -> tuple[DeviceHeader, int] | None:
    """Who made the newest key, and how much of the organization's log they had seen; None if that
    was before the snapshot that the store begins with.

    More than stood when the log took the certificate nobody has seen: an author who claims it would
    keep everybody from making the key that later revocations need."""
    numbers = store.certificate_numbers(_start(store))
    numbered = zip(numbers, _certificates(store), strict=True)
    made = [(number, one.header) for number, one in numbered if isinstance(one.content, Rotation)]
    if not made:
        return None
    number, header = made[-1]
    leaf = store.leaf(number)
    if leaf is None:
        raise DataError("the local store is damaged: a certificate has no leaf")
    return header, min(header.seen.org_size, decode(LeafHeader, leaf.header).org_size)


def with_map(state: RealmState, store: RealmStore) -> Generator[None, None, RealmState]:
    """The state with its map, in steps. Raises DataError if the store is damaged."""
    entries = dict(content_entry(one) for one in _contents(store))
    tree = PrefixMap(most=BUCKET_ITEMS).set_many(entries.items())
    last = b""
    while rows := store.states_after(last, _STEP):
        tree = tree.set_many([object_entry(id, row) for id, row in rows])
        last = rows[-1][0]
        yield
    if tree.root() != expected_map_root(store, state.position.size):
        raise DataError("the local store is damaged: its objects are not those of its log")
    return replace(state, map=tree)


def expected_map_root(store: RealmStore, size: int) -> Hash:
    """Map root after `size` leaves."""
    return store.roots_at(size).map_root


def _contents(store: RealmStore) -> list[Content]:
    """In log order; of what lies before the base, roles come last."""
    base = store.base()
    before: list[Content] = []
    if base is not None:
        before = [base.created, *base.rotations, *base.roles]
    return [*before, *(one.content for one in _certificates(store))]


def _certificates(store: RealmStore) -> list[Authored]:
    return [_authored(body) for body in store.certificates(_start(store))]


def _start(store: RealmStore) -> int:
    """What lies before the base does not count until all of it is there."""
    base = store.base()
    return 0 if base is None else base.state.size


def _authored(body: bytes) -> Authored:
    certificate = decode(Certificate, decode(Signed, body).record)
    return Authored(
        header=certificate.header,
        content=decode_content(certificate.kind, certificate.content),
        replaces=certificate.replaces,
        hash=signed_hash(body),
    )

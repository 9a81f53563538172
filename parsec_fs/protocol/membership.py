"""What the prefix of an org log says: users, devices, realms (rules 6, 8, 9).

Data flow: certificates in log order -> `OrgState` -> keys and profiles for everything else.

The state is immutable; `append` checks one leaf against the state before it and returns the next.
The server decides with it and every client verifies with it, so the rules exist once.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from parsec_fs.protocol.certificates import (
    ADMIN,
    OUTSIDER,
    STANDARD,
    Authored,
    Content,
    Device,
    DeviceRevoked,
    Genesis,
    RealmRegistered,
    RoleRegistered,
    User,
    UserKey,
    UserRevoked,
    peek_certificate,
    verify_certificate,
)
from parsec_fs.protocol.codec import encode_trusted
from parsec_fs.protocol.enrolled import DeviceEntry, Generation, generation_of
from parsec_fs.protocol.errors import TrustchainError
from parsec_fs.protocol.genesis import check_genesis, genesis_of
from parsec_fs.protocol.hashing import EMPTY_MAP, genesis_hash, map_key, map_value
from parsec_fs.protocol.ids import NO_HASH, DeviceId, Hash, LogId, OrgId, RealmId, UserId
from parsec_fs.protocol.keys import VerifyKey
from parsec_fs.protocol.limits import USER_DEVICES_MAX
from parsec_fs.protocol.log_state import (
    DeviceChain,
    LogPosition,
    NotAllowedError,
    ReplacedError,
    RevokedError,
    check_chain,
)
from parsec_fs.protocol.prefix_map import PrefixMap
from parsec_fs.protocol.records import CERTIFICATE, ROOT_DEVICE, Context, Leaf
from parsec_fs.protocol.sealing import check_box_public


@dataclass(frozen=True, slots=True, kw_only=True)
class OrgState:
    """An organization after `position.size` leaves of its org log."""

    context: Context
    genesis: Genesis
    root_key: VerifyKey
    head_key: VerifyKey
    position: LogPosition
    map: PrefixMap
    users: Mapping[UserId, User]
    devices: Mapping[DeviceId, DeviceEntry]
    realms: Mapping[RealmId, Hash]
    chains: Mapping[DeviceId, DeviceChain] = field(default_factory=lambda: MappingProxyType({}))
    generations: Mapping[UserId, tuple[Generation, ...]] = field(
        default_factory=lambda: MappingProxyType({})
    )
    """Box keys of every user, in order: generation g is at place g - 1."""
    revoked_users: Mapping[UserId, int] = field(default_factory=lambda: MappingProxyType({}))
    """Users who are members no more, and the index of the leaf that says so."""
    profiles: Mapping[UserId, tuple[tuple[int, int], ...]] = field(
        default_factory=lambda: MappingProxyType({})
    )
    """Every profile that a user had, in order, with the index of the leaf from which it counts."""
    registered: Mapping[Hash, int] = field(default_factory=lambda: MappingProxyType({}))
    """Signed hashes of roles in any realm, and the index of the leaf that registers each."""

    def is_member(self, user: UserId) -> bool:
        """True iff the user is known and not revoked."""
        return user in self.users and user not in self.revoked_users

    def takes_keys(self, user: UserId) -> bool:
        """True iff the user is a member with a device: keys are sealed to nobody else. Where the
        last device was stolen, what it holds is sealed to no more, whatever device an administrator
        adds then: it holds no key of the user, and counts from its own new one on (`UserKey`)."""
        if not self.is_member(user):
            return False
        own = [one for one in self.devices.values() if one.device.user == user]
        present = self.generations[user][-1].index
        stolen = max((one.revoked or 0 for one in own), default=0)
        return any(one.revoked is None and (stolen < present or one.index < stolen) for one in own)

    def is_registered_at(self, role: Hash, org_size: int) -> bool:
        """True iff the first `org_size` leaves register a role of this signed hash."""
        index = self.registered.get(role)
        return index is not None and index < org_size

    def is_member_at(self, user: UserId, org_size: int) -> bool:
        """The same after the first `org_size` leaves: what comes later binds no earlier leaf of a
        realm (R-9)."""
        ended = self.revoked_users.get(user)
        return self.profile_at(user, org_size) is not None and (ended is None or ended >= org_size)

    def profile_at(self, user: UserId, org_size: int) -> int | None:
        """Profile after the first `org_size` leaves; None for somebody whom they do not know."""
        known = [one for index, one in self.profiles.get(user, ()) if index < org_size]
        return known[-1] if known else None

    def devices_of(self, user: UserId) -> tuple[Device, ...]:
        """A user's devices that are not revoked, in order of their ids: those that a new user key
        is sealed to."""
        found = (
            one.device
            for one in self.devices.values()
            if one.device.user == user and one.revoked is None
        )
        return tuple(sorted(found, key=lambda one: one.device))

    def device(self, device: DeviceId) -> DeviceEntry:
        """Raises TrustchainError if the prefix knows no such device."""
        entry = self.devices.get(device)
        if entry is None:
            raise TrustchainError(f"unknown device {device.hex()}")
        return entry


def found(leaf: Leaf, *, expected_genesis: Hash | None = None) -> OrgState:
    """State after leaf 0, the genesis, which its own root key signs. Raises VerificationError."""
    unverified = peek_certificate(leaf.body)
    LogPosition().check(leaf, expected_map_root=EMPTY_MAP)
    if leaf.header.kind != CERTIFICATE:
        raise TrustchainError("an org log begins with its genesis")
    if expected_genesis is not None and genesis_hash(leaf.body) != expected_genesis:
        raise TrustchainError("another organization's genesis", evidence=(leaf.body,))
    from_bytes = genesis_of(unverified.kind, unverified.content)
    root_key = VerifyKey(from_bytes.root_key)
    authored = verify_certificate(leaf.body, key=root_key, expected_context=None)
    check_genesis(authored, from_bytes)
    context = replace(authored.header.context, genesis=genesis_hash(leaf.body))
    state = OrgState(
        context=context,
        genesis=from_bytes,
        root_key=root_key,
        head_key=VerifyKey(from_bytes.head_key),
        position=LogPosition(),
        map=PrefixMap(),
        users=MappingProxyType({}),
        devices=MappingProxyType({}),
        realms=MappingProxyType({}),
    )
    return _advance(state, leaf, authored)


def append(state: OrgState, leaf: Leaf) -> OrgState:
    """State after one more leaf. Raises DataError, SignatureError, TrustchainError, ProofError."""
    state.position.check(leaf, expected_map_root=state.map.root())
    if leaf.header.kind != CERTIFICATE:
        raise TrustchainError("an org log holds certificates only", evidence=(leaf.body,))
    unverified = peek_certificate(leaf.body)
    key = author_key(state, unverified.header.device)
    authored = verify_certificate(leaf.body, key=key, expected_context=state.context)
    check_certificate(state, authored)
    return _advance(state, leaf, authored)


def author_key(state: OrgState, device: DeviceId) -> VerifyKey:
    """Key of an author in the org log: root key or a device of this prefix, not revoked in it.
    Raises TrustchainError, RevokedError."""
    if device == ROOT_DEVICE:
        return state.root_key
    return state.device(device).check_at(state.position.size).key


def check_certificate(state: OrgState, authored: Authored) -> Authored:
    """May this author append this certificate now? Raises TrustchainError."""
    check_chain(state.chains, authored.header, expected_size=state.position.size)
    subject, _ = map_entry(state, authored.content)
    _check_author(state, authored.header.device, authored.content)
    if (state.map.get(subject) or NO_HASH) != authored.replaces:
        raise ReplacedError("certificate replaces a value that is not there (rule 8)")
    _check_subject(state, authored.content)
    return authored


def map_entry(state: OrgState, content: Content) -> tuple[Hash, Hash]:
    """Key and value hash that a certificate of the org log puts into the map. A new user key
    changes two fields of the user's record: the map says at any time which key is the present."""
    if isinstance(content, UserKey):
        content = with_key(state, content)
    if isinstance(content, UserRevoked):
        kind, subject = b"user", bytes(content.user)
    elif isinstance(content, DeviceRevoked):
        kind, subject = b"device", bytes(content.device)
    elif isinstance(content, Genesis):
        kind, subject = b"org", bytes(content.org)
    elif isinstance(content, User):
        kind, subject = b"user", bytes(content.user)
    elif isinstance(content, Device):
        kind, subject = b"device", bytes(content.device)
    elif isinstance(content, RealmRegistered):
        kind, subject = b"realm", bytes(content.realm)
    elif isinstance(content, RoleRegistered):
        kind, subject = b"role", bytes(content.certificate)
    else:
        raise TrustchainError("this kind of certificate does not belong into an org log")
    return map_key(kind, subject), map_value(encode_trusted(content))


def with_key(state: OrgState, content: UserKey) -> User:
    """The user with the new key. Raises TrustchainError if there is no such user."""
    known = state.users.get(content.user)
    if known is None:
        raise TrustchainError("user key: unknown user")
    return replace(known, generation=content.generation, box_key=content.box_key)


def realm_context(state: OrgState, realm: RealmId) -> Context:
    """Context of everything signed in a realm log of this organization."""
    return replace(state.context, log=LogId(realm))


def org_of(state: OrgState) -> OrgId:
    """The organization's id."""
    return state.context.org


def _check_author(state: OrgState, author: DeviceId, content: Content) -> None:
    """The root key signs the first user and the first device, and nothing ever after; a device is
    added by a device of the same user or by an administrator's; users by administrators; a user's
    key is renewed by the user alone, or an administrator could put one of theirs in its place.
    Administrators revoke any other user or device, users other devices of theirs. None of them
    takes their own profile away: so whoever takes one remains, as with revocations."""
    if author == ROOT_DEVICE:
        if not _is_first(state, content):
            raise TrustchainError("the root key signs only the first user and device")
        return
    user = state.device(author).check_at(state.position.size).device.user
    is_admin = state.users[user].profile == ADMIN
    if isinstance(content, User) and not is_admin:
        raise NotAllowedError("only an administrator adds users")
    if isinstance(content, User) and content.user == user and content.profile != ADMIN:
        raise NotAllowedError("no administrator takes their own profile away")
    if isinstance(content, Device) and content.user != user and not is_admin:
        raise NotAllowedError("only the user or an administrator adds a device")
    if isinstance(content, RealmRegistered) and state.users[user].profile == OUTSIDER:
        raise NotAllowedError("an outsider creates no workspaces")
    if isinstance(content, UserKey) and content.user != user:
        raise NotAllowedError("only a device of the user renews the user's key")
    if isinstance(content, UserRevoked | DeviceRevoked):
        _check_revoker(state, author, user, content)


def _check_revoker(
    state: OrgState, author: DeviceId, user: UserId, content: UserRevoked | DeviceRevoked
) -> None:
    """Nobody ends themselves: so whoever revokes remains, and with them an administrator with a
    device. A user needs no administrator's help against a stolen device of theirs."""
    is_admin = state.users[user].profile == ADMIN
    if isinstance(content, UserRevoked):
        if not is_admin:
            raise NotAllowedError("only an administrator revokes people")
        if content.user == user:
            raise NotAllowedError("nobody revokes themselves: another administrator can")
        return
    if content.device == author:
        raise NotAllowedError("a device does not revoke itself: another one can")
    known = state.devices.get(content.device)
    if not is_admin and (known is None or known.device.user != user):
        raise NotAllowedError("only the user or an administrator revokes a device")


def _is_first(state: OrgState, content: Content) -> bool:
    if isinstance(content, User):
        return content.profile == ADMIN and not state.users
    return isinstance(content, Device) and not state.devices


def _check_subject(state: OrgState, content: Content) -> None:
    """The content fits the state, whoever the author is."""
    if isinstance(content, User):
        _check_user(state, content)
    elif isinstance(content, UserRevoked):
        _member(state, content.user)
    elif isinstance(content, DeviceRevoked):
        state.device(content.device).check_at(state.position.size)
    elif isinstance(content, Device):
        if _member(state, content.user).generation != content.generation:
            raise TrustchainError("device: other key generation than its user's")
        if content.device in state.devices or content.device == ROOT_DEVICE:
            raise TrustchainError("device: ids never come back (rule 1)")
        if len(state.devices_of(content.user)) >= USER_DEVICES_MAX:
            raise TrustchainError(f"device: a user has at most {USER_DEVICES_MAX}")
    elif isinstance(content, UserKey):
        _check_user_key(state, content)
    elif isinstance(content, RoleRegistered):
        if content.certificate in state.registered:
            raise TrustchainError("a role is registered once (rule 9)")
    elif not isinstance(content, RealmRegistered):
        raise TrustchainError("an organization is founded once")
    elif content.realm in state.realms:
        raise TrustchainError("a realm is registered once (rule 6)")
    elif bytes(content.realm) == bytes(state.context.org):
        raise TrustchainError("a realm id never equals the organization id (rule 1)")


def _check_user(state: OrgState, content: User) -> None:
    """Names and profile may change, the box key not: otherwise an administrator could put a key of
    theirs in its place and have realm keys sealed to it."""
    if content.profile not in (ADMIN, STANDARD, OUTSIDER):
        raise TrustchainError("user: unknown profile")
    known = state.users.get(content.user)
    if content.user in state.revoked_users:
        raise RevokedError("user: the user was revoked, and ids never come back (rule 1)")
    if known and (known.box_key, known.generation) != (content.box_key, content.generation):
        raise TrustchainError("user: the box key of a known user stays")
    if not known and content.generation != 1:
        raise TrustchainError("user: key generations count from 1")


def _member(state: OrgState, user: UserId) -> User:
    """Raises TrustchainError, RevokedError."""
    if user in state.revoked_users:
        raise RevokedError("the user was revoked already")
    known = state.users.get(user)
    if known is None:
        raise TrustchainError("unknown user")
    return known


def _check_user_key(state: OrgState, content: UserKey) -> None:
    """Counted without a gap, a fresh key that boxes can be sealed to, and a box for each device of
    the user and nobody else: whether they open is seen by the devices alone (A15)."""
    if content.generation != state.users[content.user].generation + 1:
        raise TrustchainError("user key: generations are counted without a gap")
    if any(one.box_key == content.box_key for one in state.generations[content.user]):
        raise TrustchainError("user key: a key never comes back")
    check_box_public(content.box_key)
    devices = tuple(one.device for one in state.devices_of(content.user))
    if tuple(one.device for one in content.boxes) != devices:
        raise TrustchainError("user key: one box for every device of the user")


def _advance(state: OrgState, leaf: Leaf, authored: Authored) -> OrgState:
    content = authored.content
    users, devices, realms = dict(state.users), dict(state.devices), dict(state.realms)
    generations, revoked_users = dict(state.generations), dict(state.revoked_users)
    profiles, registered = dict(state.profiles), state.registered
    if isinstance(content, User):
        users[content.user] = content
        known = profiles.get(content.user, ())
        profiles[content.user] = (*known, (leaf.header.index, content.profile))
        generations.setdefault(content.user, (generation_of(content, leaf.header.index),))
    elif isinstance(content, UserKey):
        users[content.user] = with_key(state, content)
        generations[content.user] += (generation_of(content, leaf.header.index),)
    elif isinstance(content, Device):
        key = VerifyKey(content.sign_key)
        devices[content.device] = DeviceEntry(device=content, index=leaf.header.index, key=key)
    elif isinstance(content, RealmRegistered):
        realms[content.realm] = content.creation
    elif isinstance(content, UserRevoked):
        revoked_users[content.user] = leaf.header.index
    elif isinstance(content, RoleRegistered):
        registered = MappingProxyType({**registered, content.certificate: leaf.header.index})
    devices |= _ended(state, content, leaf.header.index)
    chains = dict(state.chains)
    chains[authored.header.device] = DeviceChain(
        sequence=authored.header.sequence + 1, last=authored.hash
    )
    return replace(
        state,
        position=state.position.after(leaf),
        map=state.map.set(*map_entry(state, content)),
        users=MappingProxyType(users),
        devices=MappingProxyType(devices),
        realms=MappingProxyType(realms),
        chains=MappingProxyType(chains),
        generations=MappingProxyType(generations),
        revoked_users=MappingProxyType(revoked_users),
        profiles=MappingProxyType(profiles),
        registered=registered,
    )


def _ended(state: OrgState, content: Content, index: int) -> dict[DeviceId, DeviceEntry]:
    """The devices that a revocation ends, those of a revoked user among them."""
    if isinstance(content, DeviceRevoked):
        found = [state.device(content.device)]
    elif isinstance(content, UserRevoked):
        found = [state.device(one.device) for one in state.devices_of(content.user)]
    else:
        found = []
    return {one.device.device: replace(one, revoked=index) for one in found}

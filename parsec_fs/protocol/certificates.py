"""Certificates: who belongs to an organization and who may do what in a realm (rules 6, 8, 9).

Data flow: device signs -> org log or realm log -> `membership` replays the prefix -> keys, roles.

Validity is a function of the log prefix, never of time. Each certificate names the hash of the map
value it replaces (zeros: none), so an old one cannot be appended again (rule 8).
The genesis, the first user and the first device are signed by the organization's root key.
"""

from dataclasses import dataclass
from typing import Annotated, Final

from parsec_fs.protocol.codec import (
    U8,
    U32,
    U64,
    Bytes32,
    Increasing,
    Label,
    Size,
    decode,
    encode,
)
from parsec_fs.protocol.errors import OutdatedError, SignatureError
from parsec_fs.protocol.hashing import box_hash, records_leaf, signed_hash, tag
from parsec_fs.protocol.ids import DeviceId, Hash, OrgId, RealmId, UserId
from parsec_fs.protocol.keys import SigningKey, VerifyKey
from parsec_fs.protocol.limits import USER_DEVICES_MAX
from parsec_fs.protocol.records import Context, DeviceHeader, Signed
from parsec_fs.protocol.sealing import BOX_PUBLIC_SIZE, BOX_SIZE, USER_BOX_SIZE
from parsec_fs.protocol.statements import CoKey

GENESIS: Final = 1
USER: Final = 2
DEVICE: Final = 3
REALM_REGISTERED: Final = 4
REALM_CREATED: Final = 5
ROLE: Final = 6
ROTATION: Final = 7
USER_KEY: Final = 8
DEVICE_REVOKED: Final = 9
USER_REVOKED: Final = 10
ROLE_REGISTERED: Final = 11

ADMIN: Final = 1
STANDARD: Final = 2
OUTSIDER: Final = 3
"""Profiles in the organization: an outsider registers no realms and is neither owner nor manager of
one."""

NO_ROLE: Final = 0
AUDITOR: Final = 1
READER: Final = 2
CONTRIBUTOR: Final = 3
MANAGER: Final = 4
OWNER: Final = 5
"""Roles in a realm; a higher number may do everything that a lower one may. From reader on they
hold the realm's keys; an auditor reads and verifies the log, and is sealed nothing."""

_SIGN: Final = tag("certificate-signature")
BoxPublic = Annotated[bytes, Size(BOX_PUBLIC_SIZE, BOX_PUBLIC_SIZE)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """A signed public statement. `content` is the record of its kind, `replaces` the hash of the
    map value that it replaces (zeros: the subject is new)."""

    header: DeviceHeader
    kind: U8
    replaces: Hash
    content: Annotated[bytes, Size(1, 192 * 1024)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Genesis:
    """Leaf 0 of the org log: pins root key, server and suite. Its hash names the organization."""

    org: OrgId
    name: Label
    root_key: Bytes32
    head_key: Bytes32
    co_key: CoKey
    suite: U8


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """A person. `box_key` is the public X-Wing key of generation `generation` (from 1)."""

    user: UserId
    name: Label
    email: Label
    profile: U8
    generation: U32
    box_key: BoxPublic


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """An installation of a user. `user_key_box` holds the user's box key seed for this device
    (empty for a user's first device, which drew it)."""

    device: DeviceId
    user: UserId
    label: Label
    sign_key: Bytes32
    box_key: BoxPublic
    generation: U32
    user_key_box: Annotated[bytes, Size(0, USER_BOX_SIZE)]


@dataclass(frozen=True, slots=True, kw_only=True)
class RealmRegistered:
    """In the org log: the realm exists (no hidden realm, rule 6)."""

    realm: RealmId
    creation: Hash


@dataclass(frozen=True, slots=True, kw_only=True)
class RealmCreated:
    """Leaf 0 of a realm log: its author is the first owner."""

    realm: RealmId
    owner: UserId


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """A user's role in the realm from this leaf on (0: none)."""

    user: UserId
    role: U8


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleRegistered:
    """In the org log, before it counts in a realm: the `Role` with this signed hash. So both logs
    say that it was signed before its author was revoked (rule 9); no realm is named."""

    certificate: Hash


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotation:
    """A new realm key. `commitment` binds everyone to one key (A15); `previous` is the key before,
    sealed under this one (empty at index 1); `boxes_root` covers the members' boxes, which travel
    beside the certificate; `name` is the workspace's name sealed under the key."""

    index: U32
    commitment: Hash
    previous: Annotated[bytes, Size(0, 256)]
    boxes_root: Hash
    name: Annotated[bytes, Size(1, 1024)]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyBox:
    """One member's realm key: leaf of the tree under `boxes_root`, in order of user ids."""

    user: UserId
    generation: U32
    box: Annotated[bytes, Size(BOX_SIZE, BOX_SIZE)]

    def leaf(self) -> Hash:
        """Leaf hash under `boxes_root`."""
        return records_leaf(self.user + self.generation.to_bytes(4, "big") + box_hash(self.box))


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceBox:
    """The seed of a user's box key, sealed to one device of the user."""

    device: DeviceId
    box: Annotated[bytes, Size(USER_BOX_SIZE, USER_BOX_SIZE)]


@dataclass(frozen=True, slots=True, kw_only=True)
class UserKey:
    """A new generation of a user's box key, signed by a device of the user. `previous` is the seed
    of the newest generation that the author holds, sealed to this one, so that a device which
    comes later reaches what was sealed before it; `boxes` serve every device of the user. All of
    it is in the log: a server cannot keep a box from a device."""

    user: UserId
    generation: U32
    box_key: BoxPublic
    previous: Annotated[bytes, Size(USER_BOX_SIZE, USER_BOX_SIZE)]
    boxes: Annotated[tuple[DeviceBox, ...], Increasing(), Size(1, USER_DEVICES_MAX)]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceRevoked:
    """From this leaf on the device is nobody's. Takes the place of its record in the map, so that
    it shows there for ever; an id never comes back."""

    device: DeviceId


@dataclass(frozen=True, slots=True, kw_only=True)
class UserRevoked:
    """From this leaf on the user is no member, and none of the user's devices is anybody's."""

    user: UserId


Content = (
    Genesis
    | User
    | Device
    | RealmRegistered
    | RealmCreated
    | Role
    | Rotation
    | UserKey
    | DeviceRevoked
    | UserRevoked
    | RoleRegistered
)

CONTENT_CLASSES: Final[dict[int, type]] = {
    GENESIS: Genesis,
    USER: User,
    DEVICE: Device,
    REALM_REGISTERED: RealmRegistered,
    REALM_CREATED: RealmCreated,
    ROLE: Role,
    ROTATION: Rotation,
    USER_KEY: UserKey,
    DEVICE_REVOKED: DeviceRevoked,
    USER_REVOKED: UserRevoked,
    ROLE_REGISTERED: RoleRegistered,
}
_KINDS: Final = {cls: kind for kind, cls in CONTENT_CLASSES.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Authored:
    """A verified certificate: header, content, and the hash that names the signed bytes."""

    header: DeviceHeader
    content: Content
    replaces: Hash
    hash: Hash


def sign_certificate(
    content: Content, *, header: DeviceHeader, replaces: Hash, key: SigningKey
) -> bytes:
    """Log entry body of a certificate."""
    kind = _KINDS[type(content)]
    record = encode(
        Certificate(header=header, kind=kind, replaces=replaces, content=encode(content))
    )
    return encode(Signed(record=record, signature=key.sign(_SIGN + record)))


def peek_certificate(body: bytes) -> Certificate:
    """The certificate in a body, NOT verified: to find out whose key to check. Raises DataError."""
    return decode(Certificate, decode(Signed, body).record)


def verify_certificate(
    unverified_body: bytes, *, key: VerifyKey, expected_context: Context | None
) -> Authored:
    """The certificate's content. Raises DataError, SignatureError; OutdatedError only for what the
    key has signed, or anybody could keep a server from being convicted.

    `expected_context` is None for the genesis alone, whose hash does not exist yet."""
    signed = decode(Signed, unverified_body)
    key.verify(_SIGN + signed.record, signed.signature)
    certificate = decode(Certificate, signed.record)
    if expected_context is not None and certificate.header.context != expected_context:
        raise SignatureError("certificate is for another log", evidence=(unverified_body,))
    content = decode_content(certificate.kind, certificate.content)
    return Authored(
        header=certificate.header,
        content=content,
        replaces=certificate.replaces,
        hash=signed_hash(unverified_body),
    )


def decode_content(kind: int, data: bytes) -> Content:
    """Content record of a kind. Raises DataError, and OutdatedError for a kind that came after this
    program: a malformed record of a known kind is somebody's fault, a new kind is nobody's."""
    cls = CONTENT_CLASSES.get(kind)
    if cls is None:
        raise OutdatedError(f"certificates of kind {kind}")
    content: Content = decode(cls, data)
    return content


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyState:
    """Map value of a realm's current key (rule 6)."""

    index: U32
    commitment: Hash
    boxes_root: Hash
    rotations: U64

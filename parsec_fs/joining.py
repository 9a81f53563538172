"""Joining by a one-time code: what both devices compute from it (rule 25).

Data flow: device add -> code, read out or pasted -> device join; mail through the server between.

    code = version 1 | secret 16 | digest of the invitation 32 | server URL | checksum 4, as text
    slot 0  inviter -> joiner  invitation: trust anchor, states of the logs, who invites
    slot 1  joiner -> inviter  request: its public keys and its label
    slot 2  inviter -> joiner  admission: the leaf index of its certificate, states of the logs

The code pins the invitation by digest, so not even someone who learns the secret can exchange the
anchor. Mail is sealed and authenticated under keys derived from the secret, one per slot: the
server, which carries it, can neither read, nor forge, nor send a message back to its author.
The code is worth an attempt to become a device of the user, until it is used or ten minutes are
over. Whoever sees it could answer first, hence both sides show a digest of the request, and the
inviter adds nothing before a person has compared them.
"""

import base64
import binascii
from dataclasses import dataclass
from typing import Annotated, Final, TypeVar

from parsec_fs.identity import DeviceSecrets, TrustAnchor
from parsec_fs.protocol.certificates import BoxPublic
from parsec_fs.protocol.codec import U64, Bytes32, Label, Size, decode, encode
from parsec_fs.protocol.errors import DataError, DecryptionError, InputError
from parsec_fs.protocol.hashing import keyed, sha256, tag
from parsec_fs.protocol.ids import DeviceId, UserId
from parsec_fs.protocol.records import LogState
from parsec_fs.protocol.sealing import LocalSealer

INVITATION: Final = 0
REQUEST: Final = 1
ADMISSION: Final = 2
"""Slots of the mailbox."""

CODE_LIFETIME_S: Final = 600
"""As long as the server keeps mail."""

MISTYPED: Final = "the code is mistyped or incomplete; copy it again"

_VERSION: Final = 1
_SECRET_SIZE: Final = 16
_CHECKSUM_SIZE: Final = 4
_PREFIX: Final = "parsec-fs-"
T = TypeVar("T")
States = Annotated[tuple[LogState, ...], Size(1, 10_000)]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class JoinCode:
    """What the person carries from one device to the other. Secret."""

    secret: bytes
    invitation: bytes
    server_url: str

    def __repr__(self) -> str:
        return "JoinCode(hidden)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Invitation:
    """Everything that the new device will trust, vouched for by a device of the same user."""

    anchor: TrustAnchor
    user: UserId
    inviter: DeviceId
    org_state: LogState
    label: Label


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinRequest:
    """The new device's public half."""

    device: DeviceId
    label: Label
    sign_key: Bytes32
    box_key: BoxPublic


def join_request(secrets: DeviceSecrets, name: bytes) -> JoinRequest:
    """Of the device that these secrets will be; `name`: its label."""
    return JoinRequest(
        device=secrets.device,
        label=name,
        sign_key=secrets.signing_key().verify_key.raw,
        box_key=secrets.box_key().public,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """The certificate is in the org log; these are the logs as the inviter verified them."""

    index: U64
    states: States


def format_code(code: JoinCode) -> str:
    """One line of letters, digits, `-` and `_`."""
    data = bytes((_VERSION,)) + code.secret + code.invitation + code.server_url.encode()
    return _PREFIX + checked_text(data)


def parse_code(text: str) -> JoinCode:
    """The code in `text`, white space ignored. Raises InputError if it was mistyped or cut off."""
    compact = "".join(text.split())
    if not compact.startswith(_PREFIX):
        raise InputError(f"a code begins with {_PREFIX}; get one with: parsec-fs device add")
    data = checked_bytes(compact.removeprefix(_PREFIX))
    if data[:1] != bytes((_VERSION,)):
        raise InputError(MISTYPED)
    start = 1 + _SECRET_SIZE
    try:
        url = data[start + 32 :].decode()
    except UnicodeDecodeError as error:
        raise InputError("the code holds no server address") from error
    return JoinCode(secret=data[1:start], invitation=data[start : start + 32], server_url=url)


def checked_text(data: bytes) -> str:
    """Bytes and their checksum as letters, digits, `-` and `_`."""
    checked = data + sha256(data)[:_CHECKSUM_SIZE]
    return base64.urlsafe_b64encode(checked).rstrip(b"=").decode()


def checked_bytes(text: str) -> bytes:
    """The bytes in such a text. Raises InputError if it was mistyped or cut off."""
    try:
        padded = text.encode("ascii") + b"=" * (-len(text) % 4)
        data = base64.b64decode(padded, altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise InputError(MISTYPED) from error
    data, checksum = data[:-_CHECKSUM_SIZE], data[-_CHECKSUM_SIZE:]
    if sha256(data)[:_CHECKSUM_SIZE] != checksum:
        raise InputError(MISTYPED)
    return data


def invitation_digest(encoded: bytes) -> bytes:
    """What the code says about the invitation."""
    return sha256(tag("join-invitation") + encoded)


def request_digest(request: JoinRequest) -> bytes:
    """What both people compare: whoever saw the code could have sent a request, but not this."""
    return sha256(tag("join-request") + encode(request))


def mailbox_address(secret: bytes) -> bytes:
    """Address of the mailbox; says nothing about the keys."""
    return keyed(secret, "join-address", b"")


def seal_mail(message: object, *, slot: int, secret: bytes, salt: bytes) -> bytes:
    """Message for one slot. `salt` is 32 fresh random bytes."""
    return _sealer(secret, slot).seal(encode(message), context=_context(slot), salt=salt)


def open_mail(sealed: bytes, cls: type[T], *, slot: int, secret: bytes) -> T:
    """What the other device wrote. Raises DecryptionError, also for malformed mail: only a holder
    of the code could have written something that opens."""
    plain = _sealer(secret, slot).open(sealed, expected_context=_context(slot))
    try:
        return decode(cls, plain)
    except DataError as error:
        raise DecryptionError("mail of the other device is malformed") from error


def open_invitation(sealed: bytes, code: JoinCode) -> Invitation:
    """The invitation that the code pins. Raises DecryptionError."""
    invitation = open_mail(sealed, Invitation, slot=INVITATION, secret=code.secret)
    if invitation_digest(encode(invitation)) != code.invitation:
        raise DecryptionError("the invitation is not the one that the code names")
    return invitation


def _sealer(secret: bytes, slot: int) -> LocalSealer:
    return LocalSealer(keyed(secret, "join-key", bytes((slot,))))


def _context(slot: int) -> bytes:
    return tag("join-mail") + bytes((slot,))

"""Mail between a new device and whoever invited it, and what the two agree on (rule 25).

Data flow: user invite, device add -> sealed mail through the server -> user join, device join.

Mail is sealed and authenticated under keys derived from a secret, one per slot: the server, which
carries it, can neither read, nor forge, nor send a message back to its author. What is said in
which slot, and what stops whoever else has read the link: `greeting`.
"""

import base64
import binascii
from dataclasses import dataclass
from typing import Annotated, Final, TypeVar

from parsec_fs.identity import DeviceSecrets
from parsec_fs.protocol.certificates import BoxPublic
from parsec_fs.protocol.codec import U64, Bytes32, Label, Size, decode, encode
from parsec_fs.protocol.errors import DataError, DecryptionError, InputError
from parsec_fs.protocol.hashing import keyed, sha256, tag
from parsec_fs.protocol.ids import DeviceId
from parsec_fs.protocol.records import LogState
from parsec_fs.protocol.sealing import LocalSealer

MISTYPED: Final = "the link is mistyped or incomplete; copy it again"

_CHECKSUM_SIZE: Final = 4
T = TypeVar("T")
States = Annotated[tuple[LogState, ...], Size(1, 10_000)]


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
    """What a link says about the invitation."""
    return sha256(tag("join-invitation") + encoded)


def mailbox_address(secret: bytes) -> bytes:
    """Address of the mailbox; says nothing about the keys."""
    return keyed(secret, "join-address", b"")


def seal_mail(message: object, *, slot: int, secret: bytes, salt: bytes) -> bytes:
    """Message for one slot. `salt` is 32 fresh random bytes."""
    return _sealer(secret, slot).seal(encode(message), context=_context(slot), salt=salt)


def open_mail(sealed: bytes, cls: type[T], *, slot: int, secret: bytes) -> T:
    """What the other device wrote. Raises DecryptionError, also for malformed mail: only a holder
    of the secret could have written something that opens."""
    plain = _sealer(secret, slot).open(sealed, expected_context=_context(slot))
    try:
        return decode(cls, plain)
    except DataError as error:
        raise DecryptionError("mail of the other device is malformed") from error


def _sealer(secret: bytes, slot: int) -> LocalSealer:
    return LocalSealer(keyed(secret, "join-key", bytes((slot,))))


def _context(slot: int) -> bytes:
    return tag("join-mail") + bytes((slot,))

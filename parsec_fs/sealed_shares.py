"""A share of a recovery kit for a colleague: sealed to their key, signed by who made the kit.

Data flow: share of 33 words, verified org log -> `seal_share` -> file, handed over on any way;
           file, verified org log -> `check_share_file` -> `open_share` -> words.

    file       share, signature 64
    share      org, owner, kit, recipient, generation, place, needed, count, server URL, sender, box
    box        33 words, padded to 320 bytes, sealed to the recipient's user key; everything else in
               the share but sender and box is its context

Only the colleague opens it, and only on a device that holds that generation of their key: later
devices are handed the older generations. A box alone says nothing about who sealed it, so whoever
carries the file could put a share of another kit in its place. The device that made the kit signs
it, and the kit itself stands in the organization's log as a device on paper of the same person.
"""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Annotated, Final

from parsec_fs.identity import DeviceSecrets, Url
from parsec_fs.plain_text import plain_name
from parsec_fs.protocol.certificates import User
from parsec_fs.protocol.codec import U8, U32, Bytes64, Size, decode, encode
from parsec_fs.protocol.errors import DataError, InputError, SignatureError, TrustchainError
from parsec_fs.protocol.hashing import tag
from parsec_fs.protocol.ids import DeviceId, OrgId, UserId
from parsec_fs.protocol.keys import VerifyKey
from parsec_fs.protocol.membership import OrgState
from parsec_fs.protocol.sealing import seal_box
from parsec_fs.recovery import is_paper
from parsec_fs.user_keys import hold_user_keys

FILE_MAX_SIZE: Final = 8192
_TEXT_SIZE: Final = 320
"""Longer than any 33 words of the list: the size of a box says nothing about them."""
_SHARE: Final = tag("recovery-share")
_SIGNED: Final = tag("recovery-share-file")


class Standing(StrEnum):
    """What became of a share since it was made."""

    IN_FORCE = "-"
    KIT_REVOKED = "kit revoked"
    SENDER_REVOKED = "sender revoked"


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedShare:
    """Share `place` of `count`, of which `needed` give the kit back."""

    org: OrgId
    owner: UserId
    kit: DeviceId
    recipient: UserId
    generation: U32
    place: U8
    needed: U8
    count: U8
    server_url: Url
    sender: DeviceId
    box: Annotated[bytes, Size(0, 4096)]

    def context(self) -> bytes:
        """What the box is bound to."""
        return _SHARE + encode(replace(self, sender=DeviceId(bytes(16)), box=b""))


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareFile:
    """What is handed over."""

    share: Annotated[bytes, Size(1, FILE_MAX_SIZE)]
    signature: Bytes64


class ShareChecks:
    """What stops whoever carries the file; tests leave it out to show it."""

    def sender(self, unverified: ShareFile, share: SealedShare, org: OrgState) -> SealedShare:
        """A device of the kit's owner has signed these bytes. Raises VerificationError."""
        device = org.device(share.sender).device
        VerifyKey(device.sign_key).verify(_SIGNED + unverified.share, unverified.signature)
        if device.user != share.owner:
            raise SignatureError("this share is not from the person whose kit it is of")
        return share


SHARE_CHECKS: Final = ShareChecks()


def seal_share(
    words: tuple[str, ...], recipient: User, *, about: SealedShare, secrets: DeviceSecrets
) -> bytes:
    """The file for one colleague, under their present key. `about`: its place, kit and server; who
    sends it to whom is filled in."""
    share = replace(
        about,
        owner=secrets.user,
        recipient=recipient.user,
        generation=recipient.generation,
        sender=secrets.device,
    )
    text = " ".join(words).encode().ljust(_TEXT_SIZE)
    box = seal_box(text, recipient=recipient.box_key, info=share.context())
    body = encode(replace(share, box=box))
    return encode(ShareFile(share=body, signature=secrets.signing_key().sign(_SIGNED + body)))


def check_share_file(
    unverified: bytes, org: OrgState, *, expected_org: OrgId, checks: ShareChecks = SHARE_CHECKS
) -> SealedShare:
    """A share that its owner's device made of a kit that stands in the log. Raises DataError,
    TrustchainError, SignatureError; nobody else can be accused by it."""
    file = decode(ShareFile, unverified, max_size=FILE_MAX_SIZE)
    share = decode(SealedShare, file.share, max_size=FILE_MAX_SIZE)
    if share.org != expected_org:
        raise TrustchainError("this share is of another organization")
    share = checks.sender(file, share, org)
    kit = org.device(share.kit).device
    if kit.user != share.owner or not is_paper(kit):
        raise TrustchainError("this share is of no recovery kit of the person who sent it")
    return share


def standing(share: SealedShare, org: OrgState) -> Standing:
    """Of a share that was checked. The kit of a person who was revoked is worth nothing either."""
    if org.device(share.kit).revoked is not None or not org.is_member(share.owner):
        return Standing.KIT_REVOKED
    if org.device(share.sender).revoked is not None:
        return Standing.SENDER_REVOKED
    return Standing.IN_FORCE


def check_kit_in_force(share: SealedShare, org: OrgState) -> SealedShare:
    """Its kit was not revoked: what was kept is opened whatever else was. Raises InputError."""
    if standing(share, org) is Standing.KIT_REVOKED:
        owner = plain_name(org.users[share.owner].name)
        raise InputError(f"this kit of {owner} was revoked: its shares are worth nothing any more")
    return share


def check_in_force(share: SealedShare, org: OrgState) -> SealedShare:
    """Neither its kit nor the device that made it was revoked: a file has no place in the log, so a
    thief could have made it at any time. Raises InputError."""
    if standing(check_kit_in_force(share, org), org) is Standing.SENDER_REVOKED:
        owner = plain_name(org.users[share.owner].name)
        raise InputError(
            f"the device of {owner} that made this share was revoked: it may be from whoever stole "
            f"it. Ask {owner} for a share of a new kit"
        )
    return share


def open_share(share: SealedShare, org: OrgState, secrets: DeviceSecrets) -> tuple[str, ...]:
    """The words. Raises InputError: it is for somebody else, DecryptionError."""
    if share.recipient != secrets.user:
        known = org.users.get(share.recipient)
        whose = plain_name(known.name) if known else "somebody else"
        raise InputError(f"this share is for {whose}: nobody else can open it")
    key = hold_user_keys(org, secrets).user_key(share.generation)
    try:
        text = key.open(share.box, info=share.context()).decode("ascii")
    except UnicodeDecodeError as error:
        raise DataError("this share holds no words") from error
    return tuple(text.split())

"""Inviting a person or a device: link, messages under it, and the two short codes (rule 25).

Data flow: user invite -> link -> user join, device add -> link -> device join; seven sealed
messages through the server, in turns.

    link   = server URL /join# kind 1 | secret 16 | digest of the invitation 32 | checksum 4
    slot 0  inviter  Invitation: trust anchor, state of the org log, who is invited as what
    slot 1  joiner   Hello: a key for this greeting, and a commitment to the joiner's nonce
    slot 2  inviter  Answer: a secret, sealed to that key, and the inviter's nonce
    slot 3  joiner   Reveal: the joiner's nonce
    slot 4  inviter  Verdict: is the code that the joiner read out the one of this side?
    slot 5  joiner   PersonRequest or JoinRequest: new public keys; only if the other code is right
    slot 6  inviter  Admission
    slot 8  inviter  Cancelled, at any time: the joiner need not wait for an answer any more

The kind is 2 for a person and 3 for a further device of the inviter's own user. The codes are not
between two people then but between two screens; everything else is the same.
Links travel by mail and chat: whoever reads one, the server among them, could stand between the two
(a man in the middle). Then the two sides have different transcripts, hence different codes, except
with probability 2^-20 for each code: the joiner is bound to its nonce before it sees the inviter's,
and the inviter answers before it sees the joiner's, so that nobody can search for nonces that fit.
A person who picks one of three codes without listening is right by chance once in three times.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Final, TypeVar

from parsec_fs.identity import Random, TrustAnchor
from parsec_fs.joining import (
    MISTYPED,
    JoinRequest,
    checked_bytes,
    checked_text,
    invitation_digest,
    open_mail,
)
from parsec_fs.protocol.certificates import ADMIN, OUTSIDER, STANDARD, BoxPublic
from parsec_fs.protocol.codec import U8, U64, Bytes32, IntRange, Label, Size, encode
from parsec_fs.protocol.errors import DataError, DecryptionError, InputError
from parsec_fs.protocol.hashing import keyed, sha256, tag
from parsec_fs.protocol.ids import DeviceId, UserId
from parsec_fs.protocol.records import LogState
from parsec_fs.protocol.sealing import BOX_SIZE, BoxKey, seal_box

INVITATION: Final = 0
HELLO: Final = 1
ANSWER: Final = 2
REVEAL: Final = 3
VERDICT: Final = 4
REQUEST: Final = 5
ADMISSION: Final = 6
CANCELLED: Final = 8
"""Slots of the mailbox: even ones are the inviter's. All but the last are used in order."""

SECRET_SIZE: Final = 16
CHOICES: Final = 3
SYMBOLS: Final = 4
"""Of 32 letters and digits each: 20 bits in a code."""
_LETTERS: Final = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"
_PATH: Final = "/join"

PERSON: Final = 2
DEVICE: Final = 3
"""What a link invites: the first byte behind its `#`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """What is typed about invitations of one kind, and what they are."""

    what: str
    invite: str
    greet: str
    join: str


WORDS: Final[Mapping[int, Words]] = {
    PERSON: Words(
        what="a person",
        invite="parsec-fs user invite",
        greet="parsec-fs user greet",
        join="parsec-fs user join",
    ),
    DEVICE: Words(
        what="another device of a person who has one",
        invite="parsec-fs device add",
        greet="parsec-fs device add",
        join="parsec-fs device join",
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Link:
    """What is sent to the person, or carried to the new device. Secret: it is worth an attempt to
    be greeted."""

    secret: bytes
    invitation: bytes
    server_url: str
    kind: int = PERSON

    @property
    def words(self) -> Words:
        """How to talk of it."""
        return WORDS[self.kind]

    def __repr__(self) -> str:
        return "Link(hidden)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Invitation:
    """What every link pins: all that the new device will trust. `inviter_name` is that of the
    inviting person, or of the inviting device to its own user."""

    anchor: TrustAnchor
    user: UserId
    inviter: DeviceId
    inviter_name: Label
    org_name: Label
    org_state: LogState
    expires_ms: U64


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonInvitation(Invitation):
    """And what the person will be."""

    name: Label
    email: Label
    profile: U8


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceInvitation(Invitation):
    """A further device of `user`, who is called so."""

    user_name: Label


INVITATIONS: Final[Mapping[int, type[Invitation]]] = {
    PERSON: PersonInvitation,
    DEVICE: DeviceInvitation,
}
Terms = TypeVar("Terms", bound=Invitation)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """The joiner's first word. `commitment` binds it to a nonce that it reveals later."""

    box_key: BoxPublic
    commitment: Bytes32


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The inviter's: a fresh secret for the joiner's key."""

    box: Annotated[bytes, Size(BOX_SIZE, BOX_SIZE)]
    nonce: Bytes32


@dataclass(frozen=True, slots=True, kw_only=True)
class Reveal:
    """The nonce that the joiner was bound to."""

    nonce: Bytes32


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """1: the joiner's code was recognized; 0: it was not, and the invitation is over."""

    same: Annotated[int, IntRange(0, 1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonRequest:
    """Public keys of the new user and of their first device."""

    user: UserId
    box_key: BoxPublic
    device: JoinRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancelled:
    """The invitation was taken back. Whoever has read the link can say so too: it must cost the
    joiner nothing but this attempt once keys were sent."""

    invitation: Bytes32


@dataclass(frozen=True, slots=True, kw_only=True)
class _Transcript:
    invitation: Bytes32
    hello: Hello
    answer: Answer
    reveal: Reveal


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Codes:
    """`joiner`: read out by the joiner, recognized by the inviter; `inviter`: the other way round.
    `session` seals all that follows."""

    joiner: str
    inviter: str
    session: bytes


class GreetingChecks:
    """What stops a man in the middle; tests leave it out to show that it does."""

    def commitment(self, hello: Hello, reveal: Reveal) -> Reveal:
        """The nonce is the one that the joiner was bound to before it knew ours: otherwise whoever
        sends it could search for one that gives the wanted code. Raises DecryptionError."""
        if commitment(reveal.nonce, hello.box_key) != hello.commitment:
            raise DecryptionError("the other side changed its nonce: somebody is between you")
        return reveal


GREETING_CHECKS: Final = GreetingChecks()


def format_link(link: Link) -> str:
    """The link as text. What follows `#` never leaves the machine where it is opened."""
    pinned = checked_text(bytes((link.kind,)) + link.secret + link.invitation)
    return f"{link.server_url}{_PATH}#{pinned}"


def parse_link(text: str, *, kind: int = PERSON) -> Link:
    """The link as pasted, to an invitation of this kind. Raises InputError."""
    url, mark, pinned = "".join(text.split()).partition("#")
    if not mark or not url.endswith(_PATH) or not url.startswith(("http://", "https://")):
        raise InputError(f"this is no invitation; one is made by: {WORDS[kind].invite}")
    data = checked_bytes(pinned)
    if len(data) != 1 + SECRET_SIZE + 32 or data[0] not in WORDS:
        raise InputError(MISTYPED)
    if data[0] != kind:
        other = WORDS[data[0]]
        raise InputError(f"this link invites {other.what}; nothing was done. Type: {other.join}")
    secret, digest = data[1 : 1 + SECRET_SIZE], data[1 + SECRET_SIZE :]
    url = url.removesuffix(_PATH)
    return Link(secret=secret, invitation=digest, server_url=url, kind=kind)


def open_invitation(sealed: bytes, link: Link, cls: type[Terms]) -> Terms:
    """The invitation that the link pins. Raises DecryptionError, DataError."""
    found = open_mail(sealed, cls, slot=INVITATION, secret=link.secret)
    if invitation_digest(encode(found)) != link.invitation:
        raise DecryptionError("the invitation is not the one that the link names")
    if found.anchor.server_url != link.server_url.encode():
        raise DecryptionError("the link and the invitation name different servers")
    if isinstance(found, PersonInvitation) and found.profile not in (ADMIN, STANDARD, OUTSIDER):
        raise DataError(f"the invitation is for a profile that does not exist: {found.profile}")
    return found


def commitment(nonce: bytes, box_key: bytes) -> bytes:
    """What binds the joiner to its nonce."""
    return sha256(tag("greeting-commitment") + nonce + box_key)


def say_hello(key: BoxKey, nonce: bytes) -> Hello:
    """The joiner's first message. `nonce`: 32 fresh random bytes."""
    return Hello(box_key=key.public, commitment=commitment(nonce, key.public))


def answer(hello: Hello, *, link: Link, shared: bytes, nonce: bytes) -> Answer:
    """The inviter's. `shared` and `nonce`: 32 fresh random bytes each. Raises DataError."""
    box = seal_box(shared, recipient=hello.box_key, info=_info(link))
    return Answer(box=box, nonce=nonce)


def open_answer(received: Answer, key: BoxKey, link: Link) -> bytes:
    """The shared secret. Raises DecryptionError."""
    return key.open(received.box, info=_info(link))


def codes(
    hello: Hello,
    answered: Answer,
    reveal: Reveal,
    *,
    link: Link,
    shared: bytes,
    checks: GreetingChecks = GREETING_CHECKS,
    symbols: int = SYMBOLS,
) -> Codes:
    """Both codes; equal on both sides iff nobody is between them, but for chance. Raises
    DecryptionError."""
    transcript = _Transcript(
        invitation=link.invitation,
        hello=hello,
        answer=answered,
        reveal=checks.commitment(hello, reveal),
    )
    digest = sha256(tag("greeting-transcript") + encode(transcript))
    number = int.from_bytes(keyed(shared, "greeting-codes", digest)[:10], "big")
    return Codes(
        joiner=_code(number, symbols),
        inviter=_code(number >> 5 * SYMBOLS, symbols),
        session=keyed(shared, "greeting-session", digest),
    )


def choices(right: str, random: Random) -> tuple[str, ...]:
    """The right code among others, in random order: who does not listen cannot just say yes."""
    found = {right}
    while len(found) < CHOICES:
        found.add(_code(int.from_bytes(random(4), "big"), len(right)))
    return tuple(sorted(found, key=lambda one: keyed(random(32), "greeting-order", one.encode())))


def _code(number: int, symbols: int) -> str:
    return "".join(_LETTERS[number >> 5 * place & 31] for place in range(symbols))


def _info(link: Link) -> bytes:
    return tag("greeting-box") + link.invitation

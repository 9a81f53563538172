"""Invitations for tests, and people who say what a test wants.

Data flow: test -> these -> `greet`, `accept`.
"""

import os
from collections.abc import Awaitable, Callable
from dataclasses import replace

from parsec_fs.device_joining import device_request_of, new_device_joining
from parsec_fs.greeting import (
    ADMISSION,
    ANSWER,
    DEVICE,
    HELLO,
    INVITATION,
    PERSON,
    REVEAL,
    Answer,
    DeviceInvitation,
    Hello,
    Invitation,
    PersonInvitation,
    PersonRequest,
    Reveal,
    Verdict,
    answer,
    codes,
    say_hello,
)
from parsec_fs.identity import Identity
from parsec_fs.joining import Admission, JoinRequest, invitation_digest, open_mail, seal_mail
from parsec_fs.pending import Greeting, Joining
from parsec_fs.pending import invited as new_greeting_of
from parsec_fs.person_joining import new_joining, request_of
from parsec_fs.protocol.certificates import STANDARD
from parsec_fs.protocol.codec import encode
from parsec_fs.protocol.hashing import EMPTY_MAP, EMPTY_TREE
from parsec_fs.protocol.ids import LogId
from parsec_fs.protocol.records import LogState
from parsec_fs.protocol.sealing import BoxKey
from tests.support.waiting import until

FAR_MS = 2**60


def person_invitation(
    identity: Identity, name: str, *, expires_ms: int = FAR_MS, profile: int = STANDARD
) -> PersonInvitation:
    """As a founder would send it, with an org log that nobody looks at."""
    log = LogId(identity.anchor.org)
    return PersonInvitation(
        anchor=identity.anchor,
        user=identity.secrets.user,
        inviter=identity.secrets.device,
        inviter_name=b"alice",
        org_name=b"acme",
        org_state=LogState(log=log, size=3, log_root=EMPTY_TREE, map_root=EMPTY_MAP, org_size=3),
        name=name.encode(),
        email=f"{name}@acme.example".encode(),
        profile=profile,
        expires_ms=expires_ms,
    )


def sealed_greeting(invitation: PersonInvitation, *, secret: bytes = b"s" * 16) -> Greeting:
    """Not known to anybody yet."""
    digest = invitation_digest(encode(invitation))
    sealed = seal_mail(invitation, slot=INVITATION, secret=secret, salt=digest)
    return Greeting(
        kind=PERSON,
        secret=secret,
        invitation=digest,
        server_url=invitation.anchor.server_url,
        shared=digest,
        nonce=digest,
        mails=(sealed,),
    )


def sealed_device_greeting(identity: Identity) -> Greeting:
    """Of a device of this one's user, not known to anybody yet."""
    person = person_invitation(identity, "nobody")
    terms = DeviceInvitation(
        anchor=person.anchor,
        user=person.user,
        inviter=person.inviter,
        inviter_name=b"laptop",
        org_name=person.org_name,
        org_state=person.org_state,
        expires_ms=person.expires_ms,
        user_name=b"alice",
    )
    return new_greeting_of(DEVICE, terms, random=os.urandom)


def with_terms(greeting: Greeting, terms: Invitation) -> Greeting:
    """Another invitation, made as an inviter could who is no program of ours."""
    return replace(
        greeting,
        invitation=invitation_digest(encode(terms)),
        mails=(seal_mail(terms, slot=INVITATION, secret=greeting.secret, salt=os.urandom(32)),),
    )


def new_joining_for(greeting: Greeting, name: str = "tablet") -> Joining:
    """Whoever has been given the link, before anything was said."""
    new = new_device_joining if greeting.kind == DEVICE else new_joining
    return new(greeting.link(), name)


def until_request(
    greeting: Greeting, joining: Joining, request: PersonRequest | JoinRequest | None = None
) -> tuple[Greeting, Joining]:
    """Both sides at the moment at which the joiner's keys, or what else a joiner asks for, were
    sent and not certified yet."""
    link, key = joining.link(), BoxKey(joining.seed)
    hello = say_hello(key, joining.nonce)
    reply = answer(hello, link=link, shared=greeting.shared, nonce=greeting.nonce)
    reveal = Reveal(nonce=joining.nonce)
    both = codes(hello, reply, reveal, link=link, shared=greeting.shared)
    own = device_request_of if greeting.kind == DEVICE else request_of
    later = (Verdict(same=1), request or own(joining))
    secrets = (*[greeting.secret] * 3, *[both.session] * 2)
    sealed = [
        seal_mail(message, slot=slot, secret=secret, salt=bytes([slot]) * 32)
        for slot, (message, secret) in enumerate(
            zip((hello, reply, reveal, *later), secrets, strict=True), start=HELLO
        )
    ]
    mails = (*greeting.mails, *sealed)
    return replace(greeting, mails=mails), replace(joining, mails=mails)


def admitted(greeting: Greeting, joining: Joining, admission: Admission) -> Joining:
    """The joiner after `until_request`, when this was answered."""
    mails, secret = joining.mails, joining.secret
    hello = open_mail(mails[HELLO], Hello, slot=HELLO, secret=secret)
    reply = open_mail(mails[ANSWER], Answer, slot=ANSWER, secret=secret)
    reveal = open_mail(mails[REVEAL], Reveal, slot=REVEAL, secret=secret)
    both = codes(hello, reply, reveal, link=joining.link(), shared=greeting.shared)
    sealed = seal_mail(admission, slot=ADMISSION, secret=both.session, salt=os.urandom(32))
    return replace(joining, mails=(*joining.mails, sealed))


class Voice:
    """Two people on the telephone: each hears what the other one's device shows."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.other: Voice | None = None
        self.asked: list[str] = []
        self.hook: Callable[[], Awaitable[None]] | None = None

    def reads_out(self, code: str) -> None:
        """Said aloud."""
        self.said.append(code)

    async def recognizes(self, code: str) -> bool:
        """Compares with what the other one said."""
        self.asked.append(code)
        if self.hook is not None:
            await self.hook()
        other = self.other
        assert other is not None
        await until(lambda: bool(other.said))
        return other.said[-1] == code


def on_the_phone() -> tuple[Voice, Voice]:
    """A pair."""
    one, two = Voice(), Voice()
    one.other, two.other = two, one
    return one, two

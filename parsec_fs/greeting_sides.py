"""Both sides of a greeting, as persons and devices have them in common (rule 25).

Data flow: `greet`: pending greeting -> mail -> codes compared -> request -> admitted.
           `accept`: link -> mail -> codes compared -> admission -> org log replayed -> identity.

Seven messages in turns (`greeting`). Everything is kept before it is sent, so that either side can
stop at any time and go on later; the server forgets mail after minutes, whoever waits puts it back.
Nothing is certified before a person has recognized the other's code, and no keys leave the new
device before its owner has. Once its public half was sent it may be in the log: then neither side
forgets the other, and no expiry counts any more.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Final, Generic, TypeVar

from parsec_fs.admission import ADMISSION_CHECKS, AdmissionChecks
from parsec_fs.config import Home
from parsec_fs.conversation import Person, Talk, expired, wall_ms
from parsec_fs.enrolling import enrol
from parsec_fs.greeting import (
    ADMISSION,
    ANSWER,
    HELLO,
    INVITATION,
    INVITATIONS,
    REQUEST,
    REVEAL,
    VERDICT,
    Answer,
    Codes,
    Hello,
    Link,
    Reveal,
    Terms,
    Verdict,
    answer,
    codes,
    open_answer,
    open_invitation,
    say_hello,
)
from parsec_fs.identity import DeviceSecrets, Identity
from parsec_fs.joining import Admission
from parsec_fs.pending import Greeting, GreetingFiles, Joining, JoiningFile
from parsec_fs.protocol.errors import (
    DataError,
    DecryptionError,
    InputError,
    OfflineError,
    RefusedError,
    TakenBackError,
)
from parsec_fs.protocol.membership import OrgState
from parsec_fs.protocol.sealing import BoxKey
from parsec_fs.remote.server_client import PublicClient
from parsec_fs.remote.transport import HttpClients, Transport, http_client

_ANSWER_S: Final = 48 * 3600
"""How long the answer to keys that were sent is waited for at once."""
Request = TypeVar("Request")

# The side that invites


async def greet(
    greeting: Greeting,
    asks: type[Request],
    admit: Callable[[Request], Awaitable[Admission]],
    *,
    files: GreetingFiles,
    person: Person,
    clients: HttpClients = http_client,
    checks: AdmissionChecks = ADMISSION_CHECKS,
) -> Request:
    """For whoever is using `greeting`: wait for the other side, compare codes, hear what it asks
    for, and `admit` it; the same again if that was done. Raises OfflineError, RefusedError,
    VerificationError, TimeoutError; InputError if the codes differ or it is not admitted, after
    which the invitation is worth nothing."""
    link = greeting.link()
    async with clients() as http:
        talk = Talk(
            PublicClient(Transport(http, link.server_url)),
            link.secret,
            greeting.mails,
            keep=lambda mails: files.save(replace(greeting, mails=mails)),
            expires_ms=greeting.expires_ms(),
            words=link.words,
        )
        try:
            both = await _compare(talk, greeting, person, checks)
        except (DecryptionError, InputError):
            if len(talk.mails) <= REQUEST:
                files.remove(greeting)
            raise
        request = await talk.hear(REQUEST, asks, both.session)
        try:
            admission = await admit(request)
        except InputError:
            files.remove(greeting)
            raise
        await talk.say(ADMISSION, Admission, lambda: admission, both.session)
    return request


async def cancel(
    greeting: Greeting, *, files: GreetingFiles, clients: HttpClients = http_client
) -> tuple[Greeting, bool]:
    """Take an invitation back: as it was, and whether whoever waits for an answer is told. Without
    the server nobody is, and it is over all the same. Raises LockedError, InputError."""
    with files.using(greeting) as now:
        async with clients() as http:
            try:
                await _silent(now, PublicClient(Transport(http, now.link().server_url))).cancel(
                    now.invitation
                )
                told = True
            except (OfflineError, RefusedError, InputError):
                told = False
        files.remove(now)
    return now, told


async def tell_again(greeting: Greeting, *, clients: HttpClients = http_client) -> None:
    """The admission once more, for a new device that has not heard of it while the server kept it.
    Raises OfflineError, RefusedError, InputError."""
    async with clients() as http:
        client = PublicClient(Transport(http, greeting.link().server_url))
        await _silent(greeting, client).repeat(ADMISSION)


def _silent(greeting: Greeting, client: PublicClient) -> Talk:
    """For a message that begins nothing new."""
    link = greeting.link()
    return Talk(
        client,
        link.secret,
        greeting.mails,
        keep=lambda mails: None,
        expires_ms=0,
        words=link.words,
    )


async def _compare(
    talk: Talk, greeting: Greeting, person: Person, checks: AdmissionChecks
) -> Codes:
    link, shared, nonce = greeting.link(), greeting.shared, greeting.nonce
    cls = INVITATIONS[greeting.kind]
    await talk.say(INVITATION, cls, lambda: open_invitation(greeting.mails[INVITATION], link, cls))
    hello = await talk.hear(HELLO, Hello)
    reply = await talk.say(
        ANSWER, Answer, lambda: answer(hello, link=link, shared=shared, nonce=nonce)
    )
    reveal = await talk.hear(REVEAL, Reveal)
    both = codes(hello, reply, reveal, link=link, shared=shared)
    same = len(talk.mails) > VERDICT or await person.recognizes(both.joiner)
    said = await talk.say(VERDICT, Verdict, lambda: Verdict(same=int(same)), both.session)
    if not checks.verdict(said, same):
        raise InputError(
            "the codes differ: somebody else answered, or stands between you. Nobody was added, "
            f"and the link is worth nothing now; make another one: {link.words.invite}"
        )
    person.reads_out(both.inviter)
    return both


# The side that joins


@dataclass(frozen=True, slots=True, kw_only=True)
class Newcomer(Generic[Terms, Request]):
    """How a joiner of one kind is invited, what it asks for, and how it ends: `secrets` as far as
    they follow from the invitation, `finish` as in `enrol`."""

    kind: int
    terms: type[Terms]
    asks: type[Request]
    request: Callable[[Joining], Request]
    secrets: Callable[[Joining, Terms], DeviceSecrets]
    finish: Callable[[OrgState, DeviceSecrets, Terms, Request], DeviceSecrets]


async def accept(
    newcomer: Newcomer[Terms, Request],
    home: Home,
    *,
    file: JoiningFile,
    person: Person,
    invited: Callable[[Terms], None],
    clients: HttpClients = http_client,
) -> Identity:
    """Become what the invitation says, going on with what `file` holds; the device file is written
    last. `invited` is told the terms.

    Raises LockedError if another process does, OfflineError, RefusedError, DataError,
    VerificationError, TimeoutError, DeviceFileError, TakenBackError; InputError if the codes
    differ, after which the link is worth nothing."""
    with file.alone():
        joining = file.load()
        if joining is None or joining.kind != newcomer.kind:
            raise InputError("no such join is under way here; begin one with a link")
        return await _accept(newcomer, home, joining, file, person, invited, clients)


async def _accept(
    newcomer: Newcomer[Terms, Request],
    home: Home,
    joining: Joining,
    file: JoiningFile,
    person: Person,
    invited: Callable[[Terms], None],
    clients: HttpClients,
) -> Identity:
    link = joining.link()
    async with clients() as http:
        talk = Talk(
            PublicClient(Transport(http, link.server_url)),
            link.secret,
            joining.mails,
            keep=lambda mails: file.save(replace(joining, mails=mails)),
            expires_ms=wall_ms() + 1000 * _ANSWER_S,
            words=link.words,
        )
        try:
            terms = await _terms(talk, link, newcomer.terms)
            invited(terms)
            both = await _answer_and_compare(talk, joining, link, person)
        except (DataError, DecryptionError, InputError):
            if len(talk.mails) <= REQUEST:
                file.remove()
            raise
        request = newcomer.request(joining)
        await talk.say(REQUEST, newcomer.asks, lambda: request, both.session)
        admission = await _admission(talk, both, link)
    secrets = newcomer.secrets(joining, terms)
    pins = (terms.org_state, *admission.states)
    provisional = Identity(anchor=terms.anchor, secrets=secrets, pins=pins)
    identity = await enrol(
        home, provisional, lambda org: newcomer.finish(org, secrets, terms, request), clients
    )
    file.remove()
    return identity


async def _terms(talk: Talk, link: Link, cls: type[Terms]) -> Terms:
    await talk.hear(INVITATION, cls)
    terms = open_invitation(talk.mails[INVITATION], link, cls)
    if len(talk.mails) <= REQUEST:
        talk.expires_ms = terms.expires_ms
        if terms.expires_ms <= wall_ms():
            raise InputError(expired(link.words))
    return terms


async def _admission(talk: Talk, both: Codes, link: Link) -> Admission:
    """The answer to keys that were sent: waited for whether or not the link expires meanwhile."""
    talk.expires_ms = wall_ms() + 1000 * _ANSWER_S
    try:
        return await talk.hear(ADMISSION, Admission, both.session)
    except TimeoutError as error:
        raise TimeoutError(
            "nobody has answered yet; your keys are kept. On the other side: "
            f"{link.words.greet}. Then go on here: {link.words.join}"
        ) from error
    except TakenBackError as error:
        raise TakenBackError(
            "this invitation was taken back after your keys were sent: they may be in the "
            "organization already, and are kept here. Look there (parsec-fs user list, parsec-fs "
            f"device list). Give them up for another link: {link.words.join} --instead"
        ) from error


async def _answer_and_compare(talk: Talk, joining: Joining, link: Link, person: Person) -> Codes:
    key, nonce = BoxKey(joining.seed), joining.nonce
    hello = await talk.say(HELLO, Hello, lambda: say_hello(key, nonce))
    reply = await talk.hear(ANSWER, Answer)
    shared = open_answer(reply, key, link)
    reveal = await talk.say(REVEAL, Reveal, lambda: Reveal(nonce=nonce))
    both = codes(hello, reply, reveal, link=link, shared=shared)
    person.reads_out(both.joiner)
    verdict = await talk.hear(VERDICT, Verdict, both.session)
    if not verdict.same:
        raise InputError("the other side did not recognize your code: you were not added")
    if len(talk.mails) <= REQUEST and not await person.recognizes(both.inviter):
        raise InputError(
            "the codes differ: somebody stands between you. None of your keys were sent, and the "
            f"link is worth nothing now; get another one: {link.words.invite}"
        )
    return both

"""Both sides of a greeting: who invites a person, and the person who joins (rule 25).

Data flow: `greet`: pending greeting, verified org log -> mail -> codes compared -> certificates.
           `accept`: link -> mail -> codes compared -> org log replayed -> identity.

Seven messages in turns (`greeting`). Everything is kept before it is sent, so that either side can
stop at any time and go on later; the server forgets mail after minutes, whoever waits puts it back.
Nothing is certified before a person has recognized the other's code, and no keys leave the new
device before its owner has. The user's key is drawn on the new device and never leaves it. Once
its public half was sent it may be in the log: then neither side forgets the other, and no expiry
counts any more.
"""

import os
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from parsec_fs.admission import (
    ADMISSION_CHECKS,
    AdmissionChecks,
    certify,
    check_address_is_free,
    device_of,
)
from parsec_fs.config import Home
from parsec_fs.connection import Connection
from parsec_fs.conversation import EXPIRED, Person, Talk, wall_ms
from parsec_fs.device_joining import enrol
from parsec_fs.greeting import (
    ADMISSION,
    ANSWER,
    HELLO,
    INVITATION,
    REQUEST,
    REVEAL,
    SECRET_SIZE,
    VERDICT,
    Answer,
    Codes,
    Hello,
    Link,
    PersonInvitation,
    PersonRequest,
    Reveal,
    Verdict,
    answer,
    codes,
    open_answer,
    open_person_invitation,
    say_hello,
)
from parsec_fs.identity import DeviceSecrets, Identity, UserKeySeed, label, new_secrets
from parsec_fs.joining import (
    Admission,
    invitation_digest,
    join_request,
    seal_mail,
)
from parsec_fs.pending import Greeting, GreetingFiles, Joining, JoiningFile
from parsec_fs.protocol.certificates import ADMIN
from parsec_fs.protocol.codec import encode
from parsec_fs.protocol.errors import (
    DataError,
    DecryptionError,
    ForbiddenError,
    InputError,
    OfflineError,
    RefusedError,
    TakenBackError,
    TrustchainError,
)
from parsec_fs.protocol.ids import OrgId, UserId
from parsec_fs.protocol.membership import OrgState
from parsec_fs.protocol.sealing import BoxKey
from parsec_fs.remote.server_client import PublicClient
from parsec_fs.remote.transport import HttpClients, Transport, http_client

VALID_S: Final = 48 * 3600
"""How long a link can be used."""

# The side that invites


def new_greeting(
    connection: Connection, org: OrgState, *, name: str, email: str, profile: int, valid_s: int
) -> Greeting:
    """An invitation by this device's user, not known to anybody yet. Raises ForbiddenError,
    and InputError if the address belongs to a member."""
    secrets, anchor = connection.identity.secrets, connection.identity.anchor
    if org.users[secrets.user].profile != ADMIN:
        raise ForbiddenError("only an administrator invites people to an organization")
    address = label(email)
    check_address_is_free(org, address)
    invitation = PersonInvitation(
        anchor=anchor,
        user=secrets.user,
        inviter=secrets.device,
        inviter_name=org.users[secrets.user].name,
        org_name=org.genesis.name,
        org_state=connection.org.roots_at(connection.org.size()),
        name=label(name),
        email=address,
        profile=profile,
        expires_ms=wall_ms() + 1000 * valid_s,
    )
    secret = os.urandom(SECRET_SIZE)
    sealed = seal_mail(invitation, slot=INVITATION, secret=secret, salt=os.urandom(32))
    return Greeting(
        secret=secret,
        invitation=invitation_digest(encode(invitation)),
        server_url=anchor.server_url,
        shared=os.urandom(32),
        nonce=os.urandom(32),
        mails=(sealed,),
    )


async def greet(
    connection: Connection,
    greeting: Greeting,
    *,
    files: GreetingFiles,
    person: Person,
    clients: HttpClients = http_client,
    checks: AdmissionChecks = ADMISSION_CHECKS,
) -> PersonRequest:
    """Wait for the invited person, compare codes, add them; the same again if that was done.
    Raises LockedError if another process does, OfflineError, RefusedError, VerificationError,
    TimeoutError; InputError if the codes differ, after which the invitation is worth nothing."""
    with files.using(greeting) as now:
        return await _greet(connection, now, files, person, clients, checks)


async def _greet(
    connection: Connection,
    greeting: Greeting,
    files: GreetingFiles,
    person: Person,
    clients: HttpClients,
    checks: AdmissionChecks,
) -> PersonRequest:
    link, terms = greeting.link(), greeting.terms()
    async with clients() as http:
        talk = Talk(
            PublicClient(Transport(http, link.server_url)),
            link.secret,
            greeting.mails,
            keep=lambda mails: files.save(replace(greeting, mails=mails)),
            expires_ms=terms.expires_ms,
        )
        try:
            both = await _compare(talk, greeting, person, checks)
        except (DecryptionError, InputError):
            if len(talk.mails) <= REQUEST:
                files.remove(greeting)
            raise
        request = await talk.hear(REQUEST, PersonRequest, both.session)
        try:
            index = await certify(connection, terms, request, checks)
        except InputError:
            files.remove(greeting)
            raise
        states = (connection.org.roots_at(connection.org.size()),)
        admission = Admission(index=index, states=states)
        await talk.say(ADMISSION, Admission, lambda: admission, both.session)
    return request


async def cancel(
    greeting: Greeting, *, files: GreetingFiles, clients: HttpClients = http_client
) -> tuple[Greeting, bool]:
    """Take an invitation back: as it was, and whether whoever waits for an answer is told. Without
    the server nobody is, and it is over all the same. Raises LockedError, InputError."""
    with files.using(greeting) as now:
        link = now.link()
        async with clients() as http:
            client = PublicClient(Transport(http, link.server_url))
            talk = Talk(client, link.secret, now.mails, keep=lambda mails: None, expires_ms=0)
            try:
                await talk.cancel(now.invitation)
                told = True
            except (OfflineError, RefusedError, InputError):
                told = False
        files.remove(now)
    return now, told


async def _compare(
    talk: Talk, greeting: Greeting, person: Person, checks: AdmissionChecks
) -> Codes:
    link, shared, nonce = greeting.link(), greeting.shared, greeting.nonce
    await talk.say(INVITATION, PersonInvitation, greeting.terms)
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
            "and the link is worth nothing now; send another one on another way"
        )
    person.reads_out(both.inviter)
    return both


# The side that joins


def new_joining(link: Link, device_label: str) -> Joining:
    """Fresh keys for a new user and their first device."""
    user_key = UserKeySeed(generation=1, seed=os.urandom(96))
    secrets = new_secrets(
        org=OrgId(bytes(32)),
        user=UserId(os.urandom(16)),
        user_keys=(user_key,),
        random=os.urandom,
    )
    return Joining(
        secret=link.secret,
        invitation=link.invitation,
        server_url=link.server_url.encode(),
        seed=os.urandom(96),
        nonce=os.urandom(32),
        device=label(device_label),
        secrets=secrets,
        mails=(),
    )


async def accept(
    home: Home,
    *,
    file: JoiningFile,
    person: Person,
    invited: Callable[[PersonInvitation], None],
    clients: HttpClients = http_client,
) -> Identity:
    """Become the invited person, going on with what `file` holds; the device file is written last.
    `invited` is told the terms.

    Raises LockedError if another process does, OfflineError, RefusedError, DataError,
    VerificationError, TimeoutError, DeviceFileError; InputError if the codes differ, after which
    the link is worth nothing."""
    with file.alone():
        joining = file.load()
        if joining is None:
            raise InputError("no join is under way here; begin one: parsec-fs user join")
        return await _accept(home, joining, file, person, invited, clients)


async def _accept(
    home: Home,
    joining: Joining,
    file: JoiningFile,
    person: Person,
    invited: Callable[[PersonInvitation], None],
    clients: HttpClients,
) -> Identity:
    link = joining.link()
    async with clients() as http:
        talk = Talk(
            PublicClient(Transport(http, link.server_url)),
            link.secret,
            joining.mails,
            keep=lambda mails: file.save(replace(joining, mails=mails)),
            expires_ms=wall_ms() + 1000 * VALID_S,
        )
        try:
            terms = await _terms(talk, link)
            invited(terms)
            both = await _answer_and_compare(talk, joining, link, person)
        except (DataError, DecryptionError, InputError):
            if len(talk.mails) <= REQUEST:
                file.remove()
            raise
        request = request_of(joining)
        await talk.say(REQUEST, PersonRequest, lambda: request, both.session)
        admission = await _admission(talk, both)
    pins = (terms.org_state, *admission.states)
    secrets = replace(joining.secrets, org=terms.anchor.org)
    provisional = Identity(anchor=terms.anchor, secrets=secrets, pins=pins)
    identity = await enrol(
        home, provisional, lambda org: _certified(org, secrets, terms, request), clients
    )
    file.remove()
    return identity


async def _terms(talk: Talk, link: Link) -> PersonInvitation:
    await talk.hear(INVITATION, PersonInvitation)
    terms = open_person_invitation(talk.mails[INVITATION], link)
    if len(talk.mails) <= REQUEST:
        talk.expires_ms = terms.expires_ms
        if terms.expires_ms <= wall_ms():
            raise InputError(EXPIRED)
    return terms


async def _admission(talk: Talk, both: Codes) -> Admission:
    """The answer to keys that were sent: waited for whether or not the link expires meanwhile."""
    talk.expires_ms = wall_ms() + 1000 * VALID_S
    try:
        return await talk.hear(ADMISSION, Admission, both.session)
    except TimeoutError as error:
        raise TimeoutError(
            "nobody has answered yet; your keys are kept. Ask the other side to type: parsec-fs "
            "user greet. Then go on here: parsec-fs user join"
        ) from error
    except TakenBackError as error:
        raise TakenBackError(
            "this invitation was taken back after your keys were sent: you may be in the "
            "organization already, and they are kept. Ask the other side to look: parsec-fs user "
            "list. Give them up for another link: parsec-fs user join --instead"
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
        raise InputError("the other person did not recognize your code: you were not added")
    if len(talk.mails) <= REQUEST and not await person.recognizes(both.inviter):
        raise InputError(
            "the codes differ: somebody stands between you. None of your keys were sent, and the "
            "link is worth nothing now; ask for another one on another way"
        )
    return both


def request_of(joining: Joining) -> PersonRequest:
    """Public keys of the user and the device that this side will be."""
    device = join_request(joining.secrets, joining.device)
    key = BoxKey(joining.secrets.newest_user_key().seed)
    return PersonRequest(user=joining.secrets.user, box_key=key.public, device=device)


def _certified(
    org: OrgState, secrets: DeviceSecrets, terms: PersonInvitation, request: PersonRequest
) -> DeviceSecrets:
    """The log holds this person with these keys and no others. Raises TrustchainError."""
    user = org.users.get(request.user)
    if user is None or org.device(secrets.device).device != device_of(request):
        raise TrustchainError("the certificate of this device has other keys than it sent")
    first = org.generations[request.user][0].box_key
    if (user.name, user.email, user.profile) != (terms.name, terms.email, terms.profile):
        raise TrustchainError("you were added as somebody else than you were invited as")
    if first != request.box_key:
        raise TrustchainError("the user key in the log is not the one that was sent")
    return secrets

"""A person who is invited to an organization, and becomes a member with a first device (rule 25).

Data flow: `greet_person`: pending greeting -> codes compared -> certificates of user and device.
           `accept_person`: link -> codes compared -> org log replayed -> identity.

What is said in which order: `greeting_sides`. The user's key is drawn on the new device and never
leaves it.
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
from parsec_fs.conversation import Person, wall_ms
from parsec_fs.greeting import PERSON, Link, PersonInvitation, PersonRequest
from parsec_fs.greeting_sides import Newcomer, accept, greet
from parsec_fs.identity import DeviceSecrets, Identity, UserKeySeed, label, new_secrets
from parsec_fs.joining import Admission, join_request
from parsec_fs.pending import Greeting, GreetingFiles, Joining, JoiningFile, begun, invited
from parsec_fs.protocol.certificates import ADMIN
from parsec_fs.protocol.errors import ForbiddenError, TrustchainError
from parsec_fs.protocol.ids import OrgId, UserId
from parsec_fs.protocol.membership import OrgState
from parsec_fs.protocol.sealing import BoxKey
from parsec_fs.remote.transport import HttpClients, http_client

VALID_S: Final = 48 * 3600
"""How long a link can be used."""


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
    return invited(PERSON, invitation, random=os.urandom)


async def greet_person(
    connection: Connection,
    greeting: Greeting,
    *,
    files: GreetingFiles,
    person: Person,
    clients: HttpClients = http_client,
    checks: AdmissionChecks = ADMISSION_CHECKS,
) -> PersonRequest:
    """Wait for the invited person, compare codes, add them; the same again if that was done.
    Raises as `greet`, and LockedError if another process does."""
    with files.using(greeting) as now:
        terms = now.terms()

        async def admit(request: PersonRequest) -> Admission:
            index = await certify(connection, terms, request, checks)
            return Admission(index=index, states=(connection.org.roots_at(connection.org.size()),))

        return await greet(
            now, PersonRequest, admit, files=files, person=person, clients=clients, checks=checks
        )


def new_joining(link: Link, device_label: str) -> Joining:
    """Fresh keys for a new user and their first device."""
    user_key = UserKeySeed(generation=1, seed=os.urandom(96))
    secrets = new_secrets(
        org=OrgId(bytes(32)),
        user=UserId(os.urandom(16)),
        user_keys=(user_key,),
        random=os.urandom,
    )
    return begun(link, label(device_label), secrets, random=os.urandom)


def request_of(joining: Joining) -> PersonRequest:
    """Public keys of the user and the device that this side will be."""
    device = join_request(joining.secrets, joining.device)
    key = BoxKey(joining.secrets.newest_user_key().seed)
    return PersonRequest(user=joining.secrets.user, box_key=key.public, device=device)


def _secrets(joining: Joining, terms: PersonInvitation) -> DeviceSecrets:
    return replace(joining.secrets, org=terms.anchor.org)


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


_PERSONS: Final = Newcomer(
    kind=PERSON,
    terms=PersonInvitation,
    asks=PersonRequest,
    request=request_of,
    secrets=_secrets,
    finish=_certified,
)


async def accept_person(
    home: Home,
    *,
    file: JoiningFile,
    person: Person,
    invited: Callable[[PersonInvitation], None],
    clients: HttpClients = http_client,
) -> Identity:
    """Become the invited person. Raises as `accept`."""
    return await accept(_PERSONS, home, file=file, person=person, invited=invited, clients=clients)

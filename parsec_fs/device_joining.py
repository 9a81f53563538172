"""A further device of somebody who has one: invited there, and joining (rule 25).

Data flow: `greet_device`: pending greeting -> codes compared -> certificate, states of the logs.
           `accept_device`: link -> codes compared -> org log replayed -> identity.

What is said in which order: `greeting_sides`. The new device draws its keys before it sends the
public ones, and keeps them; the user's key comes to it in its certificate.
"""

import os
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from parsec_fs.admission import ADMISSION_CHECKS, AdmissionChecks
from parsec_fs.config import Home
from parsec_fs.connection import Connection
from parsec_fs.conversation import Person, wall_ms
from parsec_fs.enrolling import certify, with_user_key
from parsec_fs.greeting import DEVICE, DeviceInvitation, Link
from parsec_fs.greeting_sides import Newcomer, accept, greet
from parsec_fs.identity import DeviceSecrets, Identity, label, new_secrets
from parsec_fs.joining import Admission, JoinRequest, join_request
from parsec_fs.pending import Greeting, GreetingFiles, Joining, JoiningFile, begun, invited
from parsec_fs.protocol.ids import OrgId, UserId
from parsec_fs.protocol.membership import OrgState
from parsec_fs.protocol.records import LogState
from parsec_fs.remote.transport import HttpClients, http_client

VALID_S: Final = 3600
"""How long a link can be used: both devices are at hand."""


def new_device_greeting(
    connection: Connection, org: OrgState, *, valid_s: int = VALID_S
) -> Greeting:
    """An invitation of a device by another one of its user, not known to anybody yet."""
    secrets = connection.identity.secrets
    terms = DeviceInvitation(
        anchor=connection.identity.anchor,
        user=secrets.user,
        inviter=secrets.device,
        inviter_name=org.device(secrets.device).device.label,
        org_name=org.genesis.name,
        org_state=connection.org.roots_at(connection.org.size()),
        expires_ms=wall_ms() + 1000 * valid_s,
        user_name=org.users[secrets.user].name,
    )
    return invited(DEVICE, terms, random=os.urandom)


async def greet_device(
    connection: Connection,
    greeting: Greeting,
    *,
    states: tuple[LogState, ...],
    files: GreetingFiles,
    person: Person,
    clients: HttpClients = http_client,
    checks: AdmissionChecks = ADMISSION_CHECKS,
) -> JoinRequest:
    """Wait for the new device, compare codes, add it; the same again if that was done. `states` of
    realm logs are vouched for. Raises as `greet`, and LockedError if another process does."""
    with files.using(greeting) as now:
        since = now.device_terms().org_state.size

        async def admit(request: JoinRequest) -> Admission:
            org = await connection.org.pull()
            checks.new_device(org, connection.identity.secrets.user, request, since=since)
            known = org.devices.get(request.device)
            index = await certify(connection, request) if known is None else known.index
            reached = connection.org.roots_at(connection.org.size())
            return Admission(index=index, states=(reached, *states))

        return await greet(
            now, JoinRequest, admit, files=files, person=person, clients=clients, checks=checks
        )


def new_device_joining(link: Link, device_label: str) -> Joining:
    """Fresh keys for a device. Whose it will be is said by the invitation."""
    nobody = (OrgId(bytes(32)), UserId(bytes(16)))
    secrets = new_secrets(org=nobody[0], user=nobody[1], user_keys=(), random=os.urandom)
    return begun(link, label(device_label), secrets, random=os.urandom)


def device_request_of(joining: Joining) -> JoinRequest:
    """Public keys of the device that this side will be."""
    return join_request(joining.secrets, joining.device)


def _secrets(joining: Joining, terms: DeviceInvitation) -> DeviceSecrets:
    return replace(joining.secrets, org=terms.anchor.org, user=terms.user)


def _finish(
    org: OrgState, secrets: DeviceSecrets, terms: DeviceInvitation, request: JoinRequest
) -> DeviceSecrets:
    return with_user_key(org, secrets, request)


_DEVICES: Final = Newcomer(
    kind=DEVICE,
    terms=DeviceInvitation,
    asks=JoinRequest,
    request=device_request_of,
    secrets=_secrets,
    finish=_finish,
)


async def accept_device(
    home: Home,
    *,
    file: JoiningFile,
    person: Person,
    invited: Callable[[DeviceInvitation], None],
    clients: HttpClients = http_client,
) -> Identity:
    """Become a device of the inviter's user. Raises as `accept`."""
    return await accept(_DEVICES, home, file=file, person=person, invited=invited, clients=clients)

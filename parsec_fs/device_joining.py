"""Both sides of joining: the device that invites, and the one that joins (rule 25).

Data flow: `invite`: verified logs -> code, invitation -> request -> certificate -> admission.
           `join`: code -> invitation -> request -> admission -> org log replayed -> identity.

The new device believes nothing but the code: the anchor is pinned by it, the org log is replayed
from the genesis, must pass through the states that the inviter vouched for, and must hold this very
device with these very keys before the device file is written.
"""

import os
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final

import trio

from parsec_fs.config import Home
from parsec_fs.connection import Connection, connect
from parsec_fs.conversation import MailSlots
from parsec_fs.device_file import DeviceFile
from parsec_fs.enrolment import add_device, open_user_key
from parsec_fs.identity import DeviceSecrets, Identity, label, new_secrets
from parsec_fs.joining import (
    ADMISSION,
    CODE_LIFETIME_S,
    INVITATION,
    REQUEST,
    Admission,
    Invitation,
    JoinCode,
    JoinRequest,
    format_code,
    invitation_digest,
    join_request,
    open_invitation,
    open_mail,
    seal_mail,
)
from parsec_fs.plain_text import plain_name
from parsec_fs.protocol.certificates import Device
from parsec_fs.protocol.codec import encode
from parsec_fs.protocol.errors import InputError, TrustchainError
from parsec_fs.protocol.membership import OrgState
from parsec_fs.protocol.records import LogState
from parsec_fs.protocol.sealing import BoxKey
from parsec_fs.remote.server_client import PublicClient
from parsec_fs.remote.transport import HttpClients, Transport, http_client
from parsec_fs.user_keys import hold_user_keys, newest_user_key

_POLL_S: Final = 0.5
_SECRET_SIZE: Final = 16
_ANSWERED: Final = (
    "somebody has answered this code already: say no on the device that shows it, and get another "
    "one there"
)


class Mailbox:
    """Sealed mail of one code, which lives for ten minutes."""

    def __init__(self, client: PublicClient, secret: bytes) -> None:
        self._slots = MailSlots(client, secret)
        self._secret = secret

    async def put(self, message: object, slot: int) -> None:
        """Leave a message. Raises InputError if somebody did already."""
        sealed = seal_mail(message, slot=slot, secret=self._secret, salt=os.urandom(32))
        await self._slots.put(slot, sealed, taken=_ANSWERED)

    async def wait(self, slot: int) -> bytes:
        """The sealed message, once it is there. Raises TimeoutError when the code is over."""
        deadline = trio.current_time() + CODE_LIFETIME_S
        while trio.current_time() < deadline:
            sealed = await self._slots.read(slot)
            if sealed is not None:
                return sealed
            await trio.sleep(_POLL_S)
        raise TimeoutError("the code has expired; get another one: parsec-fs device add")


async def invite(
    connection: Connection,
    *,
    states: tuple[LogState, ...],
    show_code: Callable[[str], None],
    confirm: Callable[[JoinRequest], Awaitable[bool]],
    clients: HttpClients = http_client,
) -> JoinRequest:
    """Add a device of this user; `states` of realm logs are vouched for. `confirm` is asked whether
    the request is the one that the new device shows. Returns it.

    Raises OfflineError, RefusedError, VerificationError, TimeoutError, InputError."""
    org, identity = await connection.org.pull(), connection.identity
    secret = os.urandom(_SECRET_SIZE)
    invitation = Invitation(
        anchor=identity.anchor,
        user=identity.secrets.user,
        inviter=identity.secrets.device,
        org_state=connection.org.roots_at(connection.org.size()),
        label=org.device(identity.secrets.device).device.label,
    )
    async with clients() as http:
        url = identity.anchor.server_url.decode()
        mailbox = Mailbox(PublicClient(Transport(http, url)), secret)
        await mailbox.put(invitation, INVITATION)
        digest = invitation_digest(encode(invitation))
        show_code(format_code(JoinCode(secret=secret, invitation=digest, server_url=url)))
        sealed = await mailbox.wait(REQUEST)
        request = open_mail(sealed, JoinRequest, slot=REQUEST, secret=secret)
        if not await confirm(request):
            raise InputError(f"{plain_name(request.label)} was not added")
        index = await certify(connection, request)
        org_state = connection.org.roots_at(connection.org.size())
        await mailbox.put(Admission(index=index, states=(org_state, *states)), ADMISSION)
    return request


async def certify(connection: Connection, request: JoinRequest) -> int:
    """Append the certificate; the leaf index of it."""
    secrets = connection.identity.secrets
    org = await connection.org.pull()
    user_key = newest_user_key(org, secrets)
    device = Device(
        device=request.device,
        user=secrets.user,
        label=request.label,
        sign_key=request.sign_key,
        box_key=request.box_key,
        generation=user_key.generation,
        user_key_box=b"",
    )
    body = add_device(
        device,
        org=org,
        seen=connection.org.seen(),
        author=connection.author,
        user_key=user_key,
    )
    await connection.server.append_certificate(connection.org.log, body)
    return (await connection.org.pull()).device(request.device).index


async def join(
    home: Home,
    code: JoinCode,
    device_label: str,
    *,
    show_request: Callable[[JoinRequest], None],
    clients: HttpClients = http_client,
) -> Identity:
    """Become a device of the inviter's user; the device file is written last.

    Raises OfflineError, RefusedError, VerificationError, TimeoutError, DeviceFileError."""
    async with clients() as http:
        mailbox = Mailbox(PublicClient(Transport(http, code.server_url)), code.secret)
        invitation = open_invitation(await mailbox.wait(INVITATION), code)
        if invitation.anchor.server_url.decode() != code.server_url:
            raise InputError("the code and the invitation name different servers")
        secrets = new_secrets(
            org=invitation.anchor.org, user=invitation.user, user_keys=(), random=os.urandom
        )
        request = join_request(secrets, label(device_label))
        await mailbox.put(request, REQUEST)
        show_request(request)
        sealed = await mailbox.wait(ADMISSION)
        admission = open_mail(sealed, Admission, slot=ADMISSION, secret=code.secret)
    pins = (invitation.org_state, *admission.states)
    identity = Identity(anchor=invitation.anchor, secrets=secrets, pins=pins)
    return await enrol(
        home, identity, lambda org: with_user_key(org, identity.secrets, request), clients
    )


async def enrol(
    home: Home,
    provisional: Identity,
    finish: Callable[[OrgState], DeviceSecrets],
    clients: HttpClients,
) -> Identity:
    """Replay the organization, find this device in it, write the file. `finish` checks what the
    organization says of this device and returns its complete secrets. Raises OfflineError,
    VerificationError, DeviceFileError; then nothing is left behind."""
    try:
        async with connect(home, provisional, clients=clients) as connection:
            org = await connection.org.pull()
            check_reached(connection, provisional)
        identity = replace(provisional, secrets=finish(org))
        DeviceFile(home.device).create(identity, random=os.urandom)
    except BaseException:
        home.org_database.unlink(missing_ok=True)
        raise
    return identity


def check_reached(connection: Connection, identity: Identity) -> None:
    """The log is at least as long as the inviter saw it: what it pins was compared (A21)."""
    pinned = max(one.size for one in identity.pins if one.log == connection.org.log)
    if connection.org.size() < pinned:
        raise TrustchainError("the server hides the end of the organization's log from this device")


def with_user_key(org: OrgState, secrets: DeviceSecrets, request: JoinRequest) -> DeviceSecrets:
    """These secrets with the user's keys, from the certificate that another device of the user has
    made. Raises TrustchainError, DecryptionError."""
    device = org.device(secrets.device).device
    certified = (device.user, device.sign_key, device.box_key, device.label)
    if certified != (secrets.user, request.sign_key, request.box_key, request.label):
        raise TrustchainError("the certificate of this device has other keys than it sent")
    user_key = open_user_key(device, secrets_box=secrets.box_key(), org=secrets.org)
    certified_key = org.generations[secrets.user][device.generation - 1].box_key
    if BoxKey(user_key.seed).public != certified_key:
        raise TrustchainError("the user key that was sent is not the user's")
    return hold_user_keys(org, replace(secrets, user_keys=(user_key,)))

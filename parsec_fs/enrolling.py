"""The last steps of every new device: its certificate, and its device file once the log holds it.

Data flow: request -> `certify` -> org log -> `enrol` on the new device -> device file.

The new device believes nothing but what it began with: the anchor is pinned by that, the org log is
replayed from the genesis, must pass through the states that were vouched for, and must hold this
very device with these very keys before the device file is written.
"""

import os
from collections.abc import Callable
from dataclasses import replace

from parsec_fs.config import Home
from parsec_fs.connection import Connection, connect
from parsec_fs.device_file import DeviceFile
from parsec_fs.enrolment import add_device, open_user_key
from parsec_fs.identity import DeviceSecrets, Identity
from parsec_fs.joining import JoinRequest
from parsec_fs.protocol.certificates import Device
from parsec_fs.protocol.errors import TrustchainError
from parsec_fs.protocol.membership import OrgState
from parsec_fs.protocol.sealing import BoxKey
from parsec_fs.remote.transport import HttpClients
from parsec_fs.user_keys import hold_user_keys, newest_user_key


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

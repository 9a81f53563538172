"""A new generation of this user's key, for all devices of the user.

Data flow: verified org log -> `user_keys` -> certificate -> server -> org log, verified again.

When a device of the user was revoked by somebody else, the first thing of the user's that comes by
makes it: a mounted workspace (`workspace/rekeying`), or a command that asks the server.
Realm keys follow by themselves: `workspace/rekeying` of whichever member's device comes first.
"""

import logging

from parsec_fs.audit.audit_store import DeviceAuditStore
from parsec_fs.connection import Connection
from parsec_fs.protocol.certificates import Device
from parsec_fs.protocol.errors import DecryptionError, OfflineError, RefusedError
from parsec_fs.user_keys import make_user_key, newest_user_key, user_key_due

log = logging.getLogger(__name__)


async def renew_user_key(connection: Connection) -> tuple[int, tuple[Device, ...]]:
    """The number of the new generation, and the devices that it was sealed to.

    The seed is not written anywhere: this device opens it from the log like all others, so that a
    crash after the request loses nothing.
    Raises OfflineError, RefusedError (another device was first), VerificationError,
    DecryptionError (no generation opens on this device)."""
    org = await connection.org.pull()
    body = make_user_key(org=org, seen=connection.org.seen(), author=connection.author)
    await connection.server.append_certificate(connection.org.log, body)
    org = await connection.org.pull()
    secrets = connection.identity.secrets
    return newest_user_key(org, secrets).generation, org.devices_of(secrets.user)


async def renew_if_due(connection: Connection) -> bool:
    """A new user key if a device that was revoked holds the present one, else nothing. What came
    for something else goes on without it, and the next one tries again. Nothing is signed on a
    device whose state was restored (rule 26), or that has convicted the server. Raises
    VerificationError."""
    if not user_key_due(connection.org.state, connection.identity.secrets.user):
        return False
    if connection.org.is_restored() or DeviceAuditStore.convicts(connection.store):
        log.warning("the user key that a revoked device holds was not renewed: see status")
        return False
    try:
        await renew_user_key(connection)
    except (OfflineError, RefusedError) as error:
        # A mounted workspace of theirs was first, or the next one will be.
        log.info("the user key that a revoked device holds was not renewed here: %s", error)
        return False
    except DecryptionError as error:
        log.warning("the user key that a revoked device holds was not renewed: %s", error)
        return False
    return True

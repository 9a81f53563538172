"""Revoking a device or a person: the certificate, and the user key that follows.

Data flow: command -> verified org log -> this -> certificate -> server -> org log, verified again.

Realm keys follow by themselves: `workspace/rekeying` of whichever member's device comes first sees
the revocation in the log, whatever the server says.
"""

from typing import NamedTuple

from parsec_fs.connection import Connection
from parsec_fs.identity import Author
from parsec_fs.key_renewal import renew_user_key
from parsec_fs.protocol.certificates import (
    ADMIN,
    DeviceRevoked,
    User,
    UserRevoked,
    sign_certificate,
)
from parsec_fs.protocol.enrolled import DeviceEntry
from parsec_fs.protocol.errors import ForbiddenError, InputError
from parsec_fs.protocol.hashing import map_key
from parsec_fs.protocol.ids import NO_HASH
from parsec_fs.protocol.log_state import DeviceChain
from parsec_fs.protocol.membership import OrgState
from parsec_fs.protocol.records import Seen
from parsec_fs.user_keys import user_key_due


def revocation(
    content: DeviceRevoked | UserRevoked, *, org: OrgState, seen: Seen, author: Author
) -> bytes:
    """Body of the org log's certificate."""
    if isinstance(content, UserRevoked):
        subject = map_key(b"user", content.user)
    else:
        subject = map_key(b"device", content.device)
    chain = org.chains.get(author.secrets.device, DeviceChain())
    return sign_certificate(
        content,
        header=author.header(org.context, chain, seen),
        replaces=org.map.get(subject) or NO_HASH,
        key=author.secrets.signing_key(),
    )


class Revoked(NamedTuple):
    """What there was to do: `before` means that it was revoked already, `renewed` that this user
    has a new key, because the device held the present one; another user's devices make theirs."""

    before: bool
    renewed: bool


async def revoke_device(connection: Connection, device: DeviceEntry) -> Revoked:
    """End a device. Done again, it does what an interruption left undone. Raises ForbiddenError,
    InputError, OfflineError, RefusedError, VerificationError."""
    own = connection.identity.secrets
    _check_device(connection.org.state, connection)
    if device.device.device == own.device:
        raise InputError("a device does not revoke itself: do it on another device of yours")
    if device.device.user != own.user and not _is_admin(connection):
        raise ForbiddenError("only an administrator revokes devices of other people")
    before = device.revoked is not None
    if not before:
        await _append(connection, DeviceRevoked(device=device.device.device))
    due = user_key_due(connection.org.state, own.user)
    if due:
        await renew_user_key(connection)
    return Revoked(before=before, renewed=due)


async def revoke_user(connection: Connection, user: User) -> Revoked:
    """End a person's membership and all their devices. Raises as `revoke_device`."""
    _check_device(connection.org.state, connection)
    if not _is_admin(connection):
        raise ForbiddenError("only an administrator revokes people")
    if user.user == connection.identity.secrets.user:
        raise InputError("nobody revokes themselves: ask another administrator")
    before = not connection.org.state.is_member(user.user)
    if not before:
        await _append(connection, UserRevoked(user=user.user))
    return Revoked(before=before, renewed=False)


def _check_device(org: OrgState, connection: Connection) -> None:
    org.device(connection.identity.secrets.device).check_at(org.position.size)


def _is_admin(connection: Connection) -> bool:
    return connection.org.state.users[connection.identity.secrets.user].profile == ADMIN


async def _append(connection: Connection, content: DeviceRevoked | UserRevoked) -> None:
    org = connection.org
    body = revocation(content, org=org.state, seen=org.seen(), author=connection.author)
    await connection.server.append_certificate(org.log, body)
    await org.pull()

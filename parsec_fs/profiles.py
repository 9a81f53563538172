"""Another profile for a member: administrator, standard or outsider.

Data flow: command -> verified org log -> this -> certificate -> server -> org log, verified again.

A profile counts from its leaf on: what somebody signed before is judged by the one of then.
"""

from dataclasses import replace

from parsec_fs.connection import Connection
from parsec_fs.protocol.certificates import ADMIN, User, sign_certificate
from parsec_fs.protocol.errors import ForbiddenError, InputError
from parsec_fs.protocol.hashing import map_key
from parsec_fs.protocol.ids import NO_HASH
from parsec_fs.protocol.log_state import DeviceChain


async def set_profile(connection: Connection, user: User, profile: int) -> bool:
    """Give it; False if the user has it already. Raises ForbiddenError, InputError, OfflineError,
    RefusedError, VerificationError."""
    org, own = connection.org.state, connection.identity.secrets
    org.device(own.device).check_at(org.position.size)
    if org.users[own.user].profile != ADMIN:
        raise ForbiddenError("only an administrator changes profiles; nothing was changed")
    if not org.is_member(user.user):
        raise InputError("this person was revoked, and gets no profile")
    if user.profile == profile:
        return False
    if user.user == own.user:
        raise ForbiddenError(
            "no administrator takes their own profile away, so that one always remains: another "
            "administrator can; nothing was changed"
        )
    chain = org.chains.get(own.device, DeviceChain())
    body = sign_certificate(
        replace(user, profile=profile),
        header=connection.author.header(org.context, chain, connection.org.seen()),
        replaces=org.map.get(map_key(b"user", user.user)) or NO_HASH,
        key=own.signing_key(),
    )
    await connection.server.append_certificate(connection.org.log, body)
    await connection.org.pull()
    return True

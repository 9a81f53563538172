"""Recovery kits for tests: made by a device, and what a lying server offers for their words.

Data flow: device -> `made` -> kit; paper device, another server -> `lure` -> false organization.
"""

from pathlib import Path

from parsec_fs.config import Home
from parsec_fs.connection import connect
from parsec_fs.enrolling import certify
from parsec_fs.identity import Identity
from parsec_fs.joining import JoinRequest
from parsec_fs.protocol.codec import encode
from parsec_fs.recovering import create
from parsec_fs.recovery import Kit, RecoveryRecord
from tests.support.laptops import found
from tests.support.server import InProcess


async def made(server: InProcess, identity: Identity, home: Home) -> Kit:
    """A kit of this device's user, as `recovery create` makes it; written down without a check."""
    shown: list[Kit] = []

    async def confirm(kit: Kit) -> bool:
        shown.append(kit)
        return True

    async with connect(home, identity, clients=server.http) as connection:
        await create(connection, name="recovery kit 2026-01-01", confirm=confirm)
    return shown[0]


async def lure(server: InProcess, target: JoinRequest, folder: Path) -> Identity:
    """Another organization, whose founder has certified the paper device `target` by its public
    keys, which its true organization shows to its server: the founder's identity."""
    identity = await found(server)
    async with connect(Home(root=folder), identity, clients=server.http) as connection:
        org = await connection.org.pull()
        record = RecoveryRecord(
            anchor=identity.anchor,
            user=identity.secrets.user,
            org_state=connection.org.roots_at(org.position.size),
        )
        await connection.server.put_recovery(target.device, encode(record))
        await certify(connection, target)
    return identity

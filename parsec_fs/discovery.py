"""Finding and creating the workspaces of this device's user.

Data flow: server (hint of realms) -> verified first leaves, key box -> name -> directory.

A name is believed because an owner signed the rotation that carries it, sealed under the realm's
key: the server can leave a workspace out of the list, but cannot rename or invent one.
"""

from typing import Final

from parsec_fs.connection import Connection
from parsec_fs.directory import Workspace, keep_workspaces, known_workspaces, unnamed
from parsec_fs.enrolment import create_realm, open_realm_name
from parsec_fs.identity import DeviceSecrets
from parsec_fs.key_renewal import renew_if_due
from parsec_fs.protocol.certificates import Rotation
from parsec_fs.protocol.errors import DataError, DecryptionError, RefusedError
from parsec_fs.protocol.ids import LogId, ObjectId, RealmId
from parsec_fs.protocol.membership import OrgState, realm_context
from parsec_fs.protocol.realm_state import RealmState, verify_leaf
from parsec_fs.protocol.records import ObjectState
from parsec_fs.user_keys import hold_user_keys
from parsec_fs.workspace.key_boxes import open_realm_key

_FIRST_LEAVES: Final = 2
"""Creation and first rotation."""
_NEXT_LEAVES: Final = 1000


async def find_workspaces(connection: Connection) -> tuple[Workspace, ...]:
    """Pull the organization's log, renew the user's key if that is due, ask for realms, verify what
    is new here, keep it. Raises OfflineError, VerificationError."""
    return (await find_all(connection))[0]


async def find_all(
    connection: Connection,
) -> tuple[tuple[Workspace, ...], tuple[Workspace, ...]]:
    """The same, and beside them those whose name does not open here: this user audits them, or
    waits for a key. Raises OfflineError, VerificationError."""
    await connection.org.pull()
    await renew_if_due(connection)
    org = connection.org.state
    found = {one.realm: one for one in _known(connection)}
    closed = []
    for realm in await connection.server.list_realms():
        # A realm that the org log does not hold is hidden from the members: not shown (rule 6).
        if realm in org.realms and realm not in found:
            name = await _name(connection, org, realm)
            if name is None:
                closed.append(unnamed(realm))
            else:
                found[realm] = Workspace(realm=realm, name=name)
    return await _keep(connection, tuple(found.values())), tuple(closed)


async def create_workspace(connection: Connection, name: str) -> Workspace:
    """A new realm of this user. Raises RefusedError, OfflineError, VerificationError."""
    org = await connection.org.pull()
    request, _ = create_realm(
        name=name, org=org, seen=connection.org.seen(), author=connection.author
    )
    await connection.server.create_realm(request)
    await connection.org.pull()
    workspace = Workspace(realm=request.realm, name=name.strip().encode())
    await _keep(connection, (*_known(connection), workspace))
    return workspace


def _known(connection: Connection) -> tuple[Workspace, ...]:
    return known_workspaces(connection.store, connection.identity.secrets)


async def _keep(connection: Connection, found: tuple[Workspace, ...]) -> tuple[Workspace, ...]:
    await keep_workspaces(connection.store, connection.identity.secrets, found)
    return tuple(sorted(found, key=lambda one: one.name))


async def _name(connection: Connection, org: OrgState, realm: RealmId) -> bytes | None:
    """Name in the first rotation that this user has a key of; None if there is none. Whoever became
    a member later has only later ones: then the log is replayed once, without its contents. Not by
    an auditor, to whom the server gives no box at all: it could hide the workspace as well."""
    secrets = hold_user_keys(org, connection.identity.secrets)
    state = RealmState(context=realm_context(org, realm))
    objects: dict[ObjectId, ObjectState] = {}
    tried, most = 0, _FIRST_LEAVES
    while True:
        start = state.position.size
        answer = await connection.server.read_leaves(LogId(realm), start, most)
        for leaf in answer.leaves[:most]:
            await connection.org.ensure(leaf.header.org_size)
            step = verify_leaf(state, leaf, org=connection.org.state, objects=objects.get)
            state = step.state
            objects |= {record.object: new for record, new in step.objects}
        if not state.rotations or state.position.size == start < answer.head.head.size:
            raise DataError("the workspace's log does not begin with its creation and key")
        for rotation in state.rotations[tried:]:
            try:
                name = await _opened(connection, rotation, realm, secrets)
            except RefusedError:
                return None
            if name is not None:
                return name
        tried, most = len(state.rotations), _NEXT_LEAVES
        if state.position.size >= answer.head.head.size:
            return None


async def _opened(
    connection: Connection, rotation: Rotation, realm: RealmId, secrets: DeviceSecrets
) -> bytes | None:
    try:
        box = await connection.server.read_box(realm, rotation.index, secrets.user)
        key = open_realm_key(box, rotation, realm=realm, secrets=secrets)
        return open_realm_name(rotation, key, realm=realm, secrets=secrets)
    except RefusedError as error:
        if error.outcome == "NOT_ALLOWED":
            raise
        return None
    except DecryptionError:
        return None

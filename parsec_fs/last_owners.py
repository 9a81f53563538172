"""Which workspaces would be left without an owner if a person were revoked.

Data flow: realm stores of this device, org log -> names, for whoever is about to revoke somebody.

Only what is known here, without the network: a revocation must not wait for it. A workspace without
an owner is not lost: `protocol.ownership` says who may take it over.
"""

import logging
from pathlib import Path

from parsec_fs.config import Home
from parsec_fs.connection import Connection
from parsec_fs.directory import known_workspaces
from parsec_fs.protocol.certificates import NO_ROLE
from parsec_fs.protocol.ids import RealmId, UserId
from parsec_fs.protocol.membership import OrgState, realm_context
from parsec_fs.protocol.ownership import leaves_vacant
from parsec_fs.storage.realm_store import RealmStore
from parsec_fs.workspace.realm_rebuild import light_state

log = logging.getLogger(__name__)


def owned_alone(home: Home, connection: Connection, user: UserId) -> tuple[str, ...]:
    """Names of the workspaces with a store on this device whose last owner this is."""
    found = []
    for one in known_workspaces(connection.store, connection.identity.secrets):
        path = home.workspace(one.realm).database
        try:
            if path.exists() and _is_last(path, one.realm, user, connection.org.state):
                found.append(one.title)
        except Exception as error:
            # Whatever is broken in a store here must not keep a thief from being revoked.
            log.warning("workspace %s cannot be looked into: %s", one.title, error)
    return tuple(found)


def _is_last(path: Path, realm: RealmId, user: UserId, org: OrgState) -> bool:
    store = RealmStore(path, realm)
    try:
        state = light_state(store, realm_context(org, RealmId(store.log)))
    finally:
        store.close()
    return leaves_vacant(state.roles, user, NO_ROLE, org=org, org_size=org.position.size)

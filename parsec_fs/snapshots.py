"""States of the logs that this device verified, to vouch for when another device joins (rule 25).

Data flow: realm stores of this device -> LogState per realm -> admission of the new device.
"""

from parsec_fs.config import Home
from parsec_fs.directory import known_workspaces
from parsec_fs.identity import Identity
from parsec_fs.protocol.records import LogState
from parsec_fs.storage.org_store import OrgStore
from parsec_fs.storage.realm_store import RealmStore


def realm_states(home: Home, identity: Identity) -> tuple[LogState, ...]:
    """The newest verified state of every realm that has a store here."""
    store = OrgStore(home.org_database, identity.anchor.org)
    try:
        realms = [one.realm for one in known_workspaces(store, identity.secrets)]
    finally:
        store.close()
    states = []
    for realm in realms:
        path = home.workspace(realm).database
        if path.exists():
            states.append(_newest(RealmStore(path, realm)))
    return tuple(state for state in states if state.size)


def _newest(store: RealmStore) -> LogState:
    try:
        return store.roots_at(store.position().size)
    finally:
        store.close()

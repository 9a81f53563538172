"""An audit of a workspace that is not mounted, without any of its keys.

Data flow: command -> `blind_audit` -> audit.db (the log, replayed), chain, server -> report.

What an auditor may do, and every member can: all leaves are verified as a mounted workspace does
it, objects by id, version, device and count, and every epoch is compared with the chain. Manifests
and key boxes are neither asked for nor needed: the log holds their digests. The audit's floor and a
conviction are those of the workspace on this device, whoever found them.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from parsec_fs.audit.audit_store import DeviceAuditStore
from parsec_fs.audit.auditor import Auditor
from parsec_fs.audit.checks import ALL_CHECKS, Checks
from parsec_fs.audit.clock import SystemClock
from parsec_fs.audit.light_client import LightClient
from parsec_fs.audit.ports import stored_trust
from parsec_fs.audit.report import Report, audit_report
from parsec_fs.audit.server_door import ServerDoor
from parsec_fs.config import Home
from parsec_fs.connection import Connection
from parsec_fs.directory import Workspace
from parsec_fs.history import RememberedHeads
from parsec_fs.lockfile import held
from parsec_fs.protocol.errors import VerificationError
from parsec_fs.protocol.ids import RealmId
from parsec_fs.storage.realm_store import RealmStore
from parsec_fs.workspace.bootstrap import NoKeys, StatesOnly
from parsec_fs.workspace.replica import RealmReplica

_PLACE: Final = "no folder, by an audit"


@dataclass(frozen=True, slots=True, kw_only=True)
class BlindAudit:
    """One workspace."""

    named: Workspace
    connection: Connection
    store: RealmStore
    replica: RealmReplica
    auditor: Auditor
    heads: RememberedHeads

    async def run(self) -> Report:
        """Verify everything up to the newest epoch and the newest record. Raises OfflineError,
        RefusedError (no role in it)."""
        if not self.auditor.convicted:
            await self.auditor.audit_once()
        if not self.auditor.convicted:
            try:
                await self.replica.pull()
            except VerificationError as error:
                await self.auditor.report(error)
        return audit_report(
            self.named.title,
            self.auditor.state,
            self.auditor.client_state(),
            records=self.replica.size(),
            lying=self.heads.lying,
        )


@asynccontextmanager
async def blind_audit(
    home: Home,
    connection: Connection,
    named: Workspace,
    *,
    checks: Checks = ALL_CHECKS,
    auditor_type: type[Auditor] = Auditor,
) -> AsyncIterator[BlindAudit]:
    """Open it, and close it. `checks` and `auditor_type` are never set but by tests. Raises
    LockedError while the workspace is mounted."""
    paths = home.workspace(named.realm)
    with held(paths.lock, _PLACE):
        store = RealmStore(paths.audit_database, named.realm)
        try:
            yield _open(home, connection, named, store, checks, auditor_type)
        finally:
            store.close()


def _open(
    home: Home,
    connection: Connection,
    named: Workspace,
    store: RealmStore,
    checks: Checks,
    auditor_type: type[Auditor],
) -> BlindAudit:
    identity = connection.identity
    replica = _replica(connection, named.realm, store, checks)
    floor = DeviceAuditStore(connection.store, replica.log, home.evidence)
    clock = SystemClock()
    heads = RememberedHeads(
        LightClient(
            connection.nodes,
            identity.anchor.server,
            stored_trust(floor, identity.anchor),
            now_ns=clock.now_ns,
            checks=checks,
        )
    )
    auditor = auditor_type(
        anchor=identity.anchor,
        server=ServerDoor(connection.server),
        chain=heads,
        histories=(connection.org, replica),
        store=floor,
        clock=clock,
        checks=checks,
        own_floor=False,
    )
    connection.org.audit = replica.audit = auditor
    return BlindAudit(
        named=named,
        connection=connection,
        store=store,
        replica=replica,
        auditor=auditor,
        heads=heads,
    )


def _replica(
    connection: Connection, realm: RealmId, store: RealmStore, checks: Checks
) -> RealmReplica:
    identity = connection.identity
    return RealmReplica(
        store,
        connection.server,
        connection.org,
        NoKeys(store, realm, identity.secrets),
        StatesOnly(),
        secrets=identity.secrets,
        audit=connection.org.audit,
        pins=identity.pins,
        checks=checks,
    )

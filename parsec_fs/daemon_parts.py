"""The parts of one mounted workspace: opened, and handed to each other. Nothing is sent here.

Data flow: Connection, options -> `open_parts` -> Parts -> daemon, which runs and closes them.
"""

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from parsec_fs.audit.audit_store import DeviceAuditStore
from parsec_fs.audit.auditor import Auditor
from parsec_fs.audit.checks import Checks
from parsec_fs.audit.clock import SystemClock
from parsec_fs.audit.light_client import LightClient
from parsec_fs.audit.ports import stored_trust
from parsec_fs.audit.server_door import ServerDoor
from parsec_fs.authors import label
from parsec_fs.config import Home, MountOptions
from parsec_fs.conflict_count import ConflictCount
from parsec_fs.connection import Connection
from parsec_fs.control import Handler
from parsec_fs.daemon_commands import DaemonCommands
from parsec_fs.directory import Workspace as NamedWorkspace
from parsec_fs.facts import WorkspaceFacts
from parsec_fs.history import History, RememberedHeads
from parsec_fs.mount import runner
from parsec_fs.protocol.certificates import CONTRIBUTOR
from parsec_fs.protocol.errors import VerificationError
from parsec_fs.workspace.assembly import Outside, Stores, Workspace, assemble
from parsec_fs.workspace.gate import Gate
from parsec_fs.workspace.remote_changes import Invalidation

USED_WITHIN_NS: Final = 15_000_000_000
"""A mount that had a request this recently is in use (rule 28)."""


@dataclass(slots=True, kw_only=True)
class Kernel:
    """The mount, once there is one; before that nothing needs to be told."""

    mounted: runner.Mounted | None = None
    started_ns: int = field(default_factory=time.perf_counter_ns)

    def invalidate(self, changed: list[Invalidation]) -> None:
        """What the kernel must forget, and watchers are told of."""
        if self.mounted is not None:
            self.mounted.changed(changed)

    def used(self) -> bool:
        """Has anybody used the mount lately?"""
        if self.mounted is None:
            return False
        return time.perf_counter_ns() - self.mounted.poller.last_use_ns < USED_WITHIN_NS

    def idle_s(self) -> float:
        """Seconds since anybody used the mount, or since its daemon started. Time that the machine
        sleeps is not counted."""
        last = 0 if self.mounted is None else self.mounted.poller.last_use_ns
        return (time.perf_counter_ns() - max(last, self.started_ns)) / 1e9

    def busy(self) -> bool:
        """Do requests keep coming?"""
        return self.mounted is not None and self.mounted.poller.busy()


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Everything that is open."""

    connection: Connection
    workspace: Workspace
    auditor: Auditor
    facts: WorkspaceFacts
    history: History
    gate: Gate
    conflicts: ConflictCount
    kernel: Kernel

    def follow_role(self) -> None:
        """Changes are refused at `open` already if this user may only read, or not even that."""
        user = self.connection.identity.secrets.user
        only = self.workspace.replica.state.role(user) < CONTRIBUTOR
        self.gate.read_only(only or self.workspace.sync.standing.revoked)

    def commands(self) -> Mapping[str, Handler]:
        """Handlers of the control socket."""
        return DaemonCommands(
            workspace=self.workspace,
            auditor=self.auditor,
            facts=self.facts,
            history=self.history,
            conflicts=self.conflicts,
            idle_s=self.kernel.idle_s,
        ).table()


def open_parts(
    home: Home,
    named: NamedWorkspace,
    mountpoint: str,
    options: MountOptions,
    *,
    connection: Connection,
    kernel: Kernel,
    checks: Checks,
    stores: Stores,
    auditor_type: type[Auditor],
    on_failure: Callable[[VerificationError], None],
) -> Parts:
    """Workspace, auditor and what speaks for them."""
    opened: list[Parts] = []
    outside = Outside(
        server=connection.server,
        signer=connection.signer,
        org=connection.org,
        author=connection.author,
        audit=connection.org.audit,
        pins=connection.identity.pins,
        label=lambda: _conflict_label(connection),
        invalidate=kernel.invalidate,
        used=kernel.used,
        busy=kernel.busy,
        epoch_s=connection.identity.anchor.server.epoch_ms / 1000,
        on_failure=on_failure,
        on_pulled=lambda: _follow_roles(opened),
        checks=checks,
        stores=stores,
        root_owner=(os.getuid(), os.getgid()),
        cache_limit=options.cache_size,
    )
    workspace = assemble(home.workspace(named.realm).root, named.realm, outside)
    gate = Gate()
    auditor, heads = _open_audit(home, connection, workspace, gate, checks, auditor_type)
    facts = WorkspaceFacts(
        named, mountpoint, connection=connection, workspace=workspace, auditor=auditor
    )
    history = History(workspace=workspace, auditor=auditor, facts=facts, heads=heads)
    parts = Parts(
        connection=connection,
        workspace=workspace,
        auditor=auditor,
        facts=facts,
        history=history,
        gate=gate,
        conflicts=ConflictCount(
            store=workspace.store,
            loader=workspace.loader,
            tree=workspace.filesystem.tree,
            slices=workspace.replica.slices,
        ),
        kernel=kernel,
    )
    opened.append(parts)
    return parts


def _follow_roles(opened: list[Parts]) -> None:
    for one in opened:
        one.follow_role()


def _open_audit(
    home: Home,
    connection: Connection,
    workspace: Workspace,
    gate: Gate,
    checks: Checks,
    auditor_type: type[Auditor],
) -> tuple[Auditor, RememberedHeads]:
    anchor = connection.identity.anchor
    store = DeviceAuditStore(connection.store, workspace.replica.log, home.evidence)
    clock = SystemClock()
    trust = stored_trust(store, anchor)
    nodes = connection.nodes
    heads = RememberedHeads(
        LightClient(nodes, anchor.server, trust, now_ns=clock.now_ns, checks=checks)
    )

    def on_convicted() -> None:
        gate.freeze()
        workspace.sync.stop_signing()

    auditor = auditor_type(
        anchor=anchor,
        server=ServerDoor(connection.server),
        chain=heads,
        histories=(connection.org, workspace.replica),
        store=store,
        clock=clock,
        checks=checks,
        on_convicted=on_convicted,
    )
    connection.org.audit = workspace.replica.audit = auditor
    return auditor, heads


def _conflict_label(connection: Connection) -> bytes:
    """Whose version it is, and the minute, for the name of a conflict copy."""
    whose = label(connection.org.state, connection.identity.secrets.device)
    return f"{whose} {datetime.now():%Y-%m-%d %H.%M}".encode()

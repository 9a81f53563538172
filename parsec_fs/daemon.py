"""Composition root of one mounted workspace: opens every part, hands each what it needs, closes
them in reverse.

Data flow: mount command -> `Daemon.run` -> lock, connection, workspace, auditor, mount, control.
"""

import logging
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final

import trio

from parsec_fs.audit.audit_store import DeviceAuditStore
from parsec_fs.audit.auditor import Auditor
from parsec_fs.audit.checks import ALL_CHECKS, Checks
from parsec_fs.audit.clock import SystemClock
from parsec_fs.audit.light_client import LightClient
from parsec_fs.audit.ports import stored_trust
from parsec_fs.audit.server_door import ServerDoor
from parsec_fs.cli.background import Reporter
from parsec_fs.cli.exit_codes import exit_code
from parsec_fs.config import Durability, Home, MountOptions
from parsec_fs.connection import Connection, connect
from parsec_fs.control import Handler, serve_control
from parsec_fs.daemon_commands import DaemonCommands
from parsec_fs.directory import Workspace as NamedWorkspace
from parsec_fs.facts import WorkspaceFacts
from parsec_fs.history import History, RememberedHeads
from parsec_fs.identity import Identity
from parsec_fs.lockfile import held
from parsec_fs.mount import runner
from parsec_fs.protocol.certificates import CONTRIBUTOR
from parsec_fs.protocol.errors import VerificationError
from parsec_fs.signals import dump_on_signal, stop_on_signal
from parsec_fs.workspace.assembly import Outside, Workspace, assemble
from parsec_fs.workspace.gate import Gate
from parsec_fs.workspace.remote_changes import Invalidation

log = logging.getLogger(__name__)

USED_WITHIN_NS: Final = 15_000_000_000
"""A mount that had a request this recently is in use (rule 28)."""


@dataclass(slots=True, kw_only=True)
class Kernel:
    """The mount, once there is one; before that nothing needs to be told."""

    mounted: runner.Mounted | None = None

    def invalidate(self, changed: list[Invalidation]) -> None:
        """What the kernel must forget."""
        if self.mounted is not None:
            self.mounted.notifier.send(changed)

    def used(self) -> bool:
        """Has anybody used the mount lately?"""
        if self.mounted is None:
            return False
        return time.perf_counter_ns() - self.mounted.poller.last_use_ns < USED_WITHIN_NS


@dataclass(slots=True, kw_only=True)
class Parts:
    """Everything that is open."""

    connection: Connection
    workspace: Workspace
    auditor: Auditor
    facts: WorkspaceFacts
    history: History
    gate: Gate

    def commands(self) -> Mapping[str, Handler]:
        """Handlers of the control socket."""
        return DaemonCommands(
            workspace=self.workspace, auditor=self.auditor, facts=self.facts, history=self.history
        ).table()


@dataclass(slots=True, kw_only=True)
class Daemon:
    """One workspace, from opening to closing. `checks` is never set but by the attack tests."""

    home: Home
    identity: Identity
    named: NamedWorkspace
    mountpoint: Path
    options: MountOptions
    reporter: Reporter
    checks: Checks = ALL_CHECKS
    kernel: Kernel = field(default_factory=Kernel)
    failures: list[VerificationError] = field(default_factory=list)
    failed: trio.Event = field(default_factory=trio.Event)

    async def run(self) -> None:
        """Serve until unmounted, or until SIGTERM. Raises LockedError, OfflineError (nothing is
        known of this workspace yet), VerificationError, DataError."""
        paths = self.home.workspace(self.named.realm)
        with held(paths.lock, str(self.mountpoint)):
            async with connect(self.home, self.identity, checks=self.checks) as connection:
                parts = self._open(connection)
                try:
                    await self._prepare(parts)
                    await self._serve(parts)
                finally:
                    parts.workspace.close()
        log.info("event=ended workspace=%s", self.named.realm.hex())

    def _open(self, connection: Connection) -> Parts:
        """Files and objects; nothing is sent."""
        gate = Gate()
        device = connection.identity.secrets.device
        outside = Outside(
            server=connection.server,
            signer=connection.signer,
            org=connection.org,
            author=connection.author,
            audit=connection.org.audit,
            pins=self.identity.pins,
            label=lambda: _conflict_label(connection, device.hex()[:8]),
            invalidate=self.kernel.invalidate,
            used=self.kernel.used,
            on_failure=self._on_failure,
            checks=self.checks,
            root_owner=(os.getuid(), os.getgid()),
        )
        workspace = assemble(self.home.workspace(self.named.realm).root, self.named.realm, outside)
        return self._with_audit(connection, workspace, gate)

    def _with_audit(self, connection: Connection, workspace: Workspace, gate: Gate) -> Parts:
        anchor = self.identity.anchor
        log_id = workspace.replica.log
        store = DeviceAuditStore(connection.store, log_id, self.home.evidence)
        clock = SystemClock()
        heads = RememberedHeads(
            LightClient(
                connection.nodes,
                anchor.server,
                stored_trust(store, anchor),
                now_ns=clock.now_ns,
            )
        )

        def on_convicted() -> None:
            gate.freeze()
            workspace.sync.stop_signing()

        auditor = Auditor(
            anchor=anchor,
            server=ServerDoor(connection.server),
            chain=heads,
            histories=(connection.org, workspace.replica),
            store=store,
            clock=clock,
            checks=self.checks,
            on_convicted=on_convicted,
        )
        connection.org.audit = workspace.replica.audit = auditor
        facts = WorkspaceFacts(
            self.named,
            str(self.mountpoint),
            connection=connection,
            workspace=workspace,
            auditor=auditor,
        )
        history = History(workspace=workspace, auditor=auditor, facts=facts, heads=heads)
        return Parts(
            connection=connection,
            workspace=workspace,
            auditor=auditor,
            facts=facts,
            history=history,
            gate=gate,
        )

    async def _prepare(self, parts: Parts) -> None:
        """What must be known before the first request; then the gate says what is allowed."""
        workspace, gate = parts.workspace, parts.gate
        if workspace.store.position().size == 0:
            self.reporter.progress("fetching and verifying the workspace's history")
            await parts.connection.org.pull()
            await workspace.replica.pull()
        recovered = workspace.filesystem.open()
        if recovered.damaged:
            log.warning("event=journal-damaged salvaged=%s", recovered.salvaged)
        gate.is_readable = parts.facts.is_audited
        gate.fsync_wait = lambda position: self._fsync_wait(parts, position)
        if parts.auditor.convicted:
            gate.freeze()
            workspace.sync.stop_signing()
        elif workspace.replica.state.role(self.identity.secrets.user) < CONTRIBUTOR:
            gate.read_only()

    async def _fsync_wait(self, parts: Parts, position: int) -> None:
        """What the mount option `fsync` promises beyond `local`."""
        if self.options.fsync is Durability.LOCAL:
            return
        size = await parts.workspace.sync.wait_logged(position)
        if self.options.fsync is not Durability.LOGGED:
            await parts.auditor.wait_audited(parts.workspace.replica.log, size)

    async def _serve(self, parts: Parts) -> None:
        """Filesystem outlives synchronisation, which outlives the mount."""
        async with trio.open_nursery() as inner:
            await inner.start(parts.workspace.filesystem.run)
            async with trio.open_nursery() as outer:
                await outer.start(parts.workspace.sync.run)
                outer.start_soon(parts.auditor.run)
                outer.start_soon(self._report_failures, parts)
                outer.start_soon(dump_on_signal)
                await self._mount(parts)
                outer.cancel_scope.cancel()
            inner.cancel_scope.cancel()

    async def _mount(self, parts: Parts) -> None:
        paths = self.home.workspace(self.named.realm)
        options = runner.MountOptions(
            mountpoint=str(self.mountpoint), allow_other=self.options.allow_other
        )
        async with trio.open_nursery() as nursery:

            async def serve(task_status: trio.TaskStatus[runner.Mounted]) -> None:
                await runner.serve(
                    parts.workspace.filesystem,
                    options,
                    gate=parts.gate,
                    facts=parts.facts,
                    task_status=task_status,
                )
                nursery.cancel_scope.cancel()

            async def control(task_status: trio.TaskStatus[None]) -> None:
                await serve_control(
                    paths.socket, parts.commands(), exit_code=exit_code, task_status=task_status
                )

            self.kernel.mounted = await nursery.start(serve)
            nursery.start_soon(stop_on_signal, nursery.cancel_scope)
            await nursery.start(control)
            log.info("event=mounted workspace=%s", self.named.realm.hex())
            self.reporter.ready(parts.facts.document())

    def _on_failure(self, error: VerificationError) -> None:
        self.failures.append(error)
        self.failed.set()

    async def _report_failures(self, parts: Parts) -> None:
        """What synchronisation was shown that is false goes to the auditor, which judges it."""
        while True:
            await self.failed.wait()
            self.failed = trio.Event()
            failures, self.failures = self.failures, []
            for error in failures:
                await parts.auditor.report(error)


def _conflict_label(connection: Connection, unknown: str) -> bytes:
    """Device and minute, for the name of a conflict copy."""
    device = connection.org.state.devices.get(connection.identity.secrets.device)
    name = device.device.label.decode(errors="replace") if device else unknown
    return f"{name} {datetime.now():%Y-%m-%d %H.%M}".encode()

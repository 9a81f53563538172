"""One mounted workspace in this process: composition root, order of starting and stopping.

Data flow: mount command -> `Daemon.run` -> lock, connection, parts, mount, control -> closed in
reverse: the mount ends first, then synchronisation and audit, then the file system, which journals
what is in memory, then the stores.
"""

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import trio

from parsec_fs.audit.auditor import Auditor
from parsec_fs.audit.checks import ALL_CHECKS, Checks
from parsec_fs.cli.background import Reporter
from parsec_fs.cli.exit_codes import exit_code
from parsec_fs.config import Consistency, Durability, Home, MountOptions
from parsec_fs.connection import connect
from parsec_fs.control import serve_control
from parsec_fs.daemon_parts import Kernel, Parts, open_parts
from parsec_fs.directory import Workspace as NamedWorkspace
from parsec_fs.identity import Identity
from parsec_fs.lockfile import held
from parsec_fs.mount import runner
from parsec_fs.protocol.errors import VerificationError
from parsec_fs.protocol.ids import ObjectId
from parsec_fs.signals import dump_on_signal, know_children, stop_on_signal
from parsec_fs.workspace.assembly import STORES, Stores
from parsec_fs.workspace.strict_open import all_logged_is_here

log = logging.getLogger(__name__)

STRICT_OPEN_TIMEOUT_S: Final = 30.0


@dataclass(slots=True, kw_only=True)
class Daemon:
    """One workspace, from opening to closing. `checks`, `stores` and `auditor_type` are
    never set but by tests."""

    home: Home
    identity: Identity
    named: NamedWorkspace
    mountpoint: Path
    options: MountOptions
    reporter: Reporter
    checks: Checks = ALL_CHECKS
    stores: Stores = STORES
    auditor_type: type[Auditor] = Auditor
    kernel: Kernel = field(default_factory=Kernel)
    failures: list[VerificationError] = field(default_factory=list)
    failed: trio.Event = field(default_factory=trio.Event)

    async def run(self) -> None:
        """Serve until unmounted, or until SIGTERM. Raises LockedError, OfflineError (nothing is
        known of this workspace yet), VerificationError, DataError."""
        paths = self.home.workspace(self.named.realm)
        with held(paths.lock, str(self.mountpoint)):
            async with connect(self.home, self.identity, checks=self.checks) as connection:
                parts = open_parts(
                    self.home,
                    self.named,
                    str(self.mountpoint),
                    self.options,
                    connection=connection,
                    kernel=self.kernel,
                    checks=self.checks,
                    stores=self.stores,
                    auditor_type=self.auditor_type,
                    on_failure=self._on_failure,
                )
                try:
                    await self._prepare(parts)
                    await self._serve(parts)
                finally:
                    parts.workspace.close()
        log.info("event=ended workspace=%s", self.named.realm.hex())

    async def _prepare(self, parts: Parts) -> None:
        """What must be known before the first request; then the gate says what is allowed."""
        workspace, gate = parts.workspace, parts.gate
        if workspace.bootstrap.is_first():
            self.reporter.progress("fetching and verifying the workspace")
            await workspace.bootstrap.open_first()
        recovered = workspace.filesystem.open()
        if recovered.damaged:
            log.warning("event=journal-damaged")
            parts.facts.note("the journal was damaged; what was saved is in a folder `recovered`")
        gate.is_readable = parts.facts.is_audited
        gate.fsync_wait = lambda position, about: self._fsync_wait(parts, position, about)
        if self.options.consistency is Consistency.STRICT:
            gate.before_open = lambda: _all_logged_is_here(parts)
        if parts.auditor.convicted:
            gate.freeze()
            workspace.sync.stop_signing()
        parts.follow_role()

    async def _fsync_wait(self, parts: Parts, position: int, about: ObjectId | None) -> None:
        """What the mount option `fsync` promises beyond `local`."""
        if self.options.fsync is Durability.LOCAL:
            return
        size = await parts.workspace.sync.wait_logged(position, about)
        if self.options.fsync is not Durability.LOGGED:
            await parts.auditor.wait_audited(parts.workspace.replica.log, size)

    async def _serve(self, parts: Parts) -> None:
        """The file system outlives synchronisation, which outlives the mount."""
        async with trio.open_nursery() as inner:
            await inner.start(parts.workspace.filesystem.run)
            async with trio.open_nursery() as outer:
                await outer.start(parts.workspace.sync.run)
                outer.start_soon(parts.auditor.run)
                outer.start_soon(
                    parts.workspace.bootstrap.run,
                    parts.workspace.sync.pull_once,
                    self._on_failure,
                )
                outer.start_soon(self._report_failures, parts)
                know_children()
                outer.start_soon(dump_on_signal)
                await self._mount(parts)
                outer.cancel_scope.cancel()
            inner.cancel_scope.cancel()

    async def _mount(self, parts: Parts) -> None:
        """Until unmounted from outside, or by a signal."""
        paths = self.home.workspace(self.named.realm)
        options = runner.MountOptions(
            mountpoint=str(self.mountpoint),
            allow_other=self.options.allow_other,
            own_files=not self.options.stored_owners,
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


async def _all_logged_is_here(parts: Parts) -> None:
    """Rule 27. Raises OfflineError, VerificationError."""
    workspace, random = parts.workspace, parts.connection.author.random
    await all_logged_is_here(
        workspace.filesystem,
        workspace.replica,
        workspace.sync,
        random=random,
        timeout_s=STRICT_OPEN_TIMEOUT_S,
    )

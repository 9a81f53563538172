"""Synchronisation of one workspace: changes out, changes in, read stamps.

Data flow: filesystem (settled changes) -> capture -> upload, push -> server; events -> pull
    -> replica -> tree. Each at its own pace; the mount never waits for any of it.

Timing (rule 21): 0.3 s after the last change, at the latest 2 s after the first, and up to 5 s more
while requests keep coming (decision 0007). What fails is tried again with growing pauses; whose
fault it is, and what that stops, is in `standing`. While the history is in doubt nothing is sent.
"""

import logging
import random as jitter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

import trio

from parsec_fs.protocol.commands import Outcome
from parsec_fs.protocol.errors import (
    ParsecFSError,
    RefusedError,
    StaleError,
    VerificationError,
)
from parsec_fs.protocol.hashing import read_stamp
from parsec_fs.protocol.ids import LogId, ObjectId
from parsec_fs.remote.events import EventStream
from parsec_fs.remote.sessions import outcome_name
from parsec_fs.workspace.capture import Capture
from parsec_fs.workspace.filesystem import Filesystem
from parsec_fs.workspace.manifest_build import Build
from parsec_fs.workspace.mending import Mending
from parsec_fs.workspace.org_replica import OrgReplica
from parsec_fs.workspace.progress import Progress
from parsec_fs.workspace.push import Pusher
from parsec_fs.workspace.rekeying import Rekeying
from parsec_fs.workspace.replica import RealmReplica
from parsec_fs.workspace.standing import Standing
from parsec_fs.workspace.takeovers import Takeovers
from parsec_fs.workspace.upload import Uploader

log = logging.getLogger(__name__)

QUIET_S: Final = 0.3
LATEST_S: Final = 2.0
POLL_S: Final = 30.0
OBSERVE_S: Final = 15.0
_PAUSE_FIRST_S: Final = 0.5
_PAUSE_LONGEST_S: Final = 30.0
_RETRIED: Final = (Outcome.CONFLICT, Outcome.STALE_KEY, Outcome.AFTER_REFUSED)


class Sync:
    """Keeps one open workspace and the server's log together. `used` says whether somebody used
    the mount since it was asked last (rule 28)."""

    def __init__(
        self,
        *,
        replica: RealmReplica,
        org: OrgReplica,
        pusher: Pusher,
        rekeying: Rekeying,
        mending: Mending,
        uploader: Uploader,
        takeovers: Takeovers,
        filesystem: Filesystem,
        events: EventStream,
        random: Callable[[int], bytes],
        epoch_s: float,
        used: Callable[[], bool] = lambda: False,
        on_failure: Callable[[VerificationError], None] = lambda error: None,
        on_pulled: Callable[[], None] = lambda: None,
    ) -> None:
        self.replica = replica
        self.standing = Standing(
            replica.store, on_failure=on_failure, on_change=self._standing_changed
        )
        self._org = org
        self._pusher = pusher
        self._rekeying = rekeying
        self._mending = mending
        self._uploader = uploader
        self.contest = takeovers.contest
        self._takeovers = takeovers
        self._filesystem = filesystem
        self._events = events
        self._random = random
        self._epoch_s = epoch_s
        self._used = used
        self._on_pulled = on_pulled
        self._flying: Capture | None = None
        self._settled_position = 0
        self._refusals = 0
        self._stopped = False
        self._pushing = trio.Lock()
        self._order = trio.Lock()
        self._changed = trio.Event()
        self._wanted = trio.Event()
        self._advanced = trio.Event()
        self._org_grown = True
        replica.on_changes = mending.on_changes = takeovers.show
        replica.on_taken, takeovers.wake = takeovers.taken, self.wake
        replica.on_taking, takeovers.resume = takeovers.prepare, self._resume
        filesystem.on_change = self.wake

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled. What is not logged then stays in journal and outbox."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._events.follow, self._on_event)
            nursery.start_soon(self._pull_loop)
            nursery.start_soon(self._push_loop)
            nursery.start_soon(self._observe_loop)
            nursery.start_soon(self._rekeying.run, self.rekey_once, self.standing.report)
            nursery.start_soon(self._mending.run)
            task_status.started()

    def wake(self) -> None:
        """Something changed here."""
        self._changed.set()

    def stop_signing(self) -> None:
        """Nothing more is signed until the program starts again (conviction, restored device)."""
        self._stopped = True

    # Asking

    def progress(self) -> Progress:
        """Where changes are."""
        tree = self._filesystem.tree
        return Progress(
            pending=tree.pending(),
            journal_position=tree.position,
            logged_position=self._logged_position(),
            log_size=self.replica.size(),
            online=self._events.connected,
            trouble=self.standing.text(self._rekeying.problem()) or self._filesystem.held.problem(),
        )

    def logged_index(self, id: ObjectId) -> int | None:
        """Leaf of the newest write of an object; None if something about it is only local."""
        if self._filesystem.tree.is_dirty(id):
            return None
        state = self.replica.store.state(id)
        return state.write_index if state else None

    async def wait_logged(self, position: int | None = None, about: ObjectId | None = None) -> int:
        """Waits until a journal position (default: all so far) is logged, but for what is held
        back; the log size with it. Raises LocalError if `about` (file or folder) is held back,
        DeviceRevokedError."""
        target = self._filesystem.tree.position if position is None else position
        self._filesystem.flush()
        with self.replica.slices.hurried():
            while self._logged_position() < target and not self._filesystem.held.rests():
                self.standing.check_member()
                self.wake()
                await self._advanced.wait()
        self._filesystem.held.check(about)
        return self.replica.size()

    # Changes from elsewhere

    def _on_event(self, grown: LogId | None) -> None:
        if grown is None or grown == self._org.log:
            self._org_grown = True
        if grown is None or grown in (self._org.log, self.replica.log):
            self._wanted.set()

    async def pull_once(self) -> None:
        """Take over what is new: it does not stand back, and ends the standing back of a push that
        it has to wait for. Raises OfflineError, VerificationError."""
        with self.replica.slices.hurried():
            if self._org_grown:
                self._org_grown = False
                await self._org.pull()
            async with self._order:
                await self.replica.pull()
        if self._flying is None:
            # What was signed before the last start may have been found in the log.
            self._advance()
        self.standing.pulled()
        self._rekeying.look()
        self._on_pulled()

    async def _pull_loop(self) -> None:
        pause = _PAUSE_FIRST_S
        while True:
            with trio.move_on_after(POLL_S):
                await self._wanted.wait()
            self._wanted = trio.Event()
            try:
                await self.pull_once()
                await self.standing.remember()
                pause = _PAUSE_FIRST_S
            except ParsecFSError as error:
                self.standing.report(error, "pull")
                self._org_grown = True
                self._wanted.set()
                await self.standing.remember()
                await trio.sleep(pause)
                pause = min(2 * pause, _PAUSE_LONGEST_S)

    # Changes from here

    async def push_once(self) -> bool:
        """Log what is pending now; True if it is worth to come back at once.
        Raises OfflineError, RefusedError, StaleError, VerificationError."""
        async with self._pushing:
            if self._unfinished():
                await self._deliver()
                return True
            self._rekeying.check()
            await self.replica.ready()
            await self._filesystem.settle()  # What somebody goes on appending to is taken, too.
            left = await self._uploader.digests.take()
            await self._takeovers.place_contested(self.replica.slices)
            self.contest.settle()
            capture = self._filesystem.capture()
            if not capture:
                await self._nothing_left(capture)
                return left
            self._settled_position = self.replica.store.journal_position()
            self._flying = capture
            if await self._post(capture):
                await self._deliver()
            return left or bool(self.contest) or self._filesystem.held.is_new()

    async def rekey_once(self) -> None:
        """A new key if the workspace needs one and this device may make it (rule 10). Raises
        OfflineError, RefusedError, VerificationError."""
        async with self.signing() as free:
            if free and self._rekeying.wanted():
                await self._rekeying.rotate()
                await self.pull_once()

    @asynccontextmanager
    async def signing(self) -> AsyncIterator[bool]:
        """Up to date for a certificate; True iff this device may sign one now: no commits of it are
        under way, which it would have to follow in the device's chain."""
        async with self._pushing:
            self._org_grown = True
            await self.pull_once()
            empty = self.replica.store.outbox.empty()
            yield empty and self.replica.audit.may_send() and not self._stopped

    def _unfinished(self) -> bool:
        """A capture is signed but not settled. The outbox may be empty even so: the answer was lost
        and the pull, which replays own leaves too, was first to see it in the log."""
        return self._flying is not None or not self.replica.store.outbox.empty()

    async def _post(self, capture: Capture) -> bool:
        """True iff there is something to deliver."""
        try:
            self._filesystem.flush()
            if not await self._uploader.upload(capture):
                self._rejected()
                return False
            await self._freshen()
            async with self._order:
                if self.contest:
                    # Something in the capture has changed elsewhere since it was taken: to build
                    # it now, over what the store says now, would silently undo that.
                    self._rejected()
                    return False
                posted = await self._pusher.post(capture, separate=self._refusals > 0)
        except BaseException:
            if self.replica.store.outbox.empty():
                self._rejected()
            raise
        if not posted:
            await self._logged()
        return posted

    async def _freshen(self) -> None:
        """Rule 10: sealing takes a head verified within one epoch, and so a key of today."""
        if trio.current_time() - self.replica.verified_at > self._epoch_s:
            await self.pull_once()

    async def _deliver(self) -> None:
        refusal = await self._pusher.deliver()
        if refusal is None:
            self._refusals = 0
            await self._logged()
            return
        self._rejected()
        self._refusals += 1
        name, count = outcome_name(refusal.outcome), len(refusal.conflicts)
        log.info("refused: %s, %d objects, attempt %d", name, count, self._refusals)
        if refusal.outcome not in _RETRIED:
            raise RefusedError(name, refusal)
        # Devices that met once must not meet again: a random pause, longer each time.
        await trio.sleep(jitter.uniform(0, min(0.05 * 2**self._refusals, 2.0)))

    def _resume(self, capture: Capture) -> None:
        self._settled_position = self.replica.store.journal_position()
        self._flying = capture
        self._pusher.build = Build(withdrawn=list(self._filesystem.tree.flying_names))

    async def _logged(self) -> None:
        capture, self._flying = self._flying, None
        if capture is not None:
            self._filesystem.logged(capture)
            self.contest.take_back(self._pusher.build)
        self._advance()
        if capture is not None:
            await self._uploader.logged(capture)

    def _rejected(self) -> None:
        capture, self._flying = self._flying, None
        if capture is None:
            return
        for node in capture.nodes:
            known = self._filesystem.tree.nodes.get(node.id)
            if known is not None and self.replica.store.state(node.id) is not None:
                # A part of the capture was logged: the store has it.
                known.created = False
        self._filesystem.rejected(capture)

    async def _nothing_left(self, capture: Capture) -> None:
        """Changes that cancelled each other out leave nothing to log, but a journal to cut."""
        if capture.position > self.replica.store.journal_position():
            async with self.replica.store.writing() as write:
                write.journal_position(capture.position)
        self._filesystem.logged(capture)
        self._advance()

    def _logged_position(self) -> int:
        """The store's watermark, but for a capture that the tree still shows as under way."""
        if self._flying is None:
            return self.replica.store.journal_position()
        return self._settled_position

    def _advance(self) -> None:
        self._advanced.set()
        self._advanced = trio.Event()

    async def _push_loop(self) -> None:
        pause = _PAUSE_FIRST_S
        while not self._stopped:
            await self._until_due()
            await self.replica.slices.stand_back()
            if waits := self._waits():
                self.standing.trouble = waits
                await trio.sleep(_PAUSE_FIRST_S)
                continue
            try:
                while await self.push_once() and not self._stopped:
                    pass
                pause, self.standing.trouble = _PAUSE_FIRST_S, ""
                if self._filesystem.dirty_since() is not None:
                    # What is left is being written just now: it is not settled yet.
                    await trio.sleep(QUIET_S)
            except ParsecFSError as error:
                self.standing.report(error, "push")
                await trio.sleep(min(pause, QUIET_S) if isinstance(error, StaleError) else pause)
                pause = min(2 * pause, _PAUSE_LONGEST_S)

    def _standing_changed(self) -> None:
        """Whoever waits looks again, and so does the mount."""
        self._advance()
        self._on_pulled()

    def _waits(self) -> str:
        """Why nothing is sent, whatever the server would say to it."""
        if not self.replica.audit.may_send():
            return "changes stay on this device while the history is in doubt"
        return self.standing.outdated

    async def _until_due(self) -> None:
        while not self._unfinished() and not self.contest:
            self._changed = trio.Event()
            since = self._filesystem.dirty_since()
            if since is None:
                if self._cancelled_out():
                    return
                with trio.move_on_after(self._filesystem.held.again_in()):
                    await self._changed.wait()
                continue
            oldest, newest = since
            wait = min(newest + QUIET_S, oldest + LATEST_S) - trio.current_time()
            if wait <= 0:
                return
            await trio.sleep(wait)

    def _cancelled_out(self) -> bool:
        """Records that no capture has covered, of changes that left nothing to log."""
        tree, logged = self._filesystem.tree, self.replica.store.journal_position()
        return tree.position > logged and not (tree.dirty_nodes or tree.dirty_names)

    async def _observe_loop(self) -> None:
        while True:
            await trio.sleep(OBSERVE_S)
            if not self._used():
                continue
            try:
                await self.replica.observe(read_stamp(self._random(32)))
            except ParsecFSError as error:
                self.standing.report(error, "observe")

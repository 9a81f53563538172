"""The audit loop: everything this device relied upon against the one history that all others see.

Data flow: light client (chain head), server (openings), replicas (own history) -> every epoch
           compared -> floor stored -> reported; a contradiction -> evidence -> conviction.

Rules 22 to 24, 29 to 32. A state is reported verified only after it is stored durably. Only what
the offline check of `evidence` accepts convicts; then the conviction is for good, over restarts.
Everything else that is wrong is `suspect` and may be cleared by the next round; what cannot be
reached is never shown as fine (`client_state`).
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

import trio

from parsec_fs.audit import accusations
from parsec_fs.audit.chain_head import VerifiedChainHead
from parsec_fs.audit.checks import ALL_CHECKS, Checks
from parsec_fs.audit.client_state import AuditFacts, ClientState, client_state
from parsec_fs.audit.comparison import Comparison
from parsec_fs.audit.evidence import file_name
from parsec_fs.audit.ports import (
    AuditRecord,
    AuditStore,
    Clock,
    EpochServer,
    HeadSource,
    Histories,
)
from parsec_fs.audit.trusted_state import (
    ORG,
    REALM,
    AnchoredRange,
    OpenedEpoch,
    TrustedState,
    confirm,
    fresh_state,
    is_self_anchored,
    meet_chain,
    newly_anchored,
    open_next,
)
from parsec_fs.audit.verdict import Kind, Verdict
from parsec_fs.identity import TrustAnchor
from parsec_fs.protocol.codec import decode, encode
from parsec_fs.protocol.commands import Epochs
from parsec_fs.protocol.errors import (
    DataError,
    ExpiredError,
    ForkError,
    OfflineError,
    RemoteError,
    RollbackError,
    StaleError,
    VerificationError,
)
from parsec_fs.protocol.ids import Hash, LogId
from parsec_fs.protocol.limits import DUE_EPOCH_MAX_AHEAD
from parsec_fs.protocol.statements import Statement

log = logging.getLogger(__name__)

EPOCHS_PER_READ: Final = 100
ROUND_MIN_S: Final = 0.25
ROUND_MAX_S: Final = 15.0
_CONVICTED: Final = "the server was proven to cheat; the evidence is kept"


class Auditor:
    """Audits the org log and one realm log. `on_convicted` freezes the mount."""

    def __init__(
        self,
        *,
        anchor: TrustAnchor,
        server: EpochServer,
        chain: HeadSource,
        histories: Histories,
        store: AuditStore,
        clock: Clock,
        checks: Checks = ALL_CHECKS,
        on_convicted: Callable[[], None] = lambda: None,
        own_floor: bool = True,
    ) -> None:
        """`histories`: the org log's first. `own_floor`: the stored floor was reached with these
        replicas; otherwise the first round compares them with it. Raises DataError, RollbackError
        for a stored state that is damaged or of other logs."""
        self._anchor, self._server, self._chain = anchor, server, chain
        self._histories, self._store, self._clock = histories, store, clock
        self._checks, self._on_convicted = checks, on_convicted
        self._comparison = Comparison(
            anchor=anchor, server=server, histories=histories, checks=checks
        )
        self._record = _load(store, histories, chain)
        self._met = self._record.state
        self._progress_ns = clock.monotonic_ns()
        self._trouble = _CONVICTED if self._record.convictions else ""
        self._offline = ""
        self._expired = self._behind = False
        self._own_floor = own_floor
        self._lock = trio.Lock()
        self._moved = trio.Event()
        self._kicked = trio.Event()

    # What others see

    @property
    def state(self) -> TrustedState:
        """The floor: durable, nothing below it is ever accepted."""
        return self._record.state

    @property
    def epochs(self) -> int:
        """Verified epochs, without a gap."""
        return self.state.epochs

    @property
    def chain_header(self) -> Hash:
        """Header that anchored the newest of them."""
        return self.state.chain_header

    @property
    def convicted(self) -> bool:
        """An evidence file proves that the server (or the chain) cheated."""
        return bool(self._record.convictions)

    def most_due(self) -> int:
        """The largest due epoch that a head may promise (rule 23)."""
        return self.epochs - 1 + DUE_EPOCH_MAX_AHEAD

    def may_send(self) -> bool:
        """Not while suspect, convicted or far behind: changes stay local then (rule 24)."""
        return not self.client_state().writes_stay_local

    def verified_index(self, log_id: LogId) -> int:
        """Leaves of a followed log that are anchored and audited. None while what is anchored ends
        before the snapshot that the log begins with here: it was compared with nothing yet."""
        anchored = self.state.of(log_id).size
        base = max(one.base() for one in self._histories if one.log == log_id)
        return anchored if anchored >= base else 0

    def client_state(self) -> ClientState:
        """The word for now."""
        ahead = any(one.size() > self.verified_index(one.log) for one in self._histories)
        facts = AuditFacts(
            epochs=self.epochs,
            epoch_ms=self._anchor.server.epoch_ms,
            progress_monotonic_ns=self._progress_ns,
            chain_time_ns=self.state.chain_time_ns,
            behind=self._behind,
            pending=ahead,
            trouble=self._trouble,
            offline=self._offline,
            expired=self._expired,
            evidence=tuple(one.decode() for one in self._record.convictions),
            bootstrapped=bool(self.state.bootstrapped) or self._has_base(),
            self_anchored=is_self_anchored(
                self._anchor.chain.operators, len(self.state.chain.validators)
            ),
        )
        now = self._clock
        return client_state(facts, monotonic_ns=now.monotonic_ns(), now_ns=now.now_ns())

    def anchored_index(self, log_id: LogId) -> int:
        """Leaves of a followed log that a checkpoint on the chain covers, in an epoch whose opening
        was verified. That they are the leaves of this device is what the audit adds: once anything
        is doubted, no more than the audited ones count."""
        return max(self._met.of(log_id).size, self.verified_index(log_id))

    async def wait_audited(self, log_id: LogId, index: int) -> None:
        """Until at least `index` leaves of the log are audited; for ever if convicted before."""
        while self.verified_index(log_id) < index:
            moved = self._moved
            self.kick()
            await moved.wait()

    async def catch_up(self, epochs: int) -> None:
        """Verify until `epochs` epochs are. Raises OfflineError if they are not there yet."""
        if self.epochs < epochs:
            await self.audit_once()
        if self.epochs < epochs:
            raise OfflineError(self._trouble or self._offline or f"epoch {epochs - 1} is not final")

    def kick(self) -> None:
        """Do not wait for the next round."""
        self._kicked.set()

    # The loop

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Audit for ever; the first round is done when it reports started."""
        if self.convicted:
            self._on_convicted()
        await self.audit_once()
        task_status.started()
        pause = self._anchor.server.epoch_ms / 1000 / 4
        while True:
            with trio.move_on_after(min(max(pause, ROUND_MIN_S), ROUND_MAX_S)):
                await self._kicked.wait()
            await trio.sleep(ROUND_MIN_S if self._kicked.is_set() else 0)
            self._kicked = trio.Event()
            await self.audit_once()

    async def audit_once(self) -> ClientState:
        """One round. Raises nothing that the world can cause: it ends in a state."""
        async with self._lock:
            if not self.convicted:
                await self._round()
        return self.client_state()

    async def report(self, error: VerificationError) -> None:
        """Somebody on this device, outside a round, was shown something false."""
        async with self._lock:
            if self.convicted:
                return
            await self._doubt(error, self._comparison.accuse(error, self.state))

    async def _round(self) -> None:
        try:
            await self._audit()
        except ExpiredError:
            self._expired = True
        except RemoteError as error:
            self._offline = str(error)
        except (VerificationError, DataError) as error:
            await self._doubt(error, [])
        else:
            self._trouble = self._offline = ""
            self._expired = False

    async def _audit(self) -> None:
        await self._look_back()
        head = await self._chain.newest_head()
        if head.statement.epoch < self.epochs:
            await self._save(
                confirm(self.state, head, chain=self._chain.trust, checks=self._checks)
            )
            return
        self._checks.chain_time_grows(head.header_time_ns, before_ns=self.state.chain_time_ns)
        self._behind = head.statement.epoch > self.epochs + 1
        opened_epochs = await self._open_until(head)
        if opened_epochs:
            self._met = opened_epochs[-1].after
        for opened in opened_epochs:
            for place in range(len(self._histories)):
                await self._comparison.compare(place, opened, self.state)
            await self._save(opened.after, anchored=newly_anchored(opened))
            for history in self._histories:
                await history.settle(opened.epoch, self.verified_index(history.log))
            self._progress_ns = self._clock.monotonic_ns()
        self._behind = False

    def _has_base(self) -> bool:
        return any(one.base() for one in self._histories)

    async def _look_back(self) -> None:
        """Rule 25. Epochs that anchor less than a snapshot holds are opened, but there is nothing
        to compare them with until the whole log was replayed. Then no gap is left (rule 22)."""
        for history in self._histories:
            history.check_past()
        if not self._own_floor:
            await self._compare_floor()
            self._own_floor = True
        if self._has_base():
            await self._save(replace(self.state, bootstrapped=1))
        elif self.state.bootstrapped:
            anchored = await self._compare_again()
            await self._save(replace(self.state, bootstrapped=0), anchored=anchored)

    async def _compare_floor(self) -> None:
        """Other replicas reached it; they compared every epoch up to there. One root decides
        whether these ones hold the same log."""
        state = self.state
        if state.epochs:
            opened = OpenedEpoch(
                epoch=state.epochs - 1,
                before=state.anchored,
                after=state,
                statement=decode(Statement, state.openings[ORG].statement.statement),
            )
            for place in range(len(self._histories)):
                await self._comparison.compare(place, opened, state)

    async def _compare_again(self) -> list[AnchoredRange]:
        """Every verified epoch, once more from the first: those that led to the present state.
        Also returns what each is the first one to anchor."""
        anchored: list[AnchoredRange] = []
        state = fresh_state(self.state.logs, chain=self.state.chain)
        while missing := self.state.epochs - state.epochs:
            for proof in (await self._read_epochs(state, missing)).epochs[:missing]:
                opened = open_next(state, proof, anchor=self._anchor, checks=self._checks)
                for place in range(REALM, len(self._histories)):
                    await self._comparison.compare(place, opened, state)
                anchored += newly_anchored(opened)
                state = opened.after
        if state.tree != self.state.tree:
            raise ForkError("the server opens other epochs than those that were verified")
        return anchored

    async def _read_epochs(self, state: TrustedState, missing: int) -> Epochs:
        most = min(missing, EPOCHS_PER_READ)
        answer = await self._server.read_epochs(state.epochs, most, state.logs)
        if not answer.epochs:
            raise StaleError(f"the server does not open epoch {state.epochs}")
        return answer

    async def _open_until(self, head: VerifiedChainHead) -> tuple[OpenedEpoch, ...]:
        """Every epoch up to the chain's, none believed before the last one meets the chain."""
        opened: list[OpenedEpoch] = []
        state = self.state
        while state.epochs <= head.statement.epoch:
            missing = head.statement.epoch + 1 - state.epochs
            for proof in (await self._read_epochs(state, missing)).epochs[:missing]:
                opened.append(open_next(state, proof, anchor=self._anchor, checks=self._checks))
                state = opened[-1].after
                await trio.lowlevel.checkpoint()
        return meet_chain(
            tuple(opened),
            head,
            chain=self._chain.trust,
            anchor=self._anchor,
            checks=self._checks,
        )

    # Consequences

    async def _doubt(self, error: VerificationError | DataError, files: list[bytes]) -> None:
        """Convict if anything proves it, otherwise be suspicious."""
        self._trouble = str(error)
        self._met = self.state
        log.warning("audit: %s", error)
        if isinstance(error, VerificationError):
            files = files + accusations.files_of(error)
        proven = accusations.first_proven(files, self._anchor)
        if proven is not None and proven[1].kind is not Kind.DEVICE_EQUIVOCATION:
            await self._convict(*proven)

    async def _convict(self, file: bytes, verdict: Verdict) -> None:
        name = file_name(file, verdict)
        await self._store.keep_evidence(name, file)
        convictions = tuple(sorted({*self._record.convictions, name.encode()}))
        await self._save(self.state, convictions)
        self._trouble = f"{verdict.kind.code}: {verdict.meaning} ({verdict.blamed})"
        log.error("audit: convicted, %s", self._trouble)
        self._on_convicted()

    async def _save(
        self,
        state: TrustedState,
        convictions: tuple[bytes, ...] = (),
        anchored: Sequence[AnchoredRange] = (),
    ) -> None:
        """Durable first, visible after."""
        record = AuditRecord(state=state, convictions=convictions or self._record.convictions)
        if record != self._record:
            await self._store.save(encode(record), anchored)
        self._record = record
        self._moved.set()
        self._moved = trio.Event()


def _load(store: AuditStore, histories: Histories, chain: HeadSource) -> AuditRecord:
    logs = tuple(one.log for one in histories)
    stored = store.load()
    if stored is None:
        fresh = fresh_state(logs, chain=chain.trust)
        return AuditRecord(state=fresh, convictions=())
    record = decode(AuditRecord, stored)
    if record.state.logs != logs:
        raise RollbackError("the stored audit state follows other logs")
    return record

"""What this device knows to be anchored, and the pure step from one epoch to the next.

Data flow: stored state + chain head + EpochProofs -> `open_next` -> auditor compares -> stored.

Rule 22: every epoch is opened, for the org log and the realm log, each extending the one before; a
server could otherwise show one branch in odd epochs and another in even ones. A state is believed
only when the last opened statement is the one that the validators agreed on. Nothing below a
stored state is ever accepted again, so it is a floor that survives restarts.
"""

from dataclasses import dataclass, replace
from typing import Annotated, Final

from parsec_fs.audit.chain_head import VerifiedChainHead
from parsec_fs.audit.checks import Checks
from parsec_fs.audit.commitments import (
    AnchoredState,
    absent,
    anchored_states,
    verify_own_statement,
)
from parsec_fs.audit.evidence import (
    broken_promise,
    encode_evidence,
    split_view,
    two_statements,
)
from parsec_fs.identity import TrustAnchor
from parsec_fs.protocol.chain_types import TimeNs, TrustState
from parsec_fs.protocol.codec import U8, U64, Size, decode
from parsec_fs.protocol.commands import EpochProof
from parsec_fs.protocol.errors import ForkError, RollbackError, StaleError
from parsec_fs.protocol.ids import NO_HASH, Hash, LogId
from parsec_fs.protocol.merkle import Frontier
from parsec_fs.protocol.records import LogState
from parsec_fs.protocol.statements import SignedStatement, Statement

ORG: Final = 0
REALM: Final = 1
"""Places in `TrustedState.anchored`."""

INDEPENDENT_OPERATORS: Final = 4
"""Fewer than this, and the word is `self-anchored` (rule 29)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustedState:
    """Anchored states of the followed logs (org log first) after the epochs in `tree`.

    `tree` is E, the tree of epoch leaves; its size is the number of verified epochs. `openings`
    are the last epoch's, kept so that evidence and proofs can be made without the server (empty
    before the first epoch). `bootstrapped` is 1 until the whole log was replayed (rule 25).
    """

    anchored: Annotated[tuple[LogState, ...], Size(1, 100)]
    tree: Frontier
    time_ms: U64
    chain: TrustState
    chain_header: Hash
    chain_time_ns: TimeNs
    openings: Annotated[tuple[AnchoredState, ...], Size(0, 100)]
    bootstrapped: U8

    @property
    def epochs(self) -> int:
        """Verified epochs; the newest one is `epochs - 1`."""
        return self.tree.size

    @property
    def logs(self) -> tuple[LogId, ...]:
        """Ids of the followed logs."""
        return tuple(one.log for one in self.anchored)

    def of(self, log: LogId) -> LogState:
        """Anchored state of a followed log."""
        return self.anchored[self.logs.index(log)]


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedEpoch:
    """One epoch: states of the logs before and in it, their openings, and the state after it."""

    epoch: int
    before: tuple[LogState, ...]
    after: TrustedState
    statement: Statement


@dataclass(frozen=True, slots=True, kw_only=True)
class AnchoredRange:
    """Leaves `first` to `size` - 1 of a log, which this epoch is the first one to anchor."""

    log: LogId
    first: int
    size: int
    epoch: int


def newly_anchored(opened: OpenedEpoch) -> tuple[AnchoredRange, ...]:
    """What an opened epoch anchors that the one before did not, in each log that grew."""
    logs = zip(opened.before, opened.after.anchored, strict=True)
    return tuple(
        AnchoredRange(log=after.log, first=before.size, size=after.size, epoch=opened.epoch)
        for before, after in logs
        if after.size > before.size
    )


def is_self_anchored(operators: int, validators: int) -> bool:
    """Too few independent operators run the chain, as its genesis declares them; how many
    validators there are says nothing of who runs them (rule 29)."""
    return min(operators, validators) < INDEPENDENT_OPERATORS


def fresh_state(logs: tuple[LogId, ...], *, chain: TrustState) -> TrustedState:
    """Nothing verified yet: epoch 0 comes first, and it must not know these logs out of nowhere."""
    return TrustedState(
        anchored=tuple(absent(log) for log in logs),
        tree=Frontier(),
        time_ms=0,
        chain=chain,
        chain_header=NO_HASH,
        chain_time_ns=0,
        openings=(),
        bootstrapped=0,
    )


def decode_state(data: bytes, *, expected_logs: tuple[LogId, ...]) -> TrustedState:
    """A stored state. Raises DataError, RollbackError if it is of other logs."""
    state = decode(TrustedState, data)
    if state.logs != expected_logs:
        raise RollbackError("the stored audit state follows other logs")
    return state


def open_next(
    state: TrustedState, unverified: EpochProof, *, anchor: TrustAnchor, checks: Checks
) -> OpenedEpoch:
    """The epoch right after `state`. Means nothing before `meet_chain`.

    Raises DataError and VerificationError; the error carries an evidence file if the server has
    signed the contradiction, and nothing if only its (unsigned) answer is wrong."""
    statement = verify_own_statement(unverified.statement, anchor)
    checks.time_grows(statement, before_ms=state.time_ms)
    tree, found = checks.epoch_opening(
        unverified,
        statement,
        expected_epoch=state.epochs,
        expected_org=anchor.org,
        expected_logs=state.logs,
        before=state.tree,
    )
    states = tuple(one or absent(log) for one, log in zip(found, state.logs, strict=True))
    openings = anchored_states(unverified, state.logs)
    _check_growth(state, states, openings, anchor, checks)
    for before, after in zip(state.anchored[REALM:], states[REALM:], strict=True):
        checks.org_is_current(before, after, org_before=state.anchored[ORG])
    opened = replace(
        state, anchored=states, tree=tree, time_ms=statement.time_ms, openings=openings
    )
    return OpenedEpoch(
        epoch=statement.epoch, before=state.anchored, after=opened, statement=statement
    )


def _check_growth(
    state: TrustedState,
    states: tuple[LogState, ...],
    openings: tuple[AnchoredState, ...],
    anchor: TrustAnchor,
    checks: Checks,
) -> None:
    """Two opened statements that contradict each other are evidence by themselves (P1, P2)."""
    for place, (before, after) in enumerate(zip(state.anchored, states, strict=True)):
        try:
            checks.log_grows(before, after)
        except RollbackError as error:
            shrunk = encode_evidence(broken_promise(state.openings[place], openings[place]))
            raise RollbackError(str(error), evidence=(shrunk,)) from error
        except ForkError as error:
            replaced = encode_evidence(split_view(state.openings[place], openings[place]))
            raise ForkError(str(error), evidence=(replaced,)) from error


def meet_chain(
    opened: tuple[OpenedEpoch, ...],
    head: VerifiedChainHead,
    *,
    chain: TrustState,
    anchor: TrustAnchor,
    checks: Checks,
) -> tuple[OpenedEpoch, ...]:
    """The opened epochs, now believed, if the last statement is the one on the chain.

    Raises ForkError, with P7 if the server signed two statements for this epoch."""
    last = opened[-1]
    try:
        checks.statement_is_anchored(last.statement, head.statement)
    except ForkError as error:
        served = last.after.openings[ORG].statement
        on_chain = decode(SignedStatement, head.statement_bytes)
        raise ForkError(str(error), evidence=_two(served, on_chain, anchor)) from error
    return tuple(replace(one, after=anchored_by(one.after, head, chain=chain)) for one in opened)


def _two(
    served: SignedStatement, on_chain: SignedStatement, anchor: TrustAnchor
) -> tuple[bytes, ...]:
    epochs = {verify_own_statement(one, anchor).epoch for one in (served, on_chain)}
    if len(epochs) != 1:
        return ()
    return (encode_evidence(two_statements(served, on_chain)),)


def anchored_by(state: TrustedState, head: VerifiedChainHead, *, chain: TrustState) -> TrustedState:
    """The same epochs, seen under a newer chain header."""
    return replace(
        state,
        chain=chain,
        chain_header=head.header_hash,
        chain_time_ns=head.header_time_ns,
    )


def confirm(
    state: TrustedState, head: VerifiedChainHead, *, chain: TrustState, checks: Checks
) -> TrustedState:
    """Nothing new on the chain: its newest statement must be the one that was opened last.

    Raises StaleError if the node shows an older epoch, ForkError for another statement."""
    checks.chain_time_grows(head.header_time_ns, before_ns=state.chain_time_ns)
    if head.statement.epoch + 1 != state.epochs:
        raise StaleError("the chain node is behind what was verified before")
    own = decode(Statement, state.openings[ORG].statement.statement)
    checks.statement_is_anchored(own, head.statement)
    return anchored_by(state, head, chain=chain)

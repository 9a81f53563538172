"""The one word that says how far this device can vouch for the history, and why.

Data flow: auditor's facts + clocks -> `client_state` -> status, `.status`, gate, exit codes.

    verified   all that was anchored is audited, nothing is waiting
    pending    newer changes are logged but not anchored and audited yet, or epochs are worked off
    lagging    the chain or the server was not seen for too long (rule 24); never shown as "fine"
    suspect    a check failed in a way that convicts nobody; another node or a retry may clear it
    convicted  an evidence file proves that the server cheated; the mount is frozen, for good

`bootstrapped` and `self-anchored` qualify these words; they say what is not proven (rules 25, 29).
Lag runs on the monotonic clock and on the chain's time, whichever says more: setting the wall
clock back hides nothing while the program runs, setting it forward raises a false alarm at most.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

_S: Final = 1_000_000_000
LAG_EPOCHS: Final = 3
LAG_MIN_NS: Final = 20 * _S
LOCAL_EPOCHS: Final = 10
LOCAL_MIN_NS: Final = 120 * _S


class Word(StrEnum):
    """State of the client."""

    VERIFIED = "verified"
    PENDING = "pending"
    LAGGING = "lagging"
    SUSPECT = "suspect"
    CONVICTED = "convicted"


BOOTSTRAPPED: Final = "bootstrapped"
SELF_ANCHORED: Final = "self-anchored"

MEANINGS: Final[dict[str, str]] = {
    Word.VERIFIED: "everything up to the last epoch belongs to the one history all members see",
    Word.PENDING: "newer changes are logged and wait for the next epoch",
    Word.LAGGING: "no fresh epoch was seen; what you see may be old",
    Word.SUSPECT: "a check failed; new changes stay on this device until it is cleared",
    Word.CONVICTED: "the server is proven to have cheated; the workspace is frozen",
    BOOTSTRAPPED: "history before this device joined is on another device's word until replayed",
    SELF_ANCHORED: "fewer than four independent operators: nothing is forged or rolled back past "
    "one key holder, but a fork shows only when devices compare",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditFacts:
    """What the auditor knows. Times in ns: `progress_monotonic_ns` is this program's monotonic
    clock when a newer epoch was last verified (or at its start), `chain_time_ns` the time of the
    header that carries it, 0 if there was none yet."""

    epochs: int
    epoch_ms: int
    progress_monotonic_ns: int
    chain_time_ns: int
    behind: bool
    pending: bool
    trouble: str = ""
    offline: str = ""
    expired: bool = False
    evidence: tuple[str, ...] = ()
    bootstrapped: bool = False
    self_anchored: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientState:
    """For people and programs. `frozen`: writes EROFS. `writes_stay_local`: nothing is sent."""

    word: Word
    qualifiers: tuple[str, ...]
    epochs: int
    age_ns: int
    reason: str
    evidence: tuple[str, ...]
    frozen: bool
    writes_stay_local: bool

    def text(self) -> str:
        """A few lines for `status`."""
        words = " ".join((self.word, *(f"({one})" for one in self.qualifiers)))
        newest = f"epoch {self.epochs - 1}" if self.epochs else "no epoch yet"
        lines = [f"{words}: {newest}, seen {self.age_ns // _S} s ago", MEANINGS[self.word]]
        lines += [MEANINGS[one] for one in self.qualifiers]
        lines += [self.reason] if self.reason else []
        lines += [f"evidence: {one}" for one in self.evidence]
        return "\n".join(lines)


def lag_bound_ns(epoch_ms: int) -> int:
    """Rule 24: how old the newest verified epoch may be."""
    return max(LAG_EPOCHS * epoch_ms * 1_000_000, LAG_MIN_NS)


def local_bound_ns(epoch_ms: int) -> int:
    """Rule 24: from when on writes stay local."""
    return max(LOCAL_EPOCHS * epoch_ms * 1_000_000, LOCAL_MIN_NS)


def age_ns(facts: AuditFacts, *, monotonic_ns: int, now_ns: int) -> int:
    """Age of the newest verified epoch, at least what either clock says."""
    running = monotonic_ns - facts.progress_monotonic_ns
    shown = now_ns - facts.chain_time_ns if facts.chain_time_ns else 0
    return max(running, shown, 0)


def client_state(facts: AuditFacts, *, monotonic_ns: int, now_ns: int) -> ClientState:
    """The worst word that the facts allow."""
    age = age_ns(facts, monotonic_ns=monotonic_ns, now_ns=now_ns)
    word, reason = _word(facts, age)
    qualifiers = (BOOTSTRAPPED,) * facts.bootstrapped + (SELF_ANCHORED,) * facts.self_anchored
    return ClientState(
        word=word,
        qualifiers=qualifiers,
        epochs=facts.epochs,
        age_ns=age,
        reason=reason,
        evidence=facts.evidence,
        frozen=word is Word.CONVICTED,
        writes_stay_local=word in (Word.CONVICTED, Word.SUSPECT)
        or age > local_bound_ns(facts.epoch_ms),
    )


def _word(facts: AuditFacts, age: int) -> tuple[Word, str]:
    if facts.evidence:
        return Word.CONVICTED, facts.trouble
    if facts.trouble:
        return Word.SUSPECT, facts.trouble
    if facts.expired:
        return Word.LAGGING, "trust in the chain expired; renew it: parsec-fs trust renew"
    if age > lag_bound_ns(facts.epoch_ms):
        return Word.LAGGING, facts.offline or "no newer epoch is published"
    if facts.behind:
        return Word.PENDING, "epochs since the last visit are being worked off"
    if not facts.epochs:
        return Word.PENDING, "no epoch was verified yet"
    if facts.pending:
        return Word.PENDING, ""
    return Word.VERIFIED, ""

"""What an audit, a proof or a piece of evidence says, for people and for programs.

Data flow: TrustedState, ClientState, ProvenObject, Verdict -> lines with ticks, or JSON values.

No claim here is wider than what was checked: `self-anchored` and `bootstrapped` are always said,
and a label in a proof is called a label (rules 25, 29, 32).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from parsec_fs.audit.client_state import BOOTSTRAPPED, MEANINGS, ClientState, Word
from parsec_fs.audit.proof import ProvenObject
from parsec_fs.audit.trusted_state import REALM, TrustedState
from parsec_fs.audit.verdict import Verdict, fingerprint
from parsec_fs.plain_text import plain_name

Json = dict[str, Any]
_GOOD: Final = "✔"
_BAD: Final = "✘"
_OPEN: Final = "·"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """One kind of check. `passed` is None if it could not be made."""

    name: str
    passed: bool | None
    text: str

    def line(self) -> str:
        """As in ` ✔ chain         header 812, ...`."""
        mark = _OPEN if self.passed is None else _GOOD if self.passed else _BAD
        return f" {mark} {self.name:<13} {self.text}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The result of auditing one workspace."""

    workspace: str
    ticks: tuple[Tick, ...]
    client: ClientState
    records: int
    audited: int
    lying_nodes: tuple[tuple[str, str], ...]

    @property
    def verified(self) -> bool:
        """Everything anchored so far is audited, and nothing is wrong."""
        return self._nothing_wrong and not self.bootstrapped

    @property
    def bootstrapped(self) -> bool:
        """The whole log was not replayed yet."""
        return BOOTSTRAPPED in self.client.qualifiers

    @property
    def _nothing_wrong(self) -> bool:
        return self.client.word in (Word.VERIFIED, Word.PENDING) and self.client.epochs > 0

    def text(self) -> str:
        """For a terminal."""
        lines = [tick.line() for tick in self.ticks]
        lines += [f" {_BAD} chain node    {name}: {what}" for name, what in self.lying_nodes]
        return "\n".join([*lines, *self._conclusion()])

    def _conclusion(self) -> list[str]:
        newest = self.client.epochs - 1
        if self._nothing_wrong and self.bootstrapped:
            found = [f"{self.workspace}: the server committed to it up to epoch {newest}."]
        elif self._nothing_wrong:
            found = [f"{self.workspace} is complete and unaltered up to epoch {newest}."]
            waiting = self.records - self.audited
            found += [f"{waiting:,} newer records wait for the next epoch."] if waiting else []
        else:
            found = [f"{self.workspace}: {self.client.word}. {MEANINGS[self.client.word]}."]
            found += [self.client.reason] if self.client.reason else []
            found += [f"Evidence: {one}" for one in self.client.evidence]
        return found + [f"Note, {one}: {MEANINGS[one]}." for one in self.client.qualifiers]

    def json(self) -> Json:
        """For programs; fields are only ever added."""
        return {
            "word": str(self.client.word),
            "qualifiers": list(self.client.qualifiers),
            "reason": self.client.reason,
            "evidence": list(self.client.evidence),
            "verified": self.verified,
            "epochs": self.client.epochs,
            "records": self.records,
            "audited": self.audited,
            "ticks": [
                {"name": one.name, "passed": one.passed, "text": one.text} for one in self.ticks
            ],
            "lying_nodes": dict(self.lying_nodes),
        }


def audit_report(
    workspace: str,
    state: TrustedState,
    client: ClientState,
    *,
    records: int,
    lying: Mapping[str, str],
) -> Report:
    """Ticks for what is verified; a check that failed has a cross at what it failed in."""
    realm = state.anchored[REALM]
    wrong = client.word in (Word.CONVICTED, Word.SUSPECT)
    fresh = client.word is not Word.LAGGING
    known = state.epochs > 0
    root = fingerprint(realm.log_root)
    replayed = f"{realm.size:,} records: signatures, roles, versions and state map"
    if BOOTSTRAPPED in client.qualifiers:
        replayed += ", those before joining on another device's word"
    validators = len(state.chain.validators)
    signed = f"header {state.chain.height:,}, more than two thirds of {validators} validators"
    ticks = (
        Tick(name="chain", passed=known or None, text=signed),
        Tick(name="freshness", passed=fresh and known, text=f"seen {client.age_ns // 10**9} s ago"),
        Tick(
            name="checkpoint",
            passed=known or None,
            text=f"epoch {state.epochs - 1} holds {realm.size:,} records, root {root}",
        ),
        Tick(
            name="consistency",
            passed=not wrong and (known or None),
            text=f"{state.epochs:,} epochs opened, each extends the one before",
        ),
        Tick(name="history", passed=known or None, text=replayed),
        Tick(
            name="promises",
            passed=not wrong and (known or None),
            text=client.reason if wrong else "every signed head relied upon is in that history",
        ),
    )
    return Report(
        workspace=workspace,
        ticks=ticks,
        client=client,
        records=records,
        audited=realm.size,
        lying_nodes=tuple(sorted(lying.items())),
    )


def proof_notes(qualifiers: Sequence[str]) -> list[str]:
    """What a device that writes a proof has to say of it (rule 25)."""
    if BOOTSTRAPPED not in qualifiers:
        return []
    return [
        "the server committed to this state; that it follows from the log, this device takes on "
        "another one's word until it has replayed the log"
    ]


def proof_text(proven: ProvenObject) -> str:
    """What a checked proof says."""
    state, label = proven.state, plain_name(proven.label)
    time = _EPOCH + timedelta(microseconds=proven.header_time_ns // 1000)
    return "\n".join(
        [
            f" {_GOOD} object        {proven.object.hex()} in log {fingerprint(proven.log)}",
            f" {_GOOD} state         version {state.version}, {state.operations} operations, "
            f"history {state.history.hex()}",
            f" {_GOOD} checkpoint    epoch {proven.epoch}, log of {proven.log_size:,} records",
            f" {_GOOD} chain         {plain_name(proven.chain_id)}, "
            f"header {proven.height:,} of {time:%Y-%m-%d %H:%M:%S} UTC, "
            f"{proven.validators} validators",
            f"The prover calls it '{label}'; that name is not part of what is proven.",
        ]
    )


def proof_json(proven: ProvenObject) -> Json:
    """For programs."""
    return {
        "proven": True,
        "label": plain_name(proven.label),
        "log": proven.log.hex(),
        "object": proven.object.hex(),
        "version": proven.state.version,
        "operations": proven.state.operations,
        "history": proven.state.history.hex(),
        "epoch": proven.epoch,
        "log_size": proven.log_size,
        "chain": plain_name(proven.chain_id),
        "height": proven.height,
        "header": proven.header_hash.hex(),
        "header_time_ns": proven.header_time_ns,
        "validators": proven.validators,
    }


def verdict_text(verdict: Verdict) -> str:
    """What checked evidence proves."""
    lines = [f"Proven, {verdict.kind.code}: {verdict.meaning}.", f"To blame: {verdict.blamed}"]
    return "\n".join([*lines, *(f"  {one}" for one in verdict.details)])


def verdict_json(verdict: Verdict) -> Json:
    """For programs."""
    return {
        "proven": True,
        "type": verdict.kind.code,
        "meaning": verdict.meaning,
        "blamed": verdict.blamed,
        "details": list(verdict.details),
    }

"""What a piece of evidence proves, for people and programs.

Data flow: evidence -> offline check -> `Verdict` -> report, status, command line.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from parsec_fs.protocol.errors import ProofError


class Kind(IntEnum):
    """Types of evidence; the number is the one of the file."""

    SPLIT_VIEW = 1
    BROKEN_PROMISE = 2
    STALE_ANSWER = 3
    INVALID_LEAF = 4
    WRONG_TRANSITION = 5
    FALSE_REFUSAL = 6
    TWO_STATEMENTS = 7
    CHAIN_FORK = 8
    DEVICE_EQUIVOCATION = 9

    @property
    def code(self) -> str:
        """Short name, as in the threat model."""
        return f"P{self.value}"


MEANINGS: Final[dict[Kind, str]] = {
    Kind.SPLIT_VIEW: "the server signed two histories of one log that cannot both be true",
    Kind.BROKEN_PROMISE: "the server took back what it had promised to anchor",
    Kind.STALE_ANSWER: "the server hid changes that it already held when it answered",
    Kind.INVALID_LEAF: "the server put a record into a log that its rules forbid",
    Kind.WRONG_TRANSITION: "the server signed a state that does not follow from the records",
    Kind.FALSE_REFUSAL: "the server refused a record for ever and used it nevertheless",
    Kind.TWO_STATEMENTS: "the server signed two statements for one epoch",
    Kind.CHAIN_FORK: "validators decided two blocks at one height",
    Kind.DEVICE_EQUIVOCATION: "one device key signed for two histories in one run",
}

MEMBERS_CODES: Final = frozenset({Kind.DEVICE_EQUIVOCATION})
"""Evidence that blames a member's device: it freezes nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Proven. `blamed` is who signed the contradiction; `details` one line each, no secrets."""

    kind: Kind
    blamed: str
    details: tuple[str, ...]

    @property
    def meaning(self) -> str:
        """One sentence."""
        return MEANINGS[self.kind]

    @property
    def convicts_server(self) -> bool:
        """Is the server the one to blame (P1 to P7)?"""
        return self.kind < Kind.CHAIN_FORK


class NotProvenError(ProofError):
    """Well-formed, signed, and no contradiction: proves nothing against anyone."""


def fingerprint(identifier: bytes) -> str:
    """First 8 bytes of an id or hash in hex, for people to compare."""
    return identifier[:8].hex()

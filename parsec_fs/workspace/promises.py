"""What a signed head may say: never less, never otherwise, never too late.

Data flow: server_client (signature, context, nonce hold) -> `check_promise`, then the leaves are
replayed -> `check_roots` -> stored -> believed.

Rules 20, 23, 31; attacks: rollback (a smaller log), split view (two roots at one size), endless
delay (a promise far in the future). Evidence is the exact signed bytes of both heads.
"""

from collections.abc import Iterable

from parsec_fs.protocol.codec import encode_trusted
from parsec_fs.protocol.errors import (
    DataError,
    ForkError,
    ProofError,
    RollbackError,
    StaleError,
)
from parsec_fs.protocol.limits import DUE_EPOCH_MAX_AHEAD
from parsec_fs.protocol.records import Head, LogState, Signed

HeadPair = tuple[Head, Signed]
_SIZE_MAX = 2**62


class AuditFirstError(StaleError):
    """The head is due too far after what is audited (rule 23): audit `epochs` epochs, ask again."""

    def __init__(self, epochs: int) -> None:
        super().__init__(f"audit at least {epochs} epochs first")
        self.epochs = epochs


def check_promise(
    found: HeadPair, *, known_size: int, newest: HeadPair | None, most_due: int
) -> HeadPair:
    """Size and due epoch are acceptable. `known_size`: verified when the request was sent.

    Raises RollbackError with both heads, AuditFirstError, DataError."""
    head, raw = found
    if max(head.size, head.due_epoch, head.time_ms) > _SIZE_MAX:
        raise DataError("head: numbers out of range")
    if head.size < known_size:
        known = () if newest is None else (encode_trusted(newest[1]),)
        raise RollbackError(
            f"the log has {head.size} leaves, {known_size} were promised before",
            evidence=(*known, encode_trusted(raw)),
        )
    if head.due_epoch > most_due:
        raise AuditFirstError(head.due_epoch - DUE_EPOCH_MAX_AHEAD + 1)
    return found


def check_roots(found: HeadPair, recomputed: LogState, *, known: HeadPair | None) -> HeadPair:
    """The head's roots are those of the replayed prefix. `known`: the head kept at this size.

    Raises ForkError with both heads (P1), ProofError with the one."""
    head, raw = found
    if (head.size, head.log_root, head.map_root) == (
        recomputed.size,
        recomputed.log_root,
        recomputed.map_root,
    ):
        return found
    if known is not None and known[0].size == head.size:
        raise ForkError(
            f"two heads for {head.size} leaves",
            evidence=(encode_trusted(known[1]), encode_trusted(raw)),
        )
    raise ProofError("the leaves do not lead to the signed head", evidence=(encode_trusted(raw),))


def check_reached(found: HeadPair, pins: Iterable[LogState]) -> HeadPair:
    """The log is at least as long as the inviter saw it (rule 25): a shorter one is an old copy.
    Raises RollbackError with the head."""
    head, raw = found
    vouched = max((pin.size for pin in pins if pin.log == head.context.log), default=0)
    if head.size < vouched:
        raise RollbackError(
            f"the log has {head.size} leaves; whoever invited this device has seen {vouched}: "
            "the server shows an old copy, of which nothing is used",
            evidence=(encode_trusted(raw),),
        )
    return found


def check_pins(pins: Iterable[LogState], recomputed: LogState) -> LogState:
    """What the inviter vouched for at this size is what is here (rule 25). Raises ForkError."""
    for pin in pins:
        if (pin.log, pin.size) == (recomputed.log, recomputed.size) and (
            pin.log_root,
            pin.map_root,
        ) != (recomputed.log_root, recomputed.map_root):
            evidence = (encode_trusted(pin), encode_trusted(recomputed))
            raise ForkError("another history than the one we were invited to", evidence=evidence)
    return recomputed

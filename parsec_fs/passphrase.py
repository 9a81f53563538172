"""From a passphrase to a key: Argon2id, how costly it is, and which costs are believed.

Data flow: passphrase, salt, cost -> `passphrase_key` -> device_lock; trial -> `calibrated`.

The cost is stored beside the salt, so it is read before anything is authenticated. Bounds stop both
attacks of whoever can write the file: a cost that eats this machine's memory, and one so low that a
key derived from the passphrase could be guessed. The lowest cost is the second recommendation of
RFC 9106; what is chosen depends on how fast this machine is.
"""

import unicodedata
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from parsec_fs.protocol.codec import U8, U32
from parsec_fs.protocol.errors import DataError, InputError
from parsec_fs.protocol.limits import KIB

KEY_SIZE: Final = 32
PASSPHRASE_MIN_LENGTH: Final = 10
"""Characters. A guess costs a thief about a second of one machine; shorter ones are too few."""
TARGET_S: Final = 0.7
"""What a person who unlocks is made to wait."""

_ITERATIONS: Final = 3
_LANES: Final = 4
_FLOOR_KIB: Final = 64 * KIB
_CHOSEN_MAX_KIB: Final = 1024 * KIB
_BELIEVED_MAX_KIB: Final = 2 * 1024 * KIB
_BELIEVED_MAX_ITERATIONS: Final = 16
_BELIEVED_MAX_LANES: Final = 16
_PASSPHRASE_MAX_SIZE: Final = 1024
_SHARE_OF_MEMORY: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Parameters of Argon2id; memory in KiB."""

    memory_kib: U32
    iterations: U32
    lanes: U8


FLOOR: Final = Cost(memory_kib=_FLOOR_KIB, iterations=_ITERATIONS, lanes=_LANES)
"""The lowest cost that is written or believed."""


def check_cost(unverified: Cost) -> Cost:
    """The cost, if it is one that this program could have written. Raises DataError."""
    if not FLOOR.memory_kib <= unverified.memory_kib <= _BELIEVED_MAX_KIB:
        raise DataError(f"passphrase cost: {unverified.memory_kib} KiB is out of bounds")
    if not FLOOR.iterations <= unverified.iterations <= _BELIEVED_MAX_ITERATIONS:
        raise DataError(f"passphrase cost: {unverified.iterations} iterations are out of bounds")
    if not 1 <= unverified.lanes <= _BELIEVED_MAX_LANES:
        raise DataError(f"passphrase cost: {unverified.lanes} lanes are out of bounds")
    return unverified


class CostChecks:
    """Which costs are believed. Programs use `COST_CHECKS`; the attack tests hand in a subclass."""

    def cost(self, unverified: Cost) -> Cost:
        """Not so low that a thief can guess, not so high that this machine stands still (A04).
        Raises DataError."""
        return check_cost(unverified)


COST_CHECKS: Final = CostChecks()


def calibrated(floor_s: float, *, memory: int) -> Cost:
    """The cost that takes about `TARGET_S` where the lowest took `floor_s` seconds. `memory` of the
    machine in bytes: at most a quarter of it is used."""
    wanted = round(FLOOR.memory_kib * TARGET_S / max(floor_s, 0.001))
    most = min(_CHOSEN_MAX_KIB, memory // KIB // _SHARE_OF_MEMORY)
    # Whole MiB: the number says something to people, and nothing about this very machine.
    chosen = min(wanted, most) // KIB * KIB
    return Cost(memory_kib=max(chosen, FLOOR.memory_kib), iterations=_ITERATIONS, lanes=_LANES)


def passphrase_key(
    passphrase: bytes, *, salt: bytes, cost: Cost, checks: CostChecks = COST_CHECKS
) -> bytes:
    """32 bytes. `salt`: 32 fresh random bytes of this passphrase. Raises DataError for a cost out
    of bounds, before any memory is taken."""
    checks.cost(cost)
    function = Argon2id(
        salt=salt,
        length=KEY_SIZE,
        iterations=cost.iterations,
        lanes=cost.lanes,
        memory_cost=cost.memory_kib,
    )
    return function.derive(passphrase)


def passphrase_bytes(text: str) -> bytes:
    """What is derived from: one form for all keyboards (NFKC). Raises InputError, which never shows
    what was given."""
    data = unicodedata.normalize("NFKC", text).encode("utf-8", "surrogateescape")
    if not 0 < len(data) <= _PASSPHRASE_MAX_SIZE:
        raise InputError("a passphrase has 1 to 1,024 bytes")
    return data


def check_new_passphrase(text: str) -> str:
    """A passphrase that may be set. Raises InputError."""
    if len(text) < PASSPHRASE_MIN_LENGTH:
        raise InputError(
            f"a passphrase has at least {PASSPHRASE_MIN_LENGTH} characters: whoever takes the disk "
            "can guess for ever. Several random words are easy to keep in mind"
        )
    return text

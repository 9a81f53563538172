"""What keeps the device file shut: key file, passphrase or desktop keyring. Formats, pure.

Data flow: bytes of device.dat -> `split` -> Lock, sealed identity; passphrase, Lock -> file key.

    1 | sealed identity                                  the file key is in device.key
    2 | length 2 | PassphraseLock | sealed identity      the file key is wrapped under Argon2id
    3 | length 2 | KeyringLock | sealed identity         the file key is in the desktop's keyring

The identity is sealed under a random file key, drawn anew whenever the lock changes. The lock is
part of what the seal binds: a file whose lock was exchanged opens with no key.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Final

from parsec_fs.passphrase import COST_CHECKS, Cost, CostChecks, passphrase_key
from parsec_fs.protocol.codec import Bytes32, Size, decode, encode
from parsec_fs.protocol.errors import DataError
from parsec_fs.protocol.hashing import sha256, tag
from parsec_fs.protocol.sealing import LocalSealer

KEY_FILE: Final = 1
PASSPHRASE: Final = 2
KEYRING: Final = 3

_FILE: Final = tag("device-file")
_WRAP: Final = tag("device-file-key")
_LOCK_MAX_SIZE: Final = 1024
_WRAPPED_SIZE: Final = 32 + 32 + 16


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyFileLock:
    """Whoever can read the key file beside it opens the device file."""

    @property
    def method(self) -> int:
        """First byte of the file."""
        return KEY_FILE


@dataclass(frozen=True, slots=True, kw_only=True)
class PassphraseLock:
    """`wrapped`: the file key, sealed under the key that Argon2id makes of salt and passphrase."""

    salt: Bytes32
    cost: Cost
    wrapped: Annotated[bytes, Size(_WRAPPED_SIZE, _WRAPPED_SIZE)]

    @property
    def method(self) -> int:
        """First byte of the file."""
        return PASSPHRASE


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyringLock:
    """`entry`: random name under which the desktop's keyring keeps the file key."""

    entry: Annotated[bytes, Size(16, 16)]

    @property
    def method(self) -> int:
        """First byte of the file."""
        return KEYRING


Lock = KeyFileLock | PassphraseLock | KeyringLock


def head_of(lock: Lock) -> bytes:
    """What stands before the sealed identity."""
    if isinstance(lock, KeyFileLock):
        return bytes((KEY_FILE,))
    encoded = encode(lock)
    return bytes((lock.method,)) + len(encoded).to_bytes(2, "big") + encoded


def split(data: bytes, checks: CostChecks = COST_CHECKS) -> tuple[Lock, bytes]:
    """Lock and sealed identity of a device file. Raises DataError, also for a cost that nobody
    would have written."""
    method = data[0] if data else 0
    if method == KEY_FILE:
        return KeyFileLock(), data[1:]
    if method not in (PASSPHRASE, KEYRING):
        raise DataError("protected by an unknown method")
    end = 3 + int.from_bytes(data[1:3], "big")
    if method == KEYRING:
        return decode(KeyringLock, data[3:end], max_size=_LOCK_MAX_SIZE), data[end:]
    lock = decode(PassphraseLock, data[3:end], max_size=_LOCK_MAX_SIZE)
    checks.cost(lock.cost)
    return lock, data[end:]


def seal_identity(plain: bytes, *, lock: Lock, key: bytes, salt: bytes) -> bytes:
    """Bytes of the device file. `salt` is 32 fresh random bytes."""
    return head_of(lock) + LocalSealer(key).seal(plain, context=_context(lock), salt=salt)


def open_identity(sealed: bytes, *, lock: Lock, key: bytes) -> bytes:
    """The encoded identity. Raises DecryptionError."""
    return LocalSealer(key).open(sealed, expected_context=_context(lock))


def passphrase_lock(
    passphrase: bytes,
    *,
    cost: Cost,
    key: bytes,
    random: Callable[[int], bytes],
    checks: CostChecks = COST_CHECKS,
) -> PassphraseLock:
    """A lock that this passphrase opens to the file key `key`."""
    salt = random(32)
    derived = passphrase_key(passphrase, salt=salt, cost=cost, checks=checks)
    wrapped = LocalSealer(derived).seal(key, context=_WRAP + encode(cost), salt=random(32))
    return PassphraseLock(salt=salt, cost=cost, wrapped=wrapped)


def open_passphrase_lock(
    lock: PassphraseLock, passphrase: bytes, checks: CostChecks = COST_CHECKS
) -> bytes:
    """The file key. Raises DecryptionError if it is another passphrase."""
    derived = passphrase_key(passphrase, salt=lock.salt, cost=lock.cost, checks=checks)
    return LocalSealer(derived).open(lock.wrapped, expected_context=_WRAP + encode(lock.cost))


def lock_name(lock: Lock) -> str:
    """Short name of a lock: an agent hands out a key only for the very lock it was unlocked for."""
    return sha256(_FILE + head_of(lock)).hex()


def _context(lock: Lock) -> bytes:
    """For a key file nothing but the tag, as the first device files have it."""
    return _FILE if isinstance(lock, KeyFileLock) else _FILE + head_of(lock)


def describe(lock: Lock) -> str:
    """For people: what opens the device's keys."""
    if isinstance(lock, PassphraseLock):
        cost = lock.cost
        return f"a passphrase (Argon2id, {cost.memory_kib // 1024} MiB, {cost.iterations} passes)"
    if isinstance(lock, KeyringLock):
        return "the desktop's keyring"
    return "a key file beside them, mode 0600"

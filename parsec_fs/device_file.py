"""The device file: identity and secrets of this device, sealed, replaced atomically, mode 0600.

Data flow: Identity -> sealed under the file key -> device/device.dat -> Identity.

Which lock keeps the file key is said by the file's first byte (`device_lock`). A key file beside it
keeps the secrets out of copies of device.dat, and nothing more; one that others can read is
refused, as ssh does. The keys of the other locks come from a `KeySource`: agent, terminal, keyring.
"""

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

from parsec_fs.device_lock import (
    KeyFileLock,
    KeyringLock,
    Lock,
    PassphraseLock,
    open_identity,
    seal_identity,
    split,
)
from parsec_fs.identity import Identity
from parsec_fs.passphrase import COST_CHECKS, CostChecks
from parsec_fs.protocol.codec import decode, encode
from parsec_fs.protocol.errors import DataError, DecryptionError, DeviceFileError

_DATA: Final = "device.dat"
_KEY: Final = "device.key"
_JOINING: Final = "joining.dat"
_MAX_SIZE: Final = 4 * 1024 * 1024
Random = Callable[[int], bytes]


class KeySource(Protocol):
    """Where file keys come from that are not in a key file."""

    def passphrase_key(self, lock: PassphraseLock) -> bytes:
        """File key of a lock. Raises DeviceFileError: wrong passphrase, or nobody to ask."""

    def keyring_key(self, lock: KeyringLock) -> bytes:
        """File key of a lock. Raises DeviceFileError: no keyring, or not in it."""


class NoKeys:
    """Nobody to ask: opens key files alone."""

    def passphrase_key(self, lock: PassphraseLock) -> bytes:
        """Raises DeviceFileError."""
        raise DeviceFileError("this device is locked by a passphrase; type: parsec-fs unlock")

    def keyring_key(self, lock: KeyringLock) -> bytes:
        """Raises DeviceFileError."""
        raise DeviceFileError("this device is locked by the desktop's keyring")


class DeviceFile:
    """The files in `folder`; `keys` opens what a key file does not."""

    def __init__(
        self, folder: Path, keys: KeySource | None = None, checks: CostChecks = COST_CHECKS
    ) -> None:
        self._folder = folder
        self._checks = checks
        self._keys = keys or NoKeys()

    @property
    def data_path(self) -> Path:
        """The sealed identity."""
        return self._folder / _DATA

    @property
    def key_path(self) -> Path:
        """The key that opens it, while its lock is a key file."""
        return self._folder / _KEY

    @property
    def joining_path(self) -> Path:
        """Keys that `user join` keeps in the clear until this device is enrolled."""
        return self._folder / _JOINING

    def exists(self) -> bool:
        """Is this device enrolled?"""
        return self.data_path.exists()

    def create(self, identity: Identity, *, random: Random) -> None:
        """Write both files, durably. Raises DeviceFileError if a device is enrolled here."""
        if self.exists():
            raise DeviceFileError(f"{self.data_path} exists: this folder already has a device")
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.replace_lock(identity, KeyFileLock(), random(32), random=random)

    def lock(self) -> Lock:
        """What keeps the file shut. Raises DeviceFileError."""
        return self._parts()[0]

    def file_key(self) -> bytes:
        """The key of the lock as it is now. Raises DeviceFileError."""
        return self._key(self.lock())

    def save(self, identity: Identity, *, random: Random) -> None:
        """Replace the identity, durably; a crash leaves the old or the new one."""
        lock = self.lock()
        self._write(identity, lock, self._key(lock), random)

    def replace_lock(self, identity: Identity, lock: Lock, key: bytes, *, random: Random) -> None:
        """Seal the identity under another lock, whose file key is `key`. A crash leaves the old
        lock or the new one, and at most a key file that opens nothing."""
        if isinstance(lock, KeyFileLock):
            replace_private(self.key_path, key)
        self._write(identity, lock, key, random)
        if not isinstance(lock, KeyFileLock):
            self.key_path.unlink(missing_ok=True)
            _sync_folder(self._folder)
        self.remove_joining()

    def load(self) -> Identity:
        """Raises DeviceFileError: missing, damaged, or opened by another key."""
        lock, sealed = self._parts()
        identity = self._open(sealed, lock, self._key(lock))
        # Here if the process that joined ended before it was removed: no lock would protect it.
        self.remove_joining()
        return identity

    def remove_joining(self) -> None:
        """Take the keys of a join away, also what a crash left half written; durable when this
        returns. Raises DeviceFileError."""
        left = [one for one in (self.joining_path, _temporary(self.joining_path)) if one.exists()]
        try:
            for path in left:
                path.unlink(missing_ok=True)
        except OSError as error:
            raise DeviceFileError(
                f"{left[0]}: holds keys in the clear and cannot be removed ({error.strerror}); "
                "delete it"
            ) from error
        if left:
            _sync_folder(self._folder)

    def check_key(self, lock: Lock, key: bytes) -> Identity:
        """The identity, if the file still has this lock and `key` opens it. Raises
        DeviceFileError."""
        present, sealed = self._parts()
        if present != lock:
            raise DeviceFileError(f"{self.data_path}: was replaced meanwhile; try again")
        return self._open(sealed, lock, key)

    def remove(self) -> None:
        """Undo `create`, for an enrolment that failed."""
        for path in (self.data_path, self.key_path):
            path.unlink(missing_ok=True)

    def _parts(self) -> tuple[Lock, bytes]:
        if not self.exists():
            raise DeviceFileError(
                f"no device in {self._folder}; found an organization (parsec-fs org create) "
                "or join one (parsec-fs device join)"
            )
        try:
            return split(_read(self.data_path), self._checks)
        except DataError as error:
            raise DeviceFileError(f"{self.data_path}: damaged: {error}") from error

    def _open(self, sealed: bytes, lock: Lock, key: bytes) -> Identity:
        try:
            plain = open_identity(sealed, lock=lock, key=key)
            return decode(Identity, plain, max_size=_MAX_SIZE)
        except (DecryptionError, DataError) as error:
            what = f"{self.key_path}" if isinstance(lock, KeyFileLock) else "what opens its lock"
            raise DeviceFileError(f"{self.data_path}: damaged, or {what} is not its key") from error

    def _write(self, identity: Identity, lock: Lock, key: bytes, random: Random) -> None:
        data = seal_identity(encode(identity), lock=lock, key=key, salt=random(32))
        replace_private(self.data_path, data)

    def _key(self, lock: Lock) -> bytes:
        if isinstance(lock, PassphraseLock):
            return self._keys.passphrase_key(lock)
        if isinstance(lock, KeyringLock):
            return self._keys.keyring_key(lock)
        return self._key_of_file()

    def _key_of_file(self) -> bytes:
        key = _read(self.key_path)
        if stat.S_IMODE(self.key_path.stat().st_mode) & 0o077:
            raise DeviceFileError(f"{self.key_path}: others can read it; chmod 600 it")
        if len(key) != 32:
            raise DeviceFileError(f"{self.key_path}: damaged, a key has 32 bytes")
        return key


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_MAX_SIZE)
    except OSError as error:
        raise DeviceFileError(f"{path}: {error.strerror}") from error


def replace_private(path: Path, data: bytes, *, temporary: Path | None = None) -> None:
    """Write a file: durable before visible; never readable by others, not even for a moment. On an
    error nothing of it is left. `temporary`: what lies there goes; for a path that somebody chose
    it is a name that nobody else uses. Raises OSError."""
    temporary = temporary or _temporary(path)
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def write_beside_others(path: Path, data: bytes) -> None:
    """`replace_private` where the user keeps files: `words.new` beside `words.txt` is theirs.
    Raises OSError."""
    replace_private(path, data, temporary=path.with_name(f".{path.name}.new"))


def _temporary(path: Path) -> Path:
    return path.with_suffix(".new")


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

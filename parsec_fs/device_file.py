"""The device file: identity and secrets of this device, sealed, replaced atomically, mode 0600.

Data flow: Identity -> sealed under the key file -> device/device.dat -> Identity.

First byte: the method that protects it. 1 is a key file beside it that only this user can read: it
keeps the secrets out of copies of device.dat, and nothing more. Passphrase and keyring are other
methods of the same file. A key file that others can read is refused, as ssh does.
"""

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Final

from parsec_fs.identity import Identity
from parsec_fs.protocol.codec import decode, encode
from parsec_fs.protocol.errors import DataError, DecryptionError, DeviceFileError
from parsec_fs.protocol.hashing import tag
from parsec_fs.protocol.sealing import LocalSealer

KEY_FILE_METHOD: Final = 1
_DATA: Final = "device.dat"
_KEY: Final = "device.key"
_CONTEXT: Final = tag("device-file")
_MAX_SIZE: Final = 4 * 1024 * 1024


class DeviceFile:
    """The pair of files in `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def data_path(self) -> Path:
        """The sealed identity."""
        return self._folder / _DATA

    @property
    def key_path(self) -> Path:
        """The key that opens it."""
        return self._folder / _KEY

    def exists(self) -> bool:
        """Is this device enrolled?"""
        return self.data_path.exists()

    def create(self, identity: Identity, *, random: Callable[[int], bytes]) -> None:
        """Write both files, durably. Raises DeviceFileError if a device is enrolled here."""
        if self.exists():
            raise DeviceFileError(f"{self.data_path} exists: this folder already has a device")
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        replace_private(self.key_path, random(32))
        self.save(identity, random=random)

    def save(self, identity: Identity, *, random: Callable[[int], bytes]) -> None:
        """Replace the identity, durably; a crash leaves the old or the new one."""
        sealed = LocalSealer(self._key()).seal(encode(identity), context=_CONTEXT, salt=random(32))
        replace_private(self.data_path, bytes((KEY_FILE_METHOD,)) + sealed)

    def load(self) -> Identity:
        """Raises DeviceFileError: missing, damaged, or opened by another key."""
        if not self.exists():
            raise DeviceFileError(
                f"no device in {self._folder}; found an organization (parsec-fs org create) "
                "or join one (parsec-fs device join)"
            )
        data = _read(self.data_path)
        if data[:1] != bytes((KEY_FILE_METHOD,)):
            raise DeviceFileError(f"{self.data_path}: protected by an unknown method")
        try:
            plain = LocalSealer(self._key()).open(data[1:], expected_context=_CONTEXT)
            return decode(Identity, plain, max_size=_MAX_SIZE)
        except (DecryptionError, DataError) as error:
            raise DeviceFileError(
                f"{self.data_path}: damaged, or {self.key_path} is not its key"
            ) from error

    def remove(self) -> None:
        """Undo `create`, for an enrolment that failed."""
        for path in (self.data_path, self.key_path):
            path.unlink(missing_ok=True)

    def _key(self) -> bytes:
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


def replace_private(path: Path, data: bytes) -> None:
    """Write a file: durable before visible; never readable by others, not even for a moment."""
    temporary = path.with_suffix(".new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""The desktop's keyring (Secret Service, KWallet) as the place of the device's file key.

Data flow: file key -> keyring library -> the desktop's keyring, opened at login -> file key.

The library chooses a backend. One that does not keep secrets, a plain file or none at all, is
refused: a key there is no better than the key file, and people would believe otherwise.
"""

from typing import Final

import keyring
from keyring.backend import KeyringBackend
from keyring.errors import KeyringError

from parsec_fs.device_lock import KeyringLock
from parsec_fs.protocol.errors import DeviceFileError

_SERVICE: Final = "parsec-fs device"
_RECOMMENDED: Final = 1
"""Backends of at least this priority keep secrets, says the library."""


def store_key(lock: KeyringLock, key: bytes) -> None:
    """Keep a file key, and see that it comes back. Raises DeviceFileError."""
    backend = _backend()
    try:
        backend.set_password(_SERVICE, lock.entry.hex(), key.hex())
    except KeyringError as error:
        raise DeviceFileError(f"the desktop's keyring does not take the key: {error}") from error
    if load_key(lock) != key:
        raise DeviceFileError("the desktop's keyring gives back another key; nothing was changed")


def load_key(lock: KeyringLock) -> bytes:
    """The file key. Raises DeviceFileError."""
    try:
        text = _backend().get_password(_SERVICE, lock.entry.hex())
    except KeyringError as error:
        raise DeviceFileError(f"the desktop's keyring stays closed: {error}") from error
    if text is None:
        raise DeviceFileError(
            "the desktop's keyring does not hold this device's key. Log in to the desktop in which "
            "it was stored, or make this computer a new device: parsec-fs --home DIR device join"
        )
    try:
        return bytes.fromhex(text)
    except ValueError:
        # Never shown: the text may be a key that somebody stored in another form.
        raise DeviceFileError("the keyring's entry for this device is no key") from None


def forget_key(lock: KeyringLock) -> None:
    """Delete the entry; a file key that opens nothing any more may also stay."""
    try:
        _backend().delete_password(_SERVICE, lock.entry.hex())
    except (KeyringError, DeviceFileError):
        return


def _backend() -> KeyringBackend:
    backend = keyring.get_keyring()
    if backend.priority < _RECOMMENDED:
        raise DeviceFileError(
            "there is no desktop keyring here that keeps secrets; log in to a desktop with one, "
            "or use a passphrase: parsec-fs device passphrase set"
        )
    return backend

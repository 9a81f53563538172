"""parsec-fs device passphrase set, change, remove; device keyring set, remove.

Data flow: identity under the old lock -> new file key, new lock -> device file.

Every change draws a new file key. The keys inside stay what they are: an old copy of the device
file opens with what opened it then.
"""

import os
import sys
import time
from collections.abc import Callable

import typer

from parsec_fs.cli.exit_codes import CommandError, ExitCode
from parsec_fs.cli.session import forget
from parsec_fs.cli.settings import Settings, settings_of
from parsec_fs.desktop_keyring import forget_key, store_key
from parsec_fs.device_lock import (
    KeyFileLock,
    KeyringLock,
    Lock,
    PassphraseLock,
    describe,
    passphrase_lock,
)
from parsec_fs.identity import Identity
from parsec_fs.passphrase import (
    FLOOR,
    Cost,
    calibrated,
    check_new_passphrase,
    passphrase_bytes,
    passphrase_key,
)

passphrase_app = typer.Typer(no_args_is_help=True, help="Lock this device's keys by a passphrase.")
keyring_app = typer.Typer(no_args_is_help=True, help="Lock them by the desktop's keyring.")


@passphrase_app.command("set")
def set_passphrase(context: typer.Context) -> None:
    """Lock this device's keys by a passphrase instead of the key file or the keyring."""
    settings = settings_of(context)
    old = settings.device_file().lock()
    if isinstance(old, PassphraseLock):
        raise CommandError(
            ExitCode.BUSY, "there is a passphrase already; type: parsec-fs device passphrase change"
        )
    _lock_by_passphrase(settings, settings.device_file().load(), old)


@passphrase_app.command("change")
def change_passphrase(context: typer.Context) -> None:
    """Ask for the passphrase, then for a new one (with --password-stdin: two lines)."""
    settings = settings_of(context)
    old, identity = _open_by_passphrase(settings)
    _lock_by_passphrase(settings, identity, old)


@passphrase_app.command("remove")
def remove_passphrase(context: typer.Context) -> None:
    """Ask for the passphrase, then let a key file (mode 0600) open the keys."""
    settings = settings_of(context)
    old, identity = _open_by_passphrase(settings)
    _replace(settings, identity, old, KeyFileLock(), os.urandom(32))


@keyring_app.command("set")
def set_keyring(context: typer.Context) -> None:
    """Keep the key that opens this device's keys in the desktop's keyring."""
    settings = settings_of(context)
    old = settings.device_file().lock()
    if isinstance(old, PassphraseLock):
        old, identity = _open_by_passphrase(settings)
    else:
        identity = settings.device_file().load()
    lock, key = KeyringLock(entry=os.urandom(16)), os.urandom(32)
    store_key(lock, key)
    _replace(settings, identity, old, lock, key)


@keyring_app.command("remove")
def remove_keyring(context: typer.Context) -> None:
    """Let a key file (mode 0600) open the keys again."""
    settings = settings_of(context)
    old = settings.device_file().lock()
    if not isinstance(old, KeyringLock):
        raise CommandError(ExitCode.USAGE, f"this device's keys are opened by {describe(old)}")
    _replace(settings, settings.device_file().load(), old, KeyFileLock(), os.urandom(32))


def _open_by_passphrase(settings: Settings) -> tuple[Lock, Identity]:
    """The passphrase itself, though an agent may know the key: whoever finds an unlocked screen
    must not be able to lock its owner out. Raises CommandError, DeviceFileError."""
    file = settings.device_file()
    lock = file.lock()
    if not isinstance(lock, PassphraseLock):
        raise CommandError(
            ExitCode.USAGE,
            f"there is no passphrase: the keys are opened by {describe(lock)}. "
            "Set one: parsec-fs device passphrase set",
        )
    return lock, file.check_key(lock, settings.unlocking.ask(lock))


def _lock_by_passphrase(settings: Settings, identity: Identity, old: Lock) -> None:
    text = check_new_passphrase(_new_passphrase(settings))
    settings.output.progress("finding out what this machine can bear")
    cost = measured_cost(time.monotonic)
    key = os.urandom(32)
    lock = passphrase_lock(passphrase_bytes(text), cost=cost, key=key, random=os.urandom)
    _replace(settings, identity, old, lock, key)


def _new_passphrase(settings: Settings) -> str:
    unlocking = settings.unlocking
    first = unlocking.passphrase("New passphrase: ")
    typed = sys.stdin.isatty() and not (unlocking.from_stdin or unlocking.command)
    if typed and unlocking.passphrase("The same again: ") != first:
        raise CommandError(ExitCode.FAILED, "these were two passphrases; nothing was changed")
    return first


def measured_cost(clock: Callable[[], float]) -> Cost:
    """The cost of a passphrase on this machine: one trial at the lowest."""
    started = clock()
    passphrase_key(b"trial", salt=bytes(32), cost=FLOOR)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return calibrated(clock() - started, memory=memory)


def _replace(settings: Settings, identity: Identity, old: Lock, lock: Lock, key: bytes) -> None:
    settings.device_file().replace_lock(identity, lock, key, random=os.urandom)
    forget(settings)
    if isinstance(old, KeyringLock):
        forget_key(old)
    lines = [f"This device's keys are opened by {describe(lock)} from now on."]
    if isinstance(lock, PassphraseLock):
        lines += [
            "Nobody can give it back to you: a forgotten passphrase means a new device.",
            "Ask once per session: parsec-fs unlock",
        ]
    settings.output.result({"opened_by": lock_word(lock)}, lines)


def lock_word(lock: Lock) -> str:
    """For programs."""
    if isinstance(lock, PassphraseLock):
        return "passphrase"
    return "keyring" if isinstance(lock, KeyringLock) else "key-file"

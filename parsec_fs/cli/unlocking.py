"""Where a command gets the device's file key: as given, from the agent, from the person.

Data flow: lock of the device file -> parent process, --password-..., agent, terminal -> file key.

Passphrases never stand in arguments or in the environment: any user can read the first, any program
that is started the second. What was asked for once is kept for the rest of the command.
"""

import getpass
import shlex
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import trio

from parsec_fs.agent import ask_agent, sockets_to_ask
from parsec_fs.cli.exit_codes import CommandError, ExitCode
from parsec_fs.cli.output import Output
from parsec_fs.config import Home
from parsec_fs.control import CommandFailedError
from parsec_fs.device_lock import KeyringLock, PassphraseLock, lock_name, open_passphrase_lock
from parsec_fs.passphrase import passphrase_bytes
from parsec_fs.protocol.errors import DecryptionError, DeviceFileError, OfflineError

_TRIES: Final = 3
_LONGEST: Final = 4096


@dataclass(slots=True, kw_only=True, repr=False)
class Unlocking:
    """Key source of one command. `environment` names places, never secrets."""

    home: Home
    output: Output
    environment: Mapping[str, str]
    from_stdin: bool = False
    command: str = ""
    _known: dict[str, bytes] = field(default_factory=dict)

    def passphrase_key(self, lock: PassphraseLock) -> bytes:
        """Raises DeviceFileError: wrong passphrase, or nobody to ask."""
        name = lock_name(lock)
        if name not in self._known:
            self._known[name] = self._found(lock) or self.ask(lock)
        return self._known[name]

    def keyring_key(self, lock: KeyringLock) -> bytes:
        """Raises DeviceFileError."""
        from parsec_fs.desktop_keyring import load_key  # its library: only where there is one

        name = lock_name(lock)
        if name not in self._known:
            self._known[name] = load_key(lock)
        return self._known[name]

    def take(self, lock: PassphraseLock | KeyringLock, key: bytes) -> None:
        """The key as the process that started this one had it."""
        self._known[lock_name(lock)] = key

    def ask(self, lock: PassphraseLock) -> bytes:
        """The key by passphrase, whatever an agent knows. Raises DeviceFileError."""
        tries = 1 if self.from_stdin or self.command else _TRIES
        for left in reversed(range(tries)):
            passphrase = passphrase_bytes(self.passphrase("Passphrase of this device: "))
            try:
                return open_passphrase_lock(lock, passphrase)
            except DecryptionError:
                if left:
                    self.output.important("That is not it; once more.")
        raise DeviceFileError(
            "wrong passphrase: this device's keys stay closed, and nothing was changed"
        )

    def passphrase(self, prompt: str) -> str:
        """One passphrase, in the way that was asked for. Raises CommandError."""
        if self.from_stdin:
            return sys.stdin.readline(_LONGEST).rstrip("\r\n")
        if self.command:
            return _output_of(self.command)
        if sys.stdin.isatty():
            self.output.clear()
            return getpass.getpass(prompt, stream=sys.stderr)
        raise CommandError(
            ExitCode.WRONG_SECRET,
            "this device is locked by a passphrase and there is no terminal to ask at. "
            "Unlock it once: parsec-fs unlock. In scripts: --password-command, --password-stdin",
        )

    def agent(self, request: str, parameters: dict[str, object] | None = None) -> dict[str, object]:
        """Answer of this home's agent. Raises OfflineError, CommandFailedError."""
        sockets = sockets_to_ask(self.home, self.environment)
        return trio.run(ask_agent, sockets, request, parameters or {})

    def _found(self, lock: PassphraseLock) -> bytes:
        if self.from_stdin or self.command:
            # Asked for: and what else stands on standard input must be found where it stands.
            return b""
        try:
            return bytes.fromhex(str(self.agent("key", {"lock": lock_name(lock)})["key"]))
        except (OfflineError, CommandFailedError, LookupError, ValueError):
            return b""


def _output_of(command: str) -> str:
    """First line that a command prints, without a shell. Raises DeviceFileError."""
    try:
        words = shlex.split(command)
        done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True)
    except (OSError, ValueError, IndexError, subprocess.CalledProcessError) as error:
        # The error's text is not shown: it may hold what the command printed.
        raise DeviceFileError("--password-command failed; run it by itself to see why") from error
    return done.stdout.partition("\n")[0]

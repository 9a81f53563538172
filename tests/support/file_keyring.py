"""A desktop keyring for processes of tests: a backend of the keyring library that keeps a file.

Data flow: `PYTHON_KEYRING_BACKEND` names the class -> keyring library -> file named by a variable.

The library documents both the base class and the variable for this purpose. An empty file named
`locked` beside the store makes it refuse, as a keyring does that nobody opened.
"""

import json
import os
from pathlib import Path

from keyring.backend import KeyringBackend
from keyring.errors import KeyringLocked, PasswordDeleteError

VARIABLE = "TEST_KEYRING_FILE"


class FileKeyring(KeyringBackend):
    """Passwords by service and user name."""

    priority = 5

    def get_password(self, service: str, username: str) -> str | None:
        found = self._read().get(f"{service}/{username}")
        return None if found is None else str(found)

    def set_password(self, service: str, username: str, password: str) -> None:
        self._write({**self._read(), f"{service}/{username}": password})

    def delete_password(self, service: str, username: str) -> None:
        known = self._read()
        if known.pop(f"{service}/{username}", None) is None:
            raise PasswordDeleteError(username)
        self._write(known)

    def _read(self) -> dict[str, str]:
        if self._path().with_name("locked").exists():
            raise KeyringLocked("nobody opened it")
        try:
            return dict(json.loads(self._path().read_text()))
        except FileNotFoundError:
            return {}

    def _write(self, known: dict[str, str]) -> None:
        self._path().write_text(json.dumps(known))

    def _path(self) -> Path:
        return Path(os.environ[VARIABLE])


class WeakKeyring(FileKeyring):
    """A backend that the library itself would not recommend."""

    priority = 0.5  # type: ignore[assignment]

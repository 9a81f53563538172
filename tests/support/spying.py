"""What other programs of this machine may read of ours: arguments, environments, logs.

Data flow: /proc and log files, looked at again and again while something runs -> `Spy` -> search.
"""

import os
import threading
from collections.abc import Iterable
from pathlib import Path

_EVERY_S = 0.05
_LOOKS = 20
"""At each process: its arguments are those of its parent until it has become itself."""


class Spy(threading.Thread):
    """Watches every process whose arguments or environment name `folder`, and the logs in it."""

    def __init__(self, folder: Path, logs: Iterable[str], secret_files: Iterable[str] = ()) -> None:
        super().__init__(daemon=True)
        self._folder = folder
        self._logs, self._secret_files = tuple(logs), tuple(secret_files)
        self._ended = threading.Event()
        self._looks: dict[str, int] = {}
        self.arguments: set[bytes] = set()
        self.environments: set[bytes] = set()
        self.logs: dict[Path, bytes] = {}
        self.secrets: set[bytes] = set()
        """Contents of files that nothing else may show."""

    def run(self) -> None:
        """Until `end`."""
        while not self._ended.wait(_EVERY_S):
            self._look()

    def end(self) -> None:
        """Nothing is looked at any more."""
        self._ended.set()
        self.join()

    def _look(self) -> None:
        for name in filter(str.isdigit, os.listdir("/proc")):
            if self._looks.setdefault(name, 0) < _LOOKS and int(name) != os.getpid():
                self._looks[name] += 1
                self._look_at(Path("/proc", name))
        for pattern in self._logs:
            self.logs.update((path, data) for path, data in self._read(pattern))
        for pattern in self._secret_files:
            self.secrets.update(data for _, data in self._read(pattern) if data)

    def _look_at(self, process: Path) -> None:
        try:
            arguments = (process / "cmdline").read_bytes()
            environment = (process / "environ").read_bytes()
        except OSError:
            return  # it has ended, or has made itself unreadable
        if os.fsencode(self._folder) in arguments + environment:
            self.arguments.add(arguments.replace(b"\0", b" "))
            self.environments.add(environment.replace(b"\0", b" "))

    def _read(self, pattern: str) -> Iterable[tuple[Path, bytes]]:
        for path in self._folder.glob(pattern):
            try:
                yield path, path.read_bytes()
            except OSError:
                continue

    def findings(self, secrets: Iterable[bytes]) -> list[str]:
        """Where one of these was seen, which is not shown again."""
        found = []
        texts = [("arguments", self.arguments), ("environment", self.environments)]
        texts += [(str(path), {data}) for path, data in self.logs.items()]
        for number, secret in enumerate(secrets):
            shapes = (secret, secret.hex().encode(), secret.hex().upper().encode())
            for place, seen in texts:
                if any(shape in one for one in seen for shape in shapes):
                    found.append(f"secret {number} in {place}")
        return found

"""What other programs of this machine may read of ours: arguments, environments, logs.

Data flow: /proc and log files, looked at again and again while something runs -> `Spy` -> search.
"""

import base64
import os
import re
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

_EVERY_S = 0.05
_LOOKS = 20
"""At each process: its arguments are those of its parent until it has become itself."""
_START = 19
"""Place of the start time in /proc/PID/stat, counted behind the name of the program."""
_BETWEEN = rb"(?:\\[nrt]|[^a-z])+"
"""What may stand between two words: a list's punctuation, the end of a line, written out or not."""


def shapes(secret: bytes) -> re.Pattern[bytes]:
    """Finds a secret as it is, in hex, in both kinds of base64 and as Python writes bytes; if it
    consists of words, also with anything but letters between them."""
    plain, safe = base64.b64encode(secret), base64.urlsafe_b64encode(secret)
    exact = {secret, repr(secret)[2:-1].encode(), plain.rstrip(b"="), safe.rstrip(b"=")}
    found = [re.escape(shape) for shape in sorted(exact)]
    found.append(b"(?i:%b)" % secret.hex().encode())
    if re.fullmatch(rb"[a-z]+( [a-z]+)+", secret):
        found.append(_BETWEEN.join(secret.split()))
    return re.compile(b"|".join(found))


class Spy(threading.Thread):
    """Watches every process whose arguments or environment name `folder`, and the logs in it."""

    def __init__(self, folder: Path, logs: Iterable[str], secret_files: Iterable[str] = ()) -> None:
        super().__init__(daemon=True)
        self._folder = folder
        self._logs, self._secret_files = tuple(logs), tuple(secret_files)
        self._ended = threading.Event()
        self._error: Exception | None = None
        self._looks: dict[tuple[str, bytes], int] = {}
        self._read_to: dict[tuple[Path, int], int] = {}
        self.arguments: set[bytes] = set()
        """As in /proc: a zero byte ends each."""
        self.environments: set[bytes] = set()
        self.logs: dict[Path, bytes] = {}
        self.secrets: set[bytes] = set()
        """Contents of files that nothing else may show."""

    def run(self) -> None:
        """Until `end`, which raises what went wrong."""
        try:
            while not self._ended.wait(_EVERY_S):
                self.look()
        except Exception as error:
            self._error = error

    def end(self) -> None:
        """Nothing is looked at any more. Raises what ended the watch before."""
        self._ended.set()
        self.join()
        if self._error is not None:
            raise self._error

    def look(self) -> None:
        """Once, at everything."""
        for name in filter(str.isdigit, os.listdir("/proc")):
            self._look_at(Path("/proc", name))
        for path in self._paths(self._logs):
            self._follow(path)
        for path in self._paths(self._secret_files):
            self.secrets |= {data for data in [_content(path)] if data}

    def _look_at(self, process: Path) -> None:
        fields = _content(process / "stat").rpartition(b")")[2].split()
        if len(fields) <= _START or process.name == str(os.getpid()):
            return  # it has ended
        one = process.name, fields[_START]  # numbers are given again
        self._looks[one] = self._looks.get(one, 0) + 1
        if self._looks[one] > _LOOKS:
            return
        # Apart: whoever may not read the environment of a process reads its arguments all the same.
        arguments, environment = _content(process / "cmdline"), _content(process / "environ")
        if os.fsencode(self._folder) in arguments + environment:
            self.arguments.add(arguments)
            self.environments.add(environment)

    def _follow(self, path: Path) -> None:
        """What was added since the last look; another file of this name is read from its start."""
        try:
            with path.open("rb") as file:
                stat = os.fstat(file.fileno())
                one = path, stat.st_ino
                start = self._read_to.get(one, 0)
                file.seek(start if start <= stat.st_size else 0)
                added = file.read()
                self._read_to[one] = file.tell()
        except OSError:
            return
        self.logs[path] = self.logs.get(path, b"") + added

    def _paths(self, patterns: Iterable[str]) -> Iterator[Path]:
        for pattern in patterns:
            try:
                yield from self._folder.glob(pattern)
            except OSError:
                continue  # a folder went while it was listed; the next look lists what is left

    def ran(self, flow: str) -> bool:
        """Was there a process with these words one after the other among its arguments?"""
        words = flow.encode().split()
        return any(
            words == line[at : at + len(words)]
            for line in map(_words, self.arguments)
            for at in range(len(line))
        )

    def findings(self, secrets: Iterable[bytes]) -> list[str]:
        """Where one of these was seen, which is not shown again."""
        texts = [("arguments", one) for one in self.arguments]
        texts += [("environment", one) for one in self.environments]
        texts += [(str(path), data) for path, data in self.logs.items()]
        found = {
            f"secret {number} in {place}"
            for number, shape in enumerate(map(shapes, secrets))
            for place, text in texts
            if shape.search(text)
        }
        return sorted(found)


def _words(arguments: bytes) -> list[bytes]:
    """The program and a script that it runs by their names, without their folders."""
    words = arguments.rstrip(b"\0").split(b"\0")
    return [os.path.basename(one) for one in words[:2]] + words[2:]


def _content(path: Path) -> bytes:
    """Nothing, if it has gone or is not for us."""
    try:
        return path.read_bytes()
    except OSError:
        return b""

"""A daemon that loads while its command still reads what to do: mounting waits for one of the two.

Data flow: words of `mount` -> `begin` -> child, loading -> Orders over its standard input -> the
    child serves and reports -> the command.

The child knows nothing and touches nothing before it has its orders; without them it is ended. Its
arguments are those of the command, for whoever lists processes, and are not read. The key of a
locked device file goes over the same pipe: arguments and environments can be read by others.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from threading import Lock
from typing import IO, Final

from parsec_fs.cli.words import command_word

_STAYS_HERE: Final = frozenset({"--foreground", "--service", "--help", "--ready-fd"})
"""With these `mount` starts no daemon."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Orders:
    """What a child is to serve, and how. `key`: of the device file, hex, if no file holds it."""

    home: str
    realm: str
    name: str
    place: str
    log: str
    fsync: str
    consistency: str
    cache_size: int
    allow_other: bool
    stored_owners: bool
    key: str

    def line(self) -> bytes:
        """As the child reads it."""
        return json.dumps(asdict(self)).encode() + b"\n"


class Early:
    """A child without orders. `reports`: where it says how far it is, once it has them."""

    def __init__(self, process: subprocess.Popen[bytes], reports: IO[bytes]) -> None:
        self.process = process
        self.reports = reports
        self._free = Lock()

    def take(self) -> bool:
        """True once, for the one thread that gives it orders: several may start daemons."""
        return self._free.acquire(blocking=False)

    def order(self, orders: Orders) -> None:
        """What it is to do, by whoever took it. A child that ended already says why itself."""
        assert self.process.stdin is not None
        try:
            with self.process.stdin as pipe:
                pipe.write(orders.line())
        except BrokenPipeError:
            return

    def dismiss(self) -> None:
        """End it, unless it has orders."""
        if self.take():
            self.end()

    def end(self) -> None:
        """End it, whatever it does."""
        with self.process:  # closes our end of its input, and waits
            self.process.terminate()

    def let_go(self) -> None:
        """It lives on by intent: nobody waits for it, nobody is warned."""
        self.process.returncode = 0


def begin(arguments: Sequence[str]) -> Early | None:
    """A child, if these words (hoisted) start a daemon."""
    if command_word(arguments) != "mount" or not _STAYS_HERE.isdisjoint(arguments):
        return None
    reading, writing = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-Pm", "parsec_fs.cli.served", str(writing), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        pass_fds=[writing],
        cwd="/",
    )
    os.close(writing)
    return Early(process, os.fdopen(reading, "rb"))

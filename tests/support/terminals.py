"""A person at a terminal: a command on a pseudo terminal of its own, read, answered, waited for.

Data flow: command line -> bash on a pseudo terminal -> what it shows; answers as they are typed.
"""

import fcntl
import os
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Mapping
from pathlib import Path

ROWS, COLUMNS = 50, 1000
"""Wide enough that nothing is wrapped."""


class TerminalError(Exception):
    """It did not show what was waited for, or did not end."""


class Terminal:
    """One command, as a person types it into a shell. It has no controlling terminal, so nothing of
    it reaches the terminal on which this program runs."""

    def __init__(self, command: str, *, environment: Mapping[str, str], folder: Path) -> None:
        self.command = command
        self._shown = b""
        self._read_up_to = 0
        self._master, slave = os.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        try:
            self._process = subprocess.Popen(
                ["bash", "-c", command],
                stdin=slave,
                stdout=slave,
                stderr=slave,
                env=dict(environment),
                cwd=folder,
                start_new_session=True,
            )
        finally:
            os.close(slave)

    @property
    def text(self) -> str:
        """All that stands on the screen, answers included; progress that was erased is gone."""
        text = self._shown.decode(errors="replace")
        lines = [line.rstrip("\r").rpartition("\x1b[K")[2] for line in text.split("\n")]
        return "\n".join(lines).rstrip("\n")

    def expect(self, pattern: str, timeout_s: float) -> re.Match[str]:
        """The next place that matches, behind all that was matched before. Raises TerminalError."""
        deadline = time.monotonic() + timeout_s
        while True:
            text = self._shown.decode(errors="replace")
            found = re.compile(pattern).search(text, self._read_up_to)
            if found is not None:
                self._read_up_to = found.end()
                return found
            if not self._read(deadline):
                raise TerminalError(f"never showed {pattern!r}, but:\n{self.text}")

    def type(self, line: str) -> None:
        """A line, with Enter."""
        os.write(self._master, line.encode() + b"\n")

    def interrupt(self) -> None:
        """Ctrl-C."""
        os.killpg(self._process.pid, signal.SIGINT)

    def end(self, timeout_s: float) -> int:
        """Exit code, once it has ended by itself. Raises TerminalError."""
        deadline = time.monotonic() + timeout_s
        while self._read(deadline):
            pass
        try:
            code = self._process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            shown = self.text
            self.kill()
            raise TerminalError(f"did not end in {timeout_s} s; it shows:\n{shown}") from None
        self.kill()
        return code

    def kill(self) -> None:
        """End it with all that it started in this terminal, if it has not ended."""
        if self._process.returncode is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        if self._master >= 0:
            os.close(self._master)
            self._master = -1

    def _read(self, deadline: float) -> bool:
        """More of what it shows; False at its end, or at the deadline."""
        left = deadline - time.monotonic()
        ready, _, _ = select.select([self._master], [], [], max(0.0, left))
        if not ready:
            return False
        try:
            more = os.read(self._master, 65536)
        except OSError:
            return False  # EIO: nobody has the other end open any more
        self._shown += more
        return bool(more)

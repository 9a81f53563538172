"""What commands print: text for people, JSON for programs, progress only on a terminal.

Data flow: command -> result and progress -> stdout, stderr.

Results go to stdout, everything else to stderr, so that output can be piped. With --json exactly
one JSON document is printed, also for an error. Fields are only ever added. What a terminal would
obey is escaped here for all commands (JSON does so itself).
"""

import json
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from parsec_fs.cli.exit_codes import ExitCode
from parsec_fs.plain_text import plain, plain_lines

Json = dict[str, Any]
_PLAIN_EVERY_S: Final = 5.0


@dataclass(slots=True, kw_only=True)
class Output:
    """Where a command's words go. A command that has answered and then fails (a convicted server)
    says why on stderr: there is never a second document."""

    json: bool = False
    quiet: bool = False
    verbose: bool = False
    _answered: bool = field(default=False, repr=False)
    _shown: str = field(default="", repr=False)
    _shown_at: float = field(default=0.0, repr=False)

    def result(self, document: Json, lines: Iterable[str]) -> None:
        """What the command is about: the document, or the lines that say the same."""
        self.clear()
        if self.json:
            print(json.dumps(document, indent=2))
            self._answered = True
        elif not self.quiet:
            for line in lines:
                print(plain_lines(line))

    def note(self, text: str) -> None:
        """Beside the result."""
        self.clear()
        if not (self.quiet or self.json):
            print(plain_lines(text), file=sys.stderr)

    def important(self, text: str) -> None:
        """What somebody must see now, whatever else is not to be shown."""
        self.clear()
        print(plain_lines(text), file=sys.stderr, flush=True)

    def error(self, message: str, code: ExitCode) -> None:
        """Why it failed, and what to type next."""
        self.clear()
        if self.json and not self._answered:
            print(json.dumps({"error": message, "exit": int(code)}))
        else:
            print(f"parsec-fs: {plain_lines(message)}", file=sys.stderr)

    def progress(self, text: str) -> None:
        """Replaces the line before on a terminal; elsewhere a plain line now and then."""
        if self.quiet or self.json:
            return
        if sys.stderr.isatty():
            print(f"\r\x1b[K{plain(text)}", end="", file=sys.stderr, flush=True)
            self._shown = text
        elif text != self._shown and time.monotonic() > self._shown_at + _PLAIN_EVERY_S:
            print(plain(text), file=sys.stderr, flush=True)
            self._shown, self._shown_at = text, time.monotonic()

    def clear(self) -> None:
        """Remove what `progress` left on the terminal."""
        if self._shown and sys.stderr.isatty():
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
        self._shown = ""


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns as wide as their widest cell, two spaces between, nothing at the end of lines."""
    widths = [max(len(row[index]) for row in [header, *rows]) for index in range(len(header))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in [header, *rows]
    ]


def size_text(size: int) -> str:
    """12 B, 48 KiB, 1.5 GiB."""
    amount = float(size)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" or amount >= 10 else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"


def count_text(count: int, noun: str) -> str:
    """1 change, 2 changes."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"

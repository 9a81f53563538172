"""How the daemon writes its log: one line a message, nothing that rewrites a terminal.

Data flow: logging -> `PlainFormatter` -> the daemon's log file.
"""

import logging

from parsec_fs.plain_text import plain, plain_lines


class PlainFormatter(logging.Formatter):
    """A log message is one line; only the traceback below it may have more."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (logging's name)
        """The message line, escaped."""
        return plain(super().formatMessage(record))

    def format(self, record: logging.LogRecord) -> str:
        """The message and its traceback, escaped."""
        return plain_lines(super().format(record))

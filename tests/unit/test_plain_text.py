"""Hostile names reach neither a terminal nor a log as they are.

Data flow: names with control characters -> plain_text, Output, log handler -> printable text.
"""

import io
import logging

import pytest

from parsec_fs.cli.exit_codes import ExitCode
from parsec_fs.cli.log_format import PlainFormatter
from parsec_fs.cli.output import Output
from parsec_fs.plain_text import plain, plain_lines, plain_name

HOSTILE = "eve\x1b[2K\r\u202egpj\x9b31m"
SHOWN = "eve\\x1b[2K\\r\\u202egpj\\x9b31m"


def test_ordinary_names_stay_as_they_are() -> None:
    for name in ("laptop of Zo\u00eb", "\u96fb\u8166", "a\\b 'c' \"d\""):
        assert plain(name) == plain_name(name.encode()) == name


def test_what_a_terminal_obeys_is_escaped() -> None:
    assert plain(HOSTILE) == SHOWN
    assert plain_name(b"two\nlines\xff") == "two\\nlines\\xff"
    assert plain_lines(f"one\n{HOSTILE}") == f"one\n{SHOWN}"
    assert all(plain(chr(one)).isprintable() for one in range(0x3000))


def test_commands_print_nothing_that_a_terminal_obeys(capsys: pytest.CaptureFixture[str]) -> None:
    output = Output()
    output.result({}, [HOSTILE])
    output.note(HOSTILE)
    output.error(HOSTILE, ExitCode.BUSY)
    output.progress(HOSTILE)
    shown = capsys.readouterr()
    assert shown.out == f"{SHOWN}\n"
    assert shown.err.splitlines() == [SHOWN, f"parsec-fs: {SHOWN}", SHOWN]


def test_a_name_adds_no_line_to_a_log() -> None:
    log, stream = logging.Logger("test"), io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(PlainFormatter("%(levelname)s %(message)s"))
    log.addHandler(handler)
    log.error("device %s", f"x\nINFO all is well {HOSTILE}")
    assert stream.getvalue() == f"ERROR device x\\nINFO all is well {SHOWN}\n"
    try:
        raise ValueError(HOSTILE)
    except ValueError:
        log.exception("failed")
    assert stream.getvalue().endswith(f"ValueError: {SHOWN}\n")
    assert "\x1b" not in stream.getvalue()

"""Hostile names reach neither a terminal nor a log as they are.

Data flow: names with control characters -> plain_text, Output, log handler -> printable text.
"""

import base64
import io
import json
import logging
import re
from pathlib import Path

import pytest

import parsec_fs
from parsec_fs.cli.exit_codes import ExitCode
from parsec_fs.cli.log_format import PlainFormatter
from parsec_fs.cli.organization import chain_anchor
from parsec_fs.cli.output import Output
from parsec_fs.directory import Workspace, matching
from parsec_fs.plain_text import plain, plain_lines, plain_name
from parsec_fs.protocol.commands import ServerInfo
from parsec_fs.protocol.errors import DataError
from parsec_fs.protocol.ids import RealmId
from tests.support.servers import FakePublisher

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


READS_TEXT = {
    "parsec_fs/cli/background.py": "the last lines of our own log",
    "parsec_fs/cli/organization.py": "a token, which is never shown",
    "parsec_fs/mount/runner.py": "the kernel's table of mounts",
    "parsec_fs/remote/bounded.py": "lines of events, which are parsed",
    "parsec_fs/plain_text.py": "the one place",
}


def test_no_other_place_makes_text_of_unchecked_names() -> None:
    """Bytes that others chose become text by `plain_name`, wherever they are shown: one that gives
    what is not text a shape of its own shows control characters and newlines as they are."""
    root = Path(parsec_fs.__file__).parent.parent
    found = {
        str(path.relative_to(root))
        for path in (root / "parsec_fs").rglob("*.py")
        if re.search(r"errors=[\"'](replace|backslashreplace|ignore|surrogate)", path.read_text())
    }
    # A name is compared with what a person typed, which is not shown.
    assert found - {"parsec_fs/directory.py"} == set(READS_TEXT)


def test_a_workspace_with_a_hostile_name_is_shown_and_found() -> None:
    workspace = Workspace(realm=RealmId(bytes(32)), name=HOSTILE.encode() + b"\xff\n")
    assert workspace.title == SHOWN + "\\xff\\n"
    typed = HOSTILE + "\udcff\n"
    assert matching((workspace,), workspace.title) == matching((workspace,), typed) == [workspace]


def test_another_chain_of_a_hostile_server_is_shown_escaped() -> None:
    key = {"type": "tendermint/PubKeyEd25519", "value": base64.b64encode(bytes(32)).decode()}
    validators = [{"pub_key": key, "power": "10"}]
    genesis = json.dumps({"chain_id": HOSTILE, "validators": validators}).encode()
    info = ServerInfo(registration=FakePublisher().registration, chain_id=b"ours\x1b", time_ms=0)
    with pytest.raises(DataError) as caught:
        chain_anchor(genesis, info)
    assert SHOWN in str(caught.value)
    assert "ours\\x1b" in str(caught.value)


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

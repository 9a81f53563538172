"""Commands about invitations where no server answers: which one goes on, and what is refused.

Data flow: files of greetings -> `parsec-fs user ...` in this process -> exit codes, files.
"""

import io
import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from parsec_fs.cli.main import main
from parsec_fs.config import Home
from parsec_fs.device_file import DeviceFile
from parsec_fs.greeting import DEVICE, format_link
from parsec_fs.pending import GreetingFiles, Joining, JoiningFile
from parsec_fs.person_joining import new_joining
from tests.support.greetings import (
    person_invitation,
    sealed_device_greeting,
    sealed_greeting,
    until_request,
)
from tests.support.identities import founded

IDENTITY = founded()[1]
BOB = sealed_greeting(person_invitation(IDENTITY, "bob"), secret=b"b" * 16)
CAROL = sealed_greeting(person_invitation(IDENTITY, "carol"), secret=b"c" * 16)


class Shell:
    """One person's terminal without a terminal: input comes from a pipe."""

    def __init__(
        self, home: Home, patch: pytest.MonkeyPatch, capture: pytest.CaptureFixture[str]
    ) -> None:
        self.home = home
        self._patch = patch
        self._capture = capture

    def run(self, *words: str, stdin: str = "", group: str = "user") -> tuple[int, str]:
        """Exit code of `parsec-fs user`, or of another group, and all that it said."""
        arguments = ["parsec-fs", "--home", str(self.home.root), group, *words]
        self._patch.setattr(sys, "argv", arguments)
        self._patch.setattr(sys, "stdin", io.StringIO(stdin))
        with pytest.raises(SystemExit) as ended:
            main()
        code = ended.value.code
        assert code is None or isinstance(code, int)
        shown = self._capture.readouterr()
        return code or 0, shown.out + shown.err


@pytest.fixture
def shell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Shell:
    return Shell(Home(root=tmp_path), monkeypatch, capsys)


def test_an_invitation_in_use_is_not_cancelled(shell: Shell) -> None:
    DeviceFile(shell.home.device).create(IDENTITY, random=os.urandom)
    files = GreetingFiles(shell.home.invitations, IDENTITY.secrets.local_key)
    files.save(BOB)
    with files.using(BOB):
        code, text = shell.run("cancel", "bob")
        assert (code, f"in use already by process {os.getpid()}" in text) == (11, True)
        assert "Nothing was changed" in text
        assert "waiting" in shell.run("invitations")[1]
    code, text = shell.run("cancel", "bob@acme.example")
    assert (code, text.splitlines()[0]) == (0, "The invitation of bob is cancelled.")
    assert "could not be told: if bob waits, they go on waiting" in text
    assert shell.run("cancel", "bob")[0] == 10
    assert list(shell.home.invitations.iterdir()) == []


def begun(shell: Shell, *, sent: bool = False) -> Joining:
    """Bob's join was interrupted."""
    joining = new_joining(BOB.link(), "tablet")
    if sent:
        joining = until_request(BOB, joining)[1]
    JoiningFile(shell.home.device).save(joining)
    return joining


@pytest.mark.parametrize("sent", [False, True])
def test_a_join_that_was_begun_does_not_win_over_another_link(shell: Shell, sent: bool) -> None:
    joining, file = begun(shell, sent=sent), JoiningFile(shell.home.device)
    link = format_link(CAROL.link())
    code, text = shell.run("join", stdin=link + "\n")
    assert (code, "user join --instead" in text) == (11, True)
    assert ("may be in that organization already" in text) == sent
    assert file.load() == joining

    code, _ = shell.run("join", "--instead", stdin=link + "\n")
    begun_anew = file.load()
    assert begun_anew is not None
    assert (code, begun_anew.link()) == (20, CAROL.link())


@pytest.mark.parametrize("line", ["\n", format_link(BOB.link()) + "\n"])
def test_a_join_goes_on_with_its_link_or_an_empty_line(shell: Shell, line: str) -> None:
    joining = begun(shell)
    assert shell.run("join", stdin=line)[0] == 20
    assert JoiningFile(shell.home.device).load() == joining


def test_a_device_and_a_person_do_not_join_from_one_folder(shell: Shell) -> None:
    joining, file = begun(shell, sent=True), JoiningFile(shell.home.device)
    code, text = shell.run("join", stdin="\n", group="device")
    assert (code, "Go on with that one: parsec-fs user join" in text) == (11, True)
    assert file.load() == joining
    device = format_link(replace(BOB.link(), kind=DEVICE))
    code, text = shell.run("join", "--instead", stdin=device + "\n")
    assert (code, "Type: parsec-fs device join" in text) == (2, True)
    assert file.load() == joining

    code, text = shell.run("join", "--instead", stdin=device + "\n", group="device")
    anew = file.load()
    assert anew is not None
    assert (code, anew.kind, anew.secrets.user_keys) == (20, DEVICE, ())
    assert shell.run("join", stdin="\n", group="device")[0] == 20
    assert file.load() == anew
    code, text = shell.run("join", stdin="\n")
    assert (code, "Go on with that one: parsec-fs device join" in text) == (11, True)


def test_the_invitation_of_a_device_is_cancelled_and_no_other(shell: Shell) -> None:
    DeviceFile(shell.home.device).create(IDENTITY, random=os.urandom)
    files = GreetingFiles(shell.home.invitations, IDENTITY.secrets.local_key)
    device = sealed_device_greeting(IDENTITY)
    for one in (BOB, device):
        files.save(one)
    assert "bob" in shell.run("invitations")[1]
    with files.using(device):
        assert shell.run("cancel", group="device")[0] == 11
    code, text = shell.run("cancel", group="device")
    assert (code, "is cancelled" in text, "could not be told" in text) == (0, True, True)
    assert files.all(0) == [BOB]
    code, text = shell.run("cancel", group="device")
    assert (code, "no device is invited here" in text) == (10, True)


def test_two_joins_from_one_folder_are_refused(shell: Shell) -> None:
    joining, file = begun(shell), JoiningFile(shell.home.device)
    with file.alone():
        code, text = shell.run("join", stdin="\n")
    assert (code, "in use already by process" in text) == (11, True)
    assert file.load() == joining

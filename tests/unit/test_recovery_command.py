"""What `parsec-fs recovery` prints and reads, beside what the server says.

Data flow: kit -> words on stdout; lines on stdin -> yes, kit, or an error that shows no word.
"""

import io
import json
from pathlib import Path

import pytest

from parsec_fs.cli import recovery
from parsec_fs.cli.exit_codes import CommandError, ExitCode
from parsec_fs.cli.hints import NO_KIT
from parsec_fs.cli.main import main
from parsec_fs.cli.output import Output
from parsec_fs.cli.status import _lines
from parsec_fs.people import name_and_address
from parsec_fs.recovery import Kit
from parsec_fs.recovery_words import kit_words
from tests.support.colleagues import member
from tests.support.honest_logs import HonestOrg

KIT = Kit(secret=bytes(range(16)), digest=bytes(range(16, 32)))
WORDS = kit_words(KIT)


def typed(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(text))


def command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], home: Path, *words: str
) -> tuple[object, str, str]:
    """Exit code, stdout, stderr."""
    monkeypatch.setattr("sys.argv", ["parsec-fs", "--home", str(home), *words])
    with pytest.raises(SystemExit) as caught:
        main()
    shown = capsys.readouterr()
    return caught.value.code, shown.out, shown.err


def test_all_words_are_shown_with_the_server(capsys: pytest.CaptureFixture[str]) -> None:
    recovery._show_parts(Output(quiet=True), "https://files.acme.example", [WORDS], 0)
    shown = capsys.readouterr().out
    for place, word in enumerate(WORDS, start=1):
        assert f"{place} {word}" in shown
    assert "recovery use --server https://files.acme.example" in shown


def test_three_of_the_words_are_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[list[str]] = []

    class Person(io.StringIO):
        """Reads the question, then the paper."""

        def readline(self, size: int | None = -1, /) -> str:
            question = capsys.readouterr().err
            places = [int(one) for one in question.split("words ")[1].split(",")[:3]]
            asked.append([WORDS[place - 1] for place in places])
            return " ".join(asked[-1]).upper() + "\n"

    monkeypatch.setattr("sys.stdin", Person())
    assert all(recovery._types_back(Output(quiet=True), [WORDS]) for _ in range(5))
    assert len({tuple(one) for one in asked}) > 1
    for wrong in ("", "\n", f"{WORDS[0]} zzz {WORDS[1]}\n"):
        typed(monkeypatch, wrong)
        assert not recovery._types_back(Output(quiet=True), [WORDS])


def test_misread_words_show_no_word_and_ask_no_server(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    typed(monkeypatch, " ".join((*WORDS[:-1], "zebra")))
    server = "http://127.0.0.1:1"  # nobody is there
    code, out, err = command(
        monkeypatch, capsys, tmp_path, "recovery", "use", "--server", server, "--json"
    )
    assert code == ExitCode.WRONG_SECRET
    assert "Nothing was asked" in json.loads(out)["error"]
    assert not {"zebra", *WORDS} & set((out + err).split())
    assert list(tmp_path.iterdir()) == []


def test_what_is_missing_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code, _, err = command(monkeypatch, capsys, tmp_path, "recovery", "drill")
    assert (code, "--server URL" in err) == (ExitCode.USAGE, True)
    for wrong in ("2", "2/x", "/", "two/3"):
        with pytest.raises(CommandError, match="--shares 2/3"):
            recovery._parse_shares(wrong)


@pytest.mark.parametrize(("kits", "hint"), [([], True), (["recovery kit 2026-01-01"], False)])
def test_status_says_while_there_is_no_kit(kits: list[str], hint: bool) -> None:
    document = {
        "name": "docs",
        "mountpoint": "/docs",
        "recovery": kits,
        "state": {"word": "verified", "notes": [], "epochs": 0},
        "changes": {"local": 0, "logged": 0, "anchored": 0, "audited": 0, "pending_bytes": 0},
    }
    assert (NO_KIT in _lines([document, document])) == hint
    assert "parsec-fs recovery create" in NO_KIT


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (" ".join((*WORDS[:-1], "zoo")).encode(), "Nothing was asked or sent"),
        (b"\xff\x00 a sealed share", "recovery share show --output FILE"),
    ],
)
def test_files_of_words_are_read_like_what_is_typed(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    data: bytes,
    says: str,
) -> None:
    file = tmp_path / "share"
    file.write_bytes(data)
    asked = ("recovery", "drill", "--server", "http://127.0.0.1:9", "--share", str(file))
    code, _, error = command(monkeypatch, capsys, tmp_path / "home", *asked)
    assert (code, says in error) == (ExitCode.WRONG_SECRET, True)
    assert not any(word in error.split() for word in WORDS[:-1])
    usage = ("recovery", "create", "--shares", "2/3", "--to", "bob")
    assert command(monkeypatch, capsys, tmp_path / "home", *usage)[0] == ExitCode.USAGE


@pytest.mark.parametrize(
    "asked",
    [
        ("--folder", "shares"),
        ("--shares", "2/3", "--folder", "shares"),
        ("--shares", "2/2", "--to", "bob", "--to", "carol", "--no-check"),
    ],
)
def test_an_option_that_would_do_nothing_is_refused(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    asked: tuple[str, ...],
) -> None:
    code, _, error = command(monkeypatch, capsys, tmp_path, "recovery", "create", *asked)
    assert code == ExitCode.USAGE
    assert f"{asked[-1] if asked[-1] == '--no-check' else '--folder'} " in error


def test_each_file_for_a_colleague_is_shown_with_name_and_address() -> None:
    """Two colleagues can have one name, and a file says no more of it than that."""
    org = HonestOrg()
    members = [member(org), member(org)]
    people = [org.state.users[one.user] for one in members]
    files = [Path("share-1.share"), Path("share-2.share")]
    lines = recovery._handing_over("recovery kit", files, people, 2)
    for line, file, one in zip(lines[1:3], files, people, strict=True):
        assert line == f"  {file}  {name_and_address(one)}"
    handed = recovery._once(files, people, {})["shares"]
    assert [one["file"] for one in handed] == [str(one) for one in files]

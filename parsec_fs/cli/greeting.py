"""What invitations of persons and of devices have in common on a terminal.

Data flow: standard input -> link, codes -> both sides of a greeting -> codes to read out.

Links are never arguments: other users of the machine can read those.
"""

import json
import os
import sys
from collections.abc import Callable

import typer

from parsec_fs.cli.exit_codes import CommandError, ExitCode
from parsec_fs.cli.output import Output
from parsec_fs.cli.settings import Settings, check_no_device
from parsec_fs.conversation import wall_ms
from parsec_fs.greeting import PERSON, WORDS, Link, choices, format_link, parse_link
from parsec_fs.pending import Greeting, Joining, JoiningFile


class AtThisSide:
    """The person at this terminal; `other` is who the codes are exchanged with. Where that is
    another screen of the same person (`screen`), nothing is read aloud."""

    def __init__(self, output: Output, other: str, *, screen: bool = False) -> None:
        self._output = output
        self._screen = screen
        self.other = other

    def reads_out(self, code: str) -> None:
        """On standard error, whatever is not to be shown: without it nobody gets on."""
        what = "Pick this code on" if self._screen else "Read this code to"
        self._output.important(f"{what} {self.other}: {code}")
        self._output.progress(f"waiting for {self.other}")

    async def recognizes(self, code: str) -> bool:
        """One of three on a terminal; else the code that was heard, on standard input."""
        self._output.clear()
        same = self._ask(code)
        self._output.progress(f"waiting for {self.other}")
        return same

    def _ask(self, code: str) -> bool:
        if not sys.stdin.isatty():
            return "".join(sys.stdin.readline().split()).upper() == code
        shown = choices(code, os.urandom)
        numbered = "  ".join(f"[{place}] {one}" for place, one in enumerate(shown, start=1))
        how = "shows a code" if self._screen else "reads you a code"
        typer.echo(f"{self.other} {how}. Which one?  {numbered}  [0] none", err=True)
        try:
            picked: int = typer.prompt("Number", type=int, err=True)
        except typer.Abort as error:
            raise KeyboardInterrupt from error  # Ctrl-C at a question is no other than elsewhere
        return 0 < picked <= len(shown) and shown[picked - 1] == code


def show_link(output: Output, greeting: Greeting) -> None:
    """A program that reads this line can hand it on before the command ends."""
    link = format_link(greeting.link())
    print(json.dumps({"link": link}) if output.json else link, flush=True)


def hours_left(expires_ms: int) -> int:
    """Rounded up."""
    return max(0, -(-(expires_ms - wall_ms()) // 3_600_000))


def begin(
    settings: Settings, kind: int, new: Callable[[Link], Joining], *, instead: bool
) -> JoiningFile:
    """The file of a join that goes on, or begins with the link on standard input. Raises
    InputError, CommandError, LockedError, DeviceFileError."""
    check_no_device(settings)
    file = JoiningFile(settings.home.device)
    with file.alone():
        file.save(_begun(file.load(), settings.output, kind, new, instead))
    return file


def _begun(
    before: Joining | None, output: Output, kind: int, new: Callable[[Link], Joining], instead: bool
) -> Joining:
    """What was begun before if the link is that one or the line is empty, else something new; never
    the one in place of the other without being told. Raises InputError, CommandError."""
    if before is not None and before.kind != kind and not instead:
        raise CommandError(ExitCode.BUSY, _another_link(before, kind))
    same_kind = before is not None and before.kind == kind
    if sys.stdin.isatty():
        sent = "The link that you were sent" if kind == PERSON else "The link of your other device"
        more = " (Enter: go on with the one of before)" if same_kind else ""
        output.important(f"{sent}{more}:")
    line = sys.stdin.readline(4096)
    if before is None:
        return new(parse_link(line, kind=kind))
    if same_kind and not line.strip():
        return before
    link = parse_link(line, kind=kind)
    if link == before.link():
        return before
    if not instead:
        raise CommandError(ExitCode.BUSY, _another_link(before, kind))
    return new(link)


def _another_link(before: Joining, kind: int) -> str:
    warning = (
        "Its keys were sent, so you may be in that organization already, and they are lost then. "
        if before.has_request()
        else ""
    )
    return (
        "a join with another link was begun here; nothing was changed. Go on with that one: "
        f"{WORDS[before.kind].join}, and Enter in place of a link. Give it up for this link: "
        f"{WORDS[kind].join} --instead. {warning}".rstrip()
    )

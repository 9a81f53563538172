"""The commands of parsec-fs and the options of all of them.

Data flow: words -> common options -> one command -> stdout; errors -> one line and an exit code.

Only the module of the command that is run is imported: `status` does not wait for the daemon's
libraries. Help and completion load them all.
"""

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Annotated, Final

import typer

from parsec_fs import __version__
from parsec_fs.cli.early import Early
from parsec_fs.cli.exit_codes import CommandError, ExitCode, exit_code, first_cause
from parsec_fs.cli.output import Output
from parsec_fs.cli.settings import Settings
from parsec_fs.cli.unlocking import Unlocking
from parsec_fs.cli.words import command_word
from parsec_fs.config import HOME_VARIABLE, home_of
from parsec_fs.control import CommandFailedError
from parsec_fs.protocol.errors import ParsecFSError

_PACKAGE: Final = "parsec_fs.cli."
_COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "mount": ("mount", "Daily"),
    "umount": ("mount", "Daily"),
    "status": ("status", "Daily"),
    "wait": ("status", "Daily"),
    "export": ("export", "Daily"),
    "fsck": ("fsck", "Daily"),
    "members": ("sharing", "People"),
    "unlock": ("session", "Daily"),
    "lock": ("session", "Daily"),
    "agent": ("session", "Daily"),
    "log": ("history", "History"),
    "verify": ("history", "Trust"),
    "audit": ("auditing", "Trust"),
    "proof": ("history", "Trust"),
}
"""Command -> module that defines it, and panel of the help."""
_GROUPS: Final[dict[str, tuple[str, str]]] = {
    "workspace": ("workspace", "Daily"),
    "user": ("user", "People"),
    "device": ("device", "People"),
    "recovery": ("recovery", "People"),
    "org": ("organization", "People"),
    "trust": ("trust", "Trust"),
    "conflicts": ("conflicts", "Daily"),
}

_output = Output()
"""What errors are shown with; the main callback sets its options."""


def build(word: str | None) -> typer.Typer:
    """The parser with one command or group, or with all if `word` is neither."""
    app = typer.Typer(
        name="parsec-fs",
        help="A shared folder, end-to-end encrypted, whose history every member can verify.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
    )
    app.callback(epilog="These options may also stand after the command.")(common)
    everything = word not in _COMMANDS and word not in _GROUPS
    for name, (module, panel) in _COMMANDS.items():
        if everything or name == word:
            function = getattr(import_module(_PACKAGE + module), name)
            app.command(name, rich_help_panel=panel, hidden=name == "agent")(function)
    for name, (module, panel) in _GROUPS.items():
        if everything or name == word:
            group = import_module(_PACKAGE + module).app
            app.add_typer(group, name=name, rich_help_panel=panel)
    return app


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"parsec-fs {__version__}")
        raise typer.Exit


def common(
    context: typer.Context,
    home: Annotated[
        Path | None, typer.Option(help=f"State folder; default: ${HOME_VARIABLE}, else your own.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Print ids as well.")] = False,
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the passphrase from standard input.")
    ] = False,
    password_command: Annotated[
        str, typer.Option(help="Program that prints the passphrase, run without a shell.")
    ] = "",
    version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=_show_version, help="Print the version, and end."
        ),
    ] = False,
) -> None:
    """A shared folder, end-to-end encrypted, whose history every member can verify."""
    _output.json, _output.quiet, _output.verbose = as_json, quiet, verbose
    chosen = home_of(home, os.environ, working_directory=Path.cwd())
    unlocking = Unlocking(
        home=chosen,
        output=_output,
        environment=os.environ,
        from_stdin=password_stdin,
        command=password_command,
    )
    context.obj = Settings(
        home=chosen, output=_output, unlocking=unlocking, early=context.find_object(Early)
    )


def run(arguments: Sequence[str], early: Early | None) -> None:
    """Expected errors become one line and their exit code."""
    try:
        build(command_word(arguments))(args=list(arguments), obj=early)
    except (ParsecFSError, TimeoutError, KeyboardInterrupt, BaseExceptionGroup) as error:
        sys.exit(_report(first_cause(error)))


def _report(error: BaseException) -> int:
    if isinstance(error, CommandFailedError):
        _output.error(str(error), ExitCode(error.exit))
        return error.exit
    if not isinstance(error, (ParsecFSError, TimeoutError, KeyboardInterrupt)):
        raise error
    code = exit_code(error)
    text = str(error) or ("interrupted" if code == ExitCode.INTERRUPTED else "took too long")
    if code == ExitCode.TAMPERED and not isinstance(error, CommandError):
        text = f"verification failed: {text}"
    _output.error(text, code)
    return int(code)

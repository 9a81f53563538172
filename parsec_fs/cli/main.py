"""parsec-fs: the command line of a device.

Data flow: argv -> common options -> one command -> stdout; errors -> one line and an exit code.
"""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from parsec_fs.cli import device, history, mount, organization, status, workspace
from parsec_fs.cli.exit_codes import CommandError, ExitCode, exit_code, first_cause
from parsec_fs.cli.output import Output
from parsec_fs.cli.settings import Settings, hoist
from parsec_fs.config import HOME_VARIABLE, home_of
from parsec_fs.control import CommandFailedError
from parsec_fs.protocol.errors import ParsecFSError

app = typer.Typer(
    name="parsec-fs",
    help="A shared folder, end-to-end encrypted, whose history every member can verify.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.add_typer(organization.app, name="org", rich_help_panel="People")
app.add_typer(device.app, name="device", rich_help_panel="People")
app.add_typer(workspace.app, name="workspace", rich_help_panel="Daily")
for command, panel in (
    (mount.mount, "Daily"),
    (mount.umount, "Daily"),
    (status.status, "Daily"),
    (status.wait, "Daily"),
    (history.log, "History"),
    (history.verify, "Trust"),
    (history.proof, "Trust"),
):
    app.command(rich_help_panel=panel)(command)

_output = Output()
"""What errors are shown with; the main callback replaces its options."""


@app.callback(epilog="These options may also stand after the command.")
def common(
    context: typer.Context,
    home: Annotated[
        Path | None, typer.Option(help=f"State folder; default: ${HOME_VARIABLE}, else your own.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Print ids as well.")] = False,
) -> None:
    """A shared folder, end-to-end encrypted, whose history every member can verify."""
    _output.json, _output.quiet, _output.verbose = as_json, quiet, verbose
    chosen = home_of(home, os.environ, working_directory=Path.cwd())
    context.obj = Settings(home=chosen, output=_output)


def main() -> None:
    """Entry point: expected errors become one line and their exit code."""
    try:
        app(args=hoist(sys.argv[1:]))
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

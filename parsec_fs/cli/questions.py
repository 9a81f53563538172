"""Questions before what cannot be undone.

Data flow: command -> question on the terminal -> goes on, or an error that says nothing was done.
"""

import sys

import typer

from parsec_fs.cli.exit_codes import CommandError, ExitCode


def confirm_or_stop(question: str) -> None:
    """Returns if the person says yes. Raises CommandError, also where there is nobody to ask."""
    if not sys.stdin.isatty():
        raise CommandError(ExitCode.USAGE, f"nothing was done: {question} To say yes: --yes")
    if not typer.confirm(question, err=True):
        raise CommandError(ExitCode.FAILED, "nothing was done")

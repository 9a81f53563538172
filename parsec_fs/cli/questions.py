"""Questions before what cannot be undone.

Data flow: command -> question on the terminal -> goes on, or an error that says nothing was done.

Questions are asked on the main thread, also where an event loop runs on it: nothing else has to go
on while a person thinks, and Ctrl-C ends the command at once. In a thread it would wait for Enter.
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


def confirm_once(question: str, yes: bool, again: bool) -> None:
    """Before somebody is revoked. `yes`: said already; it is not believed if one of the same name
    was revoked before (`again`), for then it may be meant for that one. Raises CommandError."""
    if yes and again:
        raise CommandError(
            ExitCode.USAGE,
            f"nothing was done: one of this name is revoked already. {question} If this one is "
            "meant too, give the id, or leave --yes out",
        )
    if not yes:
        confirm_or_stop("One of this name is revoked already. " * again + question)

"""Options that every command takes, at any place of the command line.

Data flow: argv -> `hoist` -> main callback -> Settings in the context -> commands.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import typer

from parsec_fs.cli.exit_codes import CommandError, ExitCode
from parsec_fs.cli.output import Output
from parsec_fs.cli.unlocking import Unlocking
from parsec_fs.config import Home
from parsec_fs.device_file import DeviceFile

_FLAGS: Final = frozenset({"--json", "-q", "--quiet", "-v", "--verbose", "--password-stdin"})
COMMON_VALUES: Final = frozenset({"--home", "--password-command"})
"""Common options that are followed by a value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """State folder and output of this run, and what unlocks the device's keys."""

    home: Home
    output: Output
    unlocking: Unlocking

    def device_file(self) -> DeviceFile:
        """This device's keys."""
        return DeviceFile(self.home.device, self.unlocking)


def settings_of(context: typer.Context) -> Settings:
    """What the main callback made of the common options."""
    settings = context.find_object(Settings)
    assert settings is not None
    return settings


def check_no_device(settings: Settings) -> None:
    """No device lives in this state folder. Raises CommandError."""
    if settings.device_file().exists():
        raise CommandError(
            ExitCode.BUSY, f"{settings.home.device} has a device already; for another: --home DIR"
        )


def check_free(settings: Settings) -> None:
    """This state folder is free for a new device. Raises CommandError.

    Keys of an invitation that is being accepted here count: the organization may hold them already,
    and a device file in their place would take the only copy away."""
    check_no_device(settings)
    if settings.device_file().joining_path.exists():
        raise CommandError(
            ExitCode.BUSY,
            f"an invitation is being accepted in {settings.home.device}: go on with it, "
            "parsec-fs user join, or use another folder: --home DIR",
        )


def hoist(arguments: Sequence[str]) -> list[str]:
    """The common options moved before the command, where the parser expects them: people write
    them at the end. What stands after `--` is left alone."""
    common: list[str] = []
    rest: list[str] = []
    remaining = list(arguments)
    while remaining:
        word = remaining.pop(0)
        if word == "--":
            return [*common, *rest, word, *remaining]
        if word in _FLAGS or (word.split("=")[0] in COMMON_VALUES and "=" in word):
            common.append(word)
        elif word in COMMON_VALUES and remaining:
            common += [word, remaining.pop(0)]
        else:
            rest.append(word)
    return common + rest

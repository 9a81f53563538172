"""What the options that every command takes come to.

Data flow: argv -> common options -> Settings in the context -> commands.
"""

from dataclasses import dataclass

import typer

from parsec_fs.cli.early import Early
from parsec_fs.cli.exit_codes import CommandError, ExitCode
from parsec_fs.cli.output import Output
from parsec_fs.cli.unlocking import Unlocking
from parsec_fs.config import Home
from parsec_fs.device_file import DeviceFile


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """State folder and output of this run, what unlocks the device's keys, and a daemon that is
    loading already."""

    home: Home
    output: Output
    unlocking: Unlocking
    early: Early | None = None

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
            "parsec-fs user join or parsec-fs device join, or use another folder: --home DIR",
        )

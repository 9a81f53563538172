"""Serving one workspace in this process until it is unmounted. Loads all that a daemon is made of.

Data flow: `mount --foreground`, or a child with its orders -> Daemon -> log, Reporter.
"""

import logging
from pathlib import Path
from typing import Final

import trio

from parsec_fs.cli.background import Reporter
from parsec_fs.cli.exit_codes import exit_code, first_cause
from parsec_fs.cli.log_format import PlainFormatter
from parsec_fs.cli.mountpoint import prepare
from parsec_fs.config import Home, MountOptions
from parsec_fs.daemon import Daemon
from parsec_fs.device_file import DeviceFile
from parsec_fs.directory import Workspace

_LOG_FORMAT: Final = "%(asctime)s level=%(levelname)s logger=%(name)s %(message)s"


def serve(
    home: Home,
    device: DeviceFile,
    workspace: Workspace,
    folder: Path,
    options: MountOptions,
    reporter: Reporter,
) -> None:
    """Raises what ended it, after the reporter was told."""
    handler = logging.StreamHandler()
    handler.setFormatter(PlainFormatter(_LOG_FORMAT))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        daemon = Daemon(
            home=home,
            identity=device.load(),
            named=workspace,
            mountpoint=prepare(folder),
            options=options,
            reporter=reporter,
        )
        trio.run(daemon.run)
    except BaseException as error:
        _tell(reporter, first_cause(error))
        raise


def _tell(reporter: Reporter, error: BaseException) -> None:
    reporter.error(str(error) or type(error).__name__, exit_code(error))

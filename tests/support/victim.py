"""The real daemon with exactly one check left out: the only place where that can be done.

usage: python -m tests.support.victim CHECK --home DIR mount WORKSPACE FOLDER --ready-fd N

Data flow: name of a check -> `WEAK` -> handed to the daemon's constructor -> mount.
"""

import argparse
import logging
from pathlib import Path

import trio

from parsec_fs.cli.background import Reporter
from parsec_fs.cli.exit_codes import ExitCode
from parsec_fs.config import Home, MountOptions
from parsec_fs.connection import connect
from parsec_fs.daemon import Daemon
from parsec_fs.device_file import DeviceFile
from parsec_fs.directory import Workspace, matching
from parsec_fs.discovery import find_workspaces
from parsec_fs.identity import Identity
from tests.support.weakened import WEAK


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("check", choices=sorted(WEAK))
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("command", choices=["mount"])
    parser.add_argument("workspace")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--ready-fd", type=int, required=True)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    home = Home(root=options.home)
    identity = DeviceFile(home.device).load()
    reporter = Reporter(options.ready_fd)
    daemon = Daemon(
        home=home,
        identity=identity,
        named=trio.run(_find, home, identity, options.workspace),
        mountpoint=options.folder,
        options=MountOptions(),
        reporter=reporter,
        checks=WEAK[options.check],
    )
    try:
        trio.run(daemon.run)
    except BaseException as error:
        reporter.error(repr(error), ExitCode.FAILED)
        raise


async def _find(home: Home, identity: Identity, name: str) -> Workspace:
    async with connect(home, identity) as connection:
        return matching(await find_workspaces(connection), name)[0]


if __name__ == "__main__":
    main()

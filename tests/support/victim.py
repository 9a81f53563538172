"""The real daemon with exactly one check left out: the only place where that can be done.

usage: python -m tests.support.victim CHECK --home DIR mount WORKSPACE FOLDER --ready-fd N

CHECK is a name of `WEAK`, or `switched`: a daemon whose auditor does nothing while there is a file
`auditor-off` in its home, and gets no further than the chain while there is a `comparison-off`.

Data flow: name of a check -> `WEAK` -> handed to the daemon's constructor -> mount.
"""

import argparse
import logging
from pathlib import Path
from typing import Any

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
from tests.support.weakened import WEAK, switched_auditor, switched_checks

SWITCHED = "switched"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("check", choices=[*sorted(WEAK), SWITCHED])
    options = mount_options(parser)
    serve(options, **_weak(options.check, Home(root=options.home)))


def mount_options(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """What follows on the command line: the mount, as the product's own command takes it."""
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("command", choices=["mount"])
    parser.add_argument("workspace")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--ready-fd", type=int, required=True)
    return parser.parse_args()


def serve(options: argparse.Namespace, **handed: Any) -> None:
    """The real daemon, with something in its constructor that people's daemons never get."""
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
        **handed,
    )
    try:
        trio.run(daemon.run)
    except BaseException as error:
        reporter.error(repr(error), ExitCode.FAILED)
        raise


def _weak(name: str, home: Home) -> dict[str, Any]:
    """What the daemon's constructor is given in place of the real thing."""
    if name != SWITCHED:
        return {"checks": WEAK[name]}
    return {
        "auditor_type": switched_auditor(home.root / "auditor-off"),
        "checks": switched_checks(home.root / "comparison-off"),
    }


async def _find(home: Home, identity: Identity, name: str) -> Workspace:
    async with connect(home, identity) as connection:
        return matching(await find_workspaces(connection), name)[0]


if __name__ == "__main__":
    main()

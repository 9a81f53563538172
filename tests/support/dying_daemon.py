"""The real daemon, which ends by SIGKILL at a named point of its own work.

usage: python -m tests.support.dying_daemon POINT PASSES ARMED --home DIR mount WORKSPACE FOLDER
           --ready-fd N

POINT is a name in `dying_stores`, PASSES says at which passing, counted while the file ARMED is
there.

Data flow: command line -> `dying_stores` -> handed to the daemon's constructor -> mount.
"""

import argparse
from pathlib import Path

from parsec_fs.config import Home
from parsec_fs.device_file import DeviceFile
from tests.support.dying_stores import Death, dying_stores
from tests.support.victim import mount_options, serve


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("point")
    parser.add_argument("passes", type=int)
    parser.add_argument("armed", type=Path)
    options = mount_options(parser)
    own = DeviceFile(Home(root=options.home).device).load().secrets.device
    serve(options, stores=dying_stores(Death(options.point, options.passes, options.armed), own))


if __name__ == "__main__":
    main()

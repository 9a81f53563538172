"""parsec-fs: the entry point. What it loads, every command waits for.

Data flow: argv -> a daemon that begins to load, if one is to be started -> `cli/app`.
"""

import sys

from parsec_fs import __version__
from parsec_fs.cli.early import begin
from parsec_fs.cli.words import hoist


def main() -> None:
    """Entry point."""
    arguments = hoist(sys.argv[1:])
    if arguments == ["--version"]:
        print(f"parsec-fs {__version__}")
        return
    early = begin(arguments)
    try:
        from parsec_fs.cli.app import run  # a quarter of a second, while the daemon loads as well

        run(arguments, early)
    finally:
        if early is not None:
            early.dismiss()

"""The process of a daemon that `mount` started: load, then do what it is ordered.

usage (internal): python -m parsec_fs.cli.served DESCRIPTOR [WORDS ...]

Data flow: cli/early -> this -> cli/ordered -> Daemon.
"""

import gc
import sys


def main() -> None:
    """Loading makes nearly no garbage: nothing looks for it again and again meanwhile."""
    gc.disable()
    from parsec_fs.cli.ordered import run

    gc.enable()
    run(int(sys.argv[1]))


if __name__ == "__main__":
    main()

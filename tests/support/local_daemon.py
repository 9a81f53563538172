"""A daemon that mounts a workspace of this device alone: journal and contents, no server.

usage: python -m tests.support.local_daemon STATE_FOLDER MOUNTPOINT [--stored-owners]

Prints "mounted" when requests are answered; ends when unmounted or on SIGTERM.
"""

import argparse
import logging
import signal
import sys
from pathlib import Path

import trio

from parsec_fs.mount.runner import MountOptions, serve
from parsec_fs.protocol.ids import RealmId
from parsec_fs.protocol.sealing import LocalSealer
from parsec_fs.storage.contents import Contents
from parsec_fs.storage.journal import Journal
from parsec_fs.workspace.filesystem import Filesystem

REALM = RealmId(b"r" * 32)
KEY = b"k" * 32


def open_filesystem(state: Path) -> Filesystem:
    """A workspace under a state folder, opened."""
    journal = Journal(state / "journal", LocalSealer(KEY))
    filesystem = Filesystem(journal=journal, contents=Contents(state / "contents", REALM))
    filesystem.open()
    return filesystem


async def run(state: Path, options: MountOptions) -> None:
    """Serve until unmounted or terminated."""
    async with trio.open_nursery() as nursery:
        filesystem = open_filesystem(state)
        nursery.start_soon(_stop_on_signal, nursery.cancel_scope)
        await nursery.start(filesystem.run)
        async with trio.open_nursery() as serving:
            await serving.start(lambda **status: serve(filesystem, options, **status))
            print("mounted", flush=True)
        nursery.cancel_scope.cancel()


async def _stop_on_signal(scope: trio.CancelScope) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for _ in signals:
            scope.cancel()


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("state", type=Path)
    parser.add_argument("mountpoint")
    parser.add_argument("--stored-owners", action="store_true")
    args = parser.parse_args()
    logging.basicConfig(stream=sys.stderr, level=logging.INFO)
    options = MountOptions(mountpoint=args.mountpoint, own_files=not args.stored_owners)
    trio.run(run, args.state, options)


if __name__ == "__main__":
    main()

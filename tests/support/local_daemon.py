"""A daemon that mounts a workspace of this device alone: journal and contents, no server.

usage: python -m tests.support.local_daemon STATE_FOLDER MOUNTPOINT [--stored-owners]
                                            [--slow-reads SECONDS]

Prints "mounted" when requests are answered; ends when unmounted or on SIGTERM. On SIGUSR1 it tells
the kernel to forget all names and pages, as after remote changes, and prints "sent".
"""

import argparse
import logging
import signal
import sys
import time
from pathlib import Path

import trio

from parsec_fs.mount.notify import Notifier
from parsec_fs.mount.runner import MountOptions, serve
from parsec_fs.protocol.ids import RealmId
from parsec_fs.protocol.manifests import BlockRef
from parsec_fs.protocol.sealing import LocalSealer
from parsec_fs.storage.contents import CACHE_LIMIT, Contents
from parsec_fs.storage.journal import Journal
from parsec_fs.workspace.filesystem import Filesystem
from parsec_fs.workspace.nodes import FolderNode
from parsec_fs.workspace.remote_changes import Invalidation
from parsec_fs.workspace.tree import Tree

REALM = RealmId(b"r" * 32)
KEY = b"k" * 32


class SlowContents(Contents):
    """Reading a block that is not in memory takes its time, as over a slow network."""

    seconds = 0.0

    def _open_job(self, ref: BlockRef) -> bytearray:
        if self.seconds:
            time.sleep(self.seconds)
        return super()._open_job(ref)


def open_filesystem(
    state: Path, *, slow_reads_s: float = 0.0, cache_limit: int = CACHE_LIMIT
) -> Filesystem:
    """A workspace under a state folder, opened."""
    journal = Journal(state / "journal", LocalSealer(KEY))
    contents = SlowContents(state / "contents", REALM, cache_limit=cache_limit)
    contents.seconds = slow_reads_s
    filesystem = Filesystem(journal=journal, contents=contents)
    filesystem.open()
    return filesystem


async def run(state: Path, options: MountOptions, slow_reads_s: float) -> None:
    """Serve until unmounted or terminated."""
    async with trio.open_nursery() as nursery:
        filesystem = open_filesystem(state, slow_reads_s=slow_reads_s)
        nursery.start_soon(_stop_on_signal, nursery.cancel_scope)
        await nursery.start(filesystem.run)
        async with trio.open_nursery() as serving:
            mounted = await serving.start(lambda **status: serve(filesystem, options, **status))
            nursery.start_soon(_invalidate_on_signal, filesystem.tree, mounted.notifier)
            print("mounted", flush=True)
        nursery.cancel_scope.cancel()


async def _stop_on_signal(scope: trio.CancelScope) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for _ in signals:
            scope.cancel()


async def _invalidate_on_signal(tree: Tree, notifier: Notifier) -> None:
    with trio.open_signal_receiver(signal.SIGUSR1) as signals:
        async for _ in signals:
            folders = [node for node in tree.nodes.values() if isinstance(node, FolderNode)]
            notifier.send(Invalidation(node.inode) for node in tree.nodes.values())
            notifier.send(
                Invalidation(folder.inode, name)
                for folder in folders
                for name in folder.children or {}
            )
            print("sent", flush=True)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("state", type=Path)
    parser.add_argument("mountpoint")
    parser.add_argument("--stored-owners", action="store_true")
    parser.add_argument("--slow-reads", type=float, default=0.0)
    args = parser.parse_args()
    logging.basicConfig(stream=sys.stderr, level=logging.INFO)
    options = MountOptions(mountpoint=args.mountpoint, own_files=not args.stored_owners)
    trio.run(run, args.state, options, args.slow_reads)


if __name__ == "__main__":
    main()

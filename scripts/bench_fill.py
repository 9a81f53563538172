"""Fill a workspace with very many small files, in bulk: the product without the kernel in between.

usage: bench_fill.py HOME FOLDER FILES [PER_FOLDER]

Data flow: scripts/bench_scale -> this (a process of its own) -> tree, journal, capture, commits of
    1,000 objects -> server -> replica -> local store; afterwards the device knows them all.

The files are made by the functions behind the mount and signed, sent, replayed and stored by the
product's own synchronisation. Only the system calls are left out, and the auditor, which catches up
when the workspace is mounted. The workspace must not be mounted.
"""

import os
import sys
import time
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT)]
import trio  # noqa: E402

from parsec_fs.config import Home  # noqa: E402
from parsec_fs.connection import connect  # noqa: E402
from parsec_fs.device_file import DeviceFile  # noqa: E402
from parsec_fs.lockfile import held  # noqa: E402
from parsec_fs.protocol.ids import RealmId  # noqa: E402
from parsec_fs.workspace import files, names  # noqa: E402
from parsec_fs.workspace.assembly import Outside, Workspace, assemble  # noqa: E402
from parsec_fs.workspace.nodes import ROOT_INODE, TYPE_FOLDER, Node  # noqa: E402

STEP = 20_000
"""Files in memory at a time."""
OWNER = (os.getuid(), os.getgid())


async def fill(home: Home, folder: bytes, count: int, per_folder: int) -> None:
    """Make `count` files below a new folder of the one workspace, and log them."""
    identity = DeviceFile(home.device).load()
    (realm,) = (RealmId(bytes.fromhex(one.name)) for one in home.workspaces.iterdir())
    paths = home.workspace(realm)
    with held(paths.lock, ""):
        async with connect(home, identity) as connection:
            outside = Outside(
                server=connection.server,
                signer=connection.signer,
                org=connection.org,
                author=connection.author,
                audit=connection.org.audit,
                label=lambda: b"",
                root_owner=OWNER,
            )
            workspace = assemble(paths.root, realm, outside)
            workspace.filesystem.open()
            async with trio.open_nursery() as nursery:
                await nursery.start(workspace.filesystem.run)
                await workspace.sync.pull_once()
                await make(workspace, folder, count, per_folder)
                nursery.cancel_scope.cancel()
            workspace.close()


async def make(workspace: Workspace, folder: bytes, count: int, per_folder: int) -> None:
    """Folders of `per_folder` files each."""
    top = new(workspace, ROOT_INODE, folder, TYPE_FOLDER | 0o755)
    top.lookups = 1
    done, start = 0, time.perf_counter()
    while done < count:
        step = min(STEP, count - done)
        for first in range(done, done + step, per_folder):
            inner = new(workspace, top.inode, b"d%06d" % (first // per_folder), TYPE_FOLDER | 0o755)
            for number in range(first, min(first + per_folder, done + step)):
                add_file(workspace, inner.inode, b"f%07d" % number)
        await push_all(workspace)
        done += step
        rate = done / (time.perf_counter() - start)
        print(f"{done:,} files, {rate:,.0f}/s", file=sys.stderr, flush=True)


async def push_all(workspace: Workspace) -> None:
    """Until everything is logged; then what is clean leaves memory."""
    tree = workspace.filesystem.tree
    while tree.dirty_nodes or tree.dirty_names or tree.flying_nodes or tree.flying_names:
        await workspace.sync.push_once()
    for _ in range(3):  # files, their folders, the folder above
        tree.trim(list(tree.nodes.values()))


def new(workspace: Workspace, parent: int, name: bytes, mode: int) -> Node:
    """A folder, of which no kernel knows."""
    filesystem = workspace.filesystem
    create = partial(names.create, owner=OWNER, now=time.time_ns())
    node = filesystem.call(create, filesystem.tree, parent, name, mode)
    node.lookups = 0
    return node


def add_file(workspace: Workspace, parent: int, name: bytes) -> None:
    """A file of some bytes."""
    filesystem = workspace.filesystem
    node = names.make_file(filesystem.tree, parent, name, 0o644, OWNER, time.time_ns())
    filesystem.write(node, 0, name * 8)
    files.journal_content(filesystem.tree, node)
    node.lookups = 0


if __name__ == "__main__":
    trio.run(
        fill,
        Home(root=Path(sys.argv[1])),
        os.fsencode(sys.argv[2]),
        int(sys.argv[3]),
        int(sys.argv[4]) if len(sys.argv) > 4 else 1000,
    )

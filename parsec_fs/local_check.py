"""fsck of a workspace that is not mounted: its journal, then all that a mount of it would show.

Data flow: command -> this (opens it as a mount does, sends nothing) -> `workspace/fsck` -> faults.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from parsec_fs.config import Home
from parsec_fs.connection import Connection
from parsec_fs.directory import Workspace as NamedWorkspace
from parsec_fs.lockfile import held
from parsec_fs.protocol.sealing import LocalSealer
from parsec_fs.storage.journal import Journal
from parsec_fs.workspace.assembly import Outside, Workspace, assemble
from parsec_fs.workspace.fsck import Fault, Fsck, Tally, database_faults

_PLACE = "no folder, by a check"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What was found."""

    faults: tuple[Fault, ...]
    tally: Tally


async def check(home: Home, connection: Connection, named: NamedWorkspace) -> Checked | None:
    """Look at everything; None if the workspace was never mounted on this device.

    A damaged database or journal is found without changing anything, and nothing else is looked at
    then: the one does not open, the other is what the next mount puts into a folder. Otherwise the
    journal is replayed, as by a mount, which drops what each mount drops: a torn last write, and
    blocks that nothing refers to. Raises LockedError while it is mounted."""
    paths = home.workspace(named.realm)
    if not paths.database.exists():
        return None
    with held(paths.lock, _PLACE):
        sealer = LocalSealer(connection.identity.secrets.local_key)
        faults = database_faults(paths.database)
        faults += [_damage(path.name) for path in Journal(paths.journal, sealer).damaged()]
        if faults:
            return Checked(faults=tuple(faults), tally=Tally())
        async with _opened(home, connection, named) as workspace:
            if workspace is None:
                return None
            fsck = Fsck(
                workspace.store,
                workspace.replica.state.context,
                workspace.filesystem,
                workspace.loader,
                workspace.contents,
            )
            return Checked(faults=tuple(fsck.run()), tally=fsck.tally)


def _damage(segment: str) -> Fault:
    return Fault(
        place=f"journal/{segment}".encode(),
        what="damaged: the next mount puts the files behind the damage into a folder `recovered`",
    )


@asynccontextmanager
async def _opened(
    home: Home, connection: Connection, named: NamedWorkspace
) -> AsyncIterator[Workspace | None]:
    """As a mount opens it; None if it was never fetched."""
    outside = Outside(
        server=connection.server,
        signer=connection.signer,
        org=connection.org,
        author=connection.author,
        audit=connection.org.audit,
        pins=connection.identity.pins,
        label=lambda: b"",
    )
    workspace = assemble(home.workspace(named.realm).root, named.realm, outside)
    try:
        if workspace.bootstrap.is_first():
            yield None
            return
        workspace.filesystem.open()
        try:
            yield workspace
        finally:
            workspace.filesystem.close()
    finally:
        workspace.close()

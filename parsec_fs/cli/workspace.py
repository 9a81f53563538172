"""parsec-fs workspace create, list.

Data flow: connection -> directory of workspaces -> table.
"""

from typing import Annotated

import trio
import typer

from parsec_fs.cli.exit_codes import CommandError, ExitCode
from parsec_fs.cli.output import table
from parsec_fs.cli.settings import Settings, settings_of
from parsec_fs.config import Home
from parsec_fs.connection import connect
from parsec_fs.directory import Workspace, create_workspace, find_workspaces, known_workspaces
from parsec_fs.identity import Identity
from parsec_fs.lockfile import Holder, holder
from parsec_fs.protocol.errors import OfflineError
from parsec_fs.storage.org_store import OrgStore

app = typer.Typer(no_args_is_help=True, help="Workspaces: what you mount.")

WorkspaceName = Annotated[str, typer.Argument(help="Name of the workspace, or how its id begins.")]


@app.command()
def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of the new workspace.")],
) -> None:
    """Create a workspace; you are its owner."""
    settings = settings_of(context)
    identity = settings.device_file().load()

    async def run() -> Workspace:
        async with connect(settings.home, identity) as connection:
            if any(one.title == name for one in await find_workspaces(connection)):
                raise CommandError(ExitCode.BUSY, f"there is a workspace {name} already")
            return await create_workspace(connection, name)

    workspace = trio.run(run)
    lines = [f"Workspace {name} created. Mount it: parsec-fs mount {name} FOLDER"]
    settings.output.result({"name": name, "id": workspace.realm.hex()}, lines)


@app.command("list")
def list_workspaces(context: typer.Context) -> None:
    """Show the workspaces you can mount."""
    settings = settings_of(context)
    identity = settings.device_file().load()
    found, offline = trio.run(_find, settings, identity)
    holders = {one.realm: holder(settings.home.workspace(one.realm).lock) for one in found}
    rows = [
        [one.title, _place(holders[one.realm]), *([one.realm.hex()] * settings.output.verbose)]
        for one in found
    ]
    lines = table(["NAME", "MOUNTED AT", *(["ID"] * settings.output.verbose)], rows)
    if not found:
        lines = ["No workspaces. Create one: parsec-fs workspace create NAME"]
    if offline:
        settings.output.note(f"! the server cannot be reached: what is known here ({offline})")
    document = {
        "workspaces": [
            {"name": one.title, "id": one.realm.hex(), "mountpoint": _path(holders[one.realm])}
            for one in found
        ],
        "offline": bool(offline),
    }
    settings.output.result(document, lines)


async def _find(settings: Settings, identity: Identity) -> tuple[tuple[Workspace, ...], str]:
    async with connect(settings.home, identity) as connection:
        try:
            return await find_workspaces(connection), ""
        except OfflineError as error:
            return known_workspaces(connection.store, identity.secrets), str(error)


def _place(found: Holder | None) -> str:
    return found.mountpoint if found else "-"


def _path(found: Holder | None) -> str | None:
    return found.mountpoint if found else None


def resolve(home: Home, identity: Identity, text: str) -> Workspace:
    """The workspace of this name or id, asking the server only if it is unknown here.
    Raises CommandError."""
    store = OrgStore(home.org_database, identity.anchor.org)
    try:
        known = known_workspaces(store, identity.secrets)
    finally:
        store.close()
    found = matching(known, text)
    if not found:
        found = matching(trio.run(_ask, home, identity), text)
    if len(found) != 1:
        problem = f"{len(found)} workspaces are called" if found else "there is no workspace"
        raise CommandError(ExitCode.NOT_FOUND, f"{problem} {text}; see: parsec-fs workspace list")
    return found[0]


async def _ask(home: Home, identity: Identity) -> tuple[Workspace, ...]:
    async with connect(home, identity) as connection:
        return await find_workspaces(connection)


def matching(workspaces: tuple[Workspace, ...], text: str) -> list[Workspace]:
    """By name, else by the beginning of the id (8 characters or more)."""
    named = [one for one in workspaces if one.title == text]
    by_id = [one for one in workspaces if len(text) >= 8 and one.realm.hex().startswith(text)]
    return named or by_id

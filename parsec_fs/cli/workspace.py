"""parsec-fs workspace create, list; share, unshare and take-over are in `sharing`.

Data flow: connection -> directory of workspaces -> table.
"""

from typing import Annotated

import trio
import typer

from parsec_fs.cli.exit_codes import CommandError, ExitCode
from parsec_fs.cli.output import table
from parsec_fs.cli.settings import Settings, settings_of
from parsec_fs.cli.sharing import share, take_over, unshare
from parsec_fs.connection import connect
from parsec_fs.directory import Workspace, known_workspaces
from parsec_fs.discovery import create_workspace, find_all, find_workspaces
from parsec_fs.identity import Identity
from parsec_fs.lockfile import Holder, holder
from parsec_fs.protocol.errors import OfflineError

app = typer.Typer(no_args_is_help=True, help="Workspaces: what you mount.")
app.command()(share)
app.command()(unshare)
app.command("take-over")(take_over)


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
    found, closed, offline = trio.run(_find, settings, identity)
    holders = {one.realm: holder(settings.home.workspace(one.realm).lock) for one in found}
    rows = [
        [one.title, _place(holders[one.realm]), *([one.realm.hex()] * settings.output.verbose)]
        for one in found
    ]
    header = ["NAME", "MOUNTED AT", *(["ID"] * settings.output.verbose)]
    lines = table(header, rows) if found else []
    if not found and not closed:
        lines = ["No workspaces. Create one: parsec-fs workspace create NAME"]
    if offline:
        settings.output.note(f"! the server cannot be reached: what is known here ({offline})")
    for one in closed:
        lines.append(f"{one.title} has no key for you. Verify it: parsec-fs audit {one.title}")
    document = {
        "without_key": [{"id": one.realm.hex()} for one in closed],
        "workspaces": [
            {"name": one.title, "id": one.realm.hex(), "mountpoint": _path(holders[one.realm])}
            for one in found
        ],
        "offline": bool(offline),
    }
    settings.output.result(document, lines)


async def _find(
    settings: Settings, identity: Identity
) -> tuple[tuple[Workspace, ...], tuple[Workspace, ...], str]:
    async with connect(settings.home, identity) as connection:
        try:
            return (*await find_all(connection), "")
        except OfflineError as error:
            return known_workspaces(connection.store, identity.secrets), (), str(error)


def _place(found: Holder | None) -> str:
    return found.mountpoint if found else "-"


def _path(found: Holder | None) -> str | None:
    return found.mountpoint if found else None

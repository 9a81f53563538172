"""parsec-fs audit.

Data flow: name or id -> daemon if it is mounted, else a replay without keys in this process ->
report, exit code of the audit.
"""

from typing import Annotated

import trio
import typer

from parsec_fs.blind_audit import blind_audit
from parsec_fs.cli import running
from parsec_fs.cli.exit_codes import CommandError, ExitCode
from parsec_fs.cli.history import Json, tell
from parsec_fs.cli.settings import Settings, settings_of
from parsec_fs.connection import Connection, connect
from parsec_fs.directory import Workspace, matching
from parsec_fs.discovery import find_all
from parsec_fs.lockfile import holder


def audit(
    context: typer.Context,
    workspace: Annotated[
        str | None,
        typer.Argument(help="Workspace, or how its id begins; default: the only one there is."),
    ] = None,
) -> None:
    """Verify a workspace's whole log against the chain, mounted or not; an auditor needs no key."""
    settings = settings_of(context)
    identity = settings.device_file().load()
    mounted = _mounted(settings, workspace)
    if mounted is not None:
        tell(settings, running.ask(settings, mounted, "verify"))
        return

    async def run() -> Json:
        async with connect(settings.home, identity) as connection:
            return await _audited(settings, connection, await _chosen(connection, workspace))

    report = trio.run(run)
    settings.output.clear()
    tell(settings, report)


def _mounted(settings: Settings, text: str | None) -> Workspace | None:
    """The workspace that is meant, if a daemon serves it."""
    identity = settings.device_file().load()
    found = running.known(settings.home, identity)
    meant = found if text is None else matching(found, text)
    serving = [one for one in meant if holder(settings.home.workspace(one.realm).lock)]
    return serving[0] if len(meant) == len(serving) == 1 else None


async def _chosen(connection: Connection, text: str | None) -> Workspace:
    named, closed = await find_all(connection)
    everything = (*named, *closed)
    found = list(everything) if text is None else matching(everything, text)
    if len(found) != 1:
        called = "" if text is None else f" called {text}"
        problem = f"{len(found)} workspaces are there{called}" if found else "there is no workspace"
        raise CommandError(
            ExitCode.NOT_FOUND, f"{problem}{called * (not found)}; see: parsec-fs workspace list"
        )
    return found[0]


async def _audited(settings: Settings, connection: Connection, chosen: Workspace) -> Json:
    settings.output.progress(f"replaying and verifying {chosen.title}")
    async with blind_audit(settings.home, connection, chosen) as here:
        report = await here.run()
    return {**report.json(), "text": report.text()}

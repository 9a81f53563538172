"""parsec-fs audit.

Data flow: name or id -> daemon if it is mounted, else a replay without keys in this process ->
report, exit code of the audit.
"""

from typing import Annotated

import trio
import typer

from parsec_fs.blind_audit import blind_audit
from parsec_fs.cli import running
from parsec_fs.cli.history import Json, tell
from parsec_fs.cli.settings import Settings, settings_of
from parsec_fs.cli.since import chosen, tell_since
from parsec_fs.connection import connect
from parsec_fs.directory import Workspace, matching
from parsec_fs.discovery import find_all
from parsec_fs.identity import Identity


def audit(
    context: typer.Context,
    workspace: Annotated[
        str | None,
        typer.Argument(help="Workspace, or how its id begins; default: the only one there is."),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            metavar="WHEN",
            help="Show who joined, left, changed since an epoch (812), a time ago (7d), a date.",
        ),
    ] = None,
) -> None:
    """Verify a workspace's whole log against the chain, mounted or not; an auditor needs no key."""
    settings = settings_of(context)
    identity = settings.device_file().load()
    if since is not None:
        tell_since(settings, identity, since, workspace)
        return
    mounted = _mounted(settings, identity, workspace)
    if mounted is not None:
        tell(settings, running.ask(settings, mounted, "verify"))
        return

    async def run() -> Json:
        async with connect(settings.home, identity) as connection:
            found = chosen(*await find_all(connection), text=workspace)
            settings.output.progress(f"replaying and verifying {found.title}")
            async with blind_audit(settings.home, connection, found) as here:
                report = await here.run()
            return {**report.json(), "text": report.text()}

    report = trio.run(run)
    settings.output.clear()
    tell(settings, report)


def _mounted(settings: Settings, identity: Identity, text: str | None) -> Workspace | None:
    """The workspace that is meant, if a daemon serves it."""
    found = running.known(settings.home, identity)
    meant = found if text is None else matching(found, text)
    served = [one for one in meant if running.serving(settings, one)]
    return served[0] if len(meant) == len(served) == 1 else None

"""parsec-fs fsck.

Data flow: name or id -> local check -> faults, exit code.
"""

from typing import Annotated

import trio
import typer

from parsec_fs.cli import running
from parsec_fs.cli.exit_codes import CommandError, ExitCode
from parsec_fs.cli.output import count_text, size_text
from parsec_fs.cli.settings import Settings, settings_of
from parsec_fs.connection import connect
from parsec_fs.directory import Workspace, matching
from parsec_fs.local_check import Checked, check
from parsec_fs.lockfile import holder
from parsec_fs.plain_text import plain_name


def fsck(
    context: typer.Context,
    workspace: Annotated[
        str | None,
        typer.Argument(help="Workspace, or how its id begins; default: the only one there is."),
    ] = None,
) -> None:
    """Check the files that an unmounted workspace has on this device; the server is not asked."""
    settings = settings_of(context)
    identity = settings.device_file().load()
    found = _chosen(running.known(settings.home, identity), workspace)
    _check_unmounted(settings, found)
    settings.output.progress(f"checking {found.title}")

    async def run() -> Checked | None:
        async with connect(settings.home, identity) as connection:
            return await check(settings.home, connection, found)

    checked = trio.run(run)
    if checked is None:
        raise CommandError(
            ExitCode.NOT_FOUND, f"{found.title} was never mounted on this device: nothing to check"
        )
    _tell(settings, found, checked)


def _chosen(known: tuple[Workspace, ...], text: str | None) -> Workspace:
    found = list(known) if text is None else matching(known, text)
    if len(found) == 1:
        return found[0]
    what = "name one workspace" if found else f"no workspace {text or ''}".rstrip()
    raise CommandError(ExitCode.NOT_FOUND, f"{what}; see: parsec-fs workspace list")


def _check_unmounted(settings: Settings, workspace: Workspace) -> None:
    using = holder(settings.home.workspace(workspace.realm).lock)
    if using is not None:
        raise CommandError(
            ExitCode.BUSY,
            f"{workspace.title} is in use by process {using.pid} ({using.mountpoint}). "
            "Type: parsec-fs umount, then again",
        )


def _tell(settings: Settings, workspace: Workspace, checked: Checked) -> None:
    tally, faults = checked.tally, checked.faults
    document = {
        "workspace": workspace.title,
        "names": tally.names,
        "objects": tally.objects,
        "blocks": tally.blocks,
        "bytes": tally.bytes,
        "faults": [{"place": plain_name(one.place), "what": one.what} for one in faults],
    }
    looked = (
        f"{count_text(tally.names, 'name')}, {count_text(tally.objects, 'logged object')}, "
        f"{count_text(tally.blocks, 'block')} on this device ({size_text(tally.bytes)})"
    )
    lines = [f"{plain_name(one.place)}: {one.what}" for one in faults]
    result = count_text(len(faults), "fault") if faults else "consistent"
    settings.output.result(document, [*lines, f"{workspace.title}: {result}. {looked}."])
    if faults:
        raise CommandError(
            ExitCode.DAMAGED,
            "nothing was mended or sent; at most what each mount drops at its start is gone (a "
            "torn last write of the journal, blocks that nothing refers to). Mount it, copy what "
            "you can (parsec-fs export), and see what is held back: parsec-fs status",
        )

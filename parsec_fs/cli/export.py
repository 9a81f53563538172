"""parsec-fs export: a workspace, or what of it only this device has, as plain files elsewhere.

Data flow: mounted folder (names, states) -> which paths are wanted -> copies, in the clear.

Everything is read through the mount, so it is verified as it would be for any program, and works
for a device that was revoked, that has no server, or whose server was convicted: all that the mount
can still show. One file that cannot be read keeps no other from being copied.
"""

import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Final

import typer

from parsec_fs.cli import running
from parsec_fs.cli.exit_codes import CommandError, ExitCode
from parsec_fs.cli.output import count_text
from parsec_fs.cli.settings import settings_of

UNSYNCED: Final = frozenset({b"local", b"uploaded"})
"""States of what no server has acknowledged: nobody else can have it."""
_SHOWN: Final = 10

StateOf = Callable[[Path], bytes]


def state_of(path: Path) -> bytes:
    """As the mount tells it. Attributes of symbolic links and special files cannot be read: they
    count as local, for a link too many is better than one that is lost. Raises OSError."""
    if path.is_symlink() or not (path.is_file() or path.is_dir()):
        return b"local"
    return os.getxattr(path, "user.parsec.state")


def wanted(root: Path, state: StateOf) -> frozenset[Path]:
    """All that is unsynced below a folder, and the folders on the way there. Raises OSError."""
    found: set[Path] = set()
    for folder, folders, files in os.walk(root, onerror=_raise):
        for name in (*folders, *files):
            path = Path(folder, name)
            if state(path) in UNSYNCED:
                found |= {path, *(one for one in path.parents if one.is_relative_to(root))}
    return frozenset(found)


def copy_out(root: Path, target: Path, chosen: frozenset[Path] | None) -> list[str]:
    """Copy what is chosen (None: everything), with times and permissions; what failed, in words.
    Raises OSError if the target cannot be made."""

    def passed_over(folder: str, names: Iterable[str]) -> set[str]:
        if chosen is None:
            return set()
        return {name for name in names if Path(folder, name) not in chosen}

    try:
        shutil.copytree(root, target, symlinks=True, ignore=passed_over)
    except shutil.Error as error:
        return [f"{source}: {why}" for source, _, why in error.args[0]]
    return []


def export(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(help="New folder for the copies, outside the mount.")],
    workspace: Annotated[
        str | None,
        typer.Option("--workspace", "-w", help="Workspace or folder; default: the mounted one."),
    ] = None,
    unsynced: Annotated[
        bool, typer.Option("--unsynced", help="Only what the server has not acknowledged.")
    ] = False,
) -> None:
    """Copy a mounted workspace to a plain folder; the copies are not encrypted."""
    settings = settings_of(context)
    found, holder = running.choose(settings, workspace)
    root, target = Path(holder.mountpoint), folder.absolute()
    _check_target(target, root)
    try:
        chosen = wanted(root, state_of) if unsynced else None
        failed = copy_out(root, target, chosen)
    except OSError as error:
        raise CommandError(
            ExitCode.FAILED,
            f"{error.filename or target}: {error.strerror}. Nothing in the workspace was changed; "
            "what was copied before is complete. Try again into another folder",
        ) from error
    if failed:
        raise CommandError(ExitCode.FAILED, _left_out(target, failed))
    number = sum(len(files) for _, _, files in os.walk(target))
    document = {"workspace": found.title, "folder": str(target), "files": number}
    settings.output.result(
        document,
        [f"{count_text(number, 'file')} in {target}: not encrypted, and not watched over."],
    )


def _check_target(target: Path, root: Path) -> None:
    if target.resolve().is_relative_to(root.resolve()):
        raise CommandError(ExitCode.USAGE, f"{target} lies in the mount: name a folder elsewhere")
    if os.path.lexists(target):
        raise CommandError(ExitCode.USAGE, f"{target} exists: name a folder that does not")


def _left_out(target: Path, failed: list[str]) -> str:
    shown = "\n  ".join(failed[:_SHOWN])
    more = f"\n  and {len(failed) - _SHOWN} more" if len(failed) > _SHOWN else ""
    return (
        f"{count_text(len(failed), 'file')} could not be copied, all others are in {target}:\n"
        f"  {shown}{more}\nNothing in the workspace was changed."
    )


def _raise(error: OSError) -> None:
    raise error

"""parsec-fs conflicts: what was changed at once, by whom, and what becomes of it.

Data flow: mounted folder (names) -> table; path and choice -> `os` calls on the mount.

A conflict copy is a file like any other, so it is found and settled through the mount: what is done
here is what a file manager would do, and travels to the other devices as such. Resolving never
follows a symbolic link and never replaces a folder that has something in it.
"""

import contextlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from parsec_fs.authors import Whose
from parsec_fs.cli import running
from parsec_fs.cli.exit_codes import CommandError, ExitCode
from parsec_fs.cli.output import count_text, table
from parsec_fs.cli.settings import Settings, settings_of
from parsec_fs.directory import Workspace
from parsec_fs.plain_text import plain_name
from parsec_fs.workspace.conflicts import split_conflict_name

Json = dict[str, Any]
_AUTHOR: Final = ("name", "email", "device", "whose")


class Keep(StrEnum):
    """Which version goes on."""

    THEIRS = "theirs"
    MINE = "mine"
    BOTH = "both"


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """A conflict copy: `original` is the name beside it that the other version has; `label` says
    whose this one is."""

    path: Path
    original: Path
    label: str
    when: str

    def json(self, root: Path) -> Json:
        """Paths are relative to the mountpoint `root`."""
        return {
            "path": plain_name(os.fsencode(self.path.relative_to(root))),
            "original": plain_name(os.fsencode(self.original.relative_to(root))),
            "original_exists": os.path.lexists(self.original),
            "label": self.label,
            "when": self.when,
            "modified_ms": self.path.lstat().st_mtime_ns // 1_000_000,
        }


def copy_at(path: Path) -> Copy | None:
    """What a path's name says; None if it is no conflict name."""
    found = split_conflict_name(os.fsencode(path.name))
    if found is None:
        return None
    original, label, when = found
    return Copy(
        path=path,
        original=path.with_name(os.fsdecode(original)),
        label=plain_name(label),
        when=when.decode(),
    )


def copies_below(root: Path) -> Iterator[Copy]:
    """Every conflict copy in a folder, in the order of paths. Raises OSError; what others take away
    while this looks is passed over."""

    def failed(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError) or error.filename == str(root):
            raise error

    for folder, below, files in os.walk(root, onerror=failed):
        below.sort()
        for name in sorted((*below, *files), key=os.fsencode):
            copy = copy_at(Path(folder, name))
            if copy is not None:
                yield copy


def described(copies: Iterable[Copy], root: Path) -> list[Json]:
    """Those of them that are still there: others settle conflicts too."""
    found = []
    for copy in copies:
        with contextlib.suppress(FileNotFoundError):
            found.append(copy.json(root))
    return found


def resolve_copy(copy: Copy, keep: Keep, *, judged: Json) -> Path:
    """Let one version go on, or both; where it is then. `judged`: whose the copy is, as the daemon
    says (`authors`). Raises CommandError, before any change."""
    if keep is Keep.BOTH:
        return _keep_both(copy)
    whose = Whose(judged["whose"])
    if whose in (Whose.UNSURE, Whose.UNKNOWN):
        about = (
            f"this copy may be of {' or '.join(judged['of'])}"
            if judged["of"]
            else f"nobody in this organization is called {copy.label}"
        )
        raise CommandError(
            ExitCode.FAILED,
            f"{about}, so nobody can tell which version is {keep}. Nothing was changed. Read "
            "both; then remove the one that you do not want, or let both stay: --keep both",
        )
    if (keep is Keep.MINE) != (whose is Whose.MINE):
        if not os.path.lexists(copy.original):
            raise CommandError(
                ExitCode.NOT_FOUND,
                f"there is no {copy.original.name} beside it: it was moved, renamed or deleted. "
                "Nothing was changed. Keep this one: --keep both",
            )
        _remove(copy.path)
        return copy.original
    try:
        os.replace(copy.path, copy.original)
    except OSError as error:
        raise _untouched(copy.original, error) from error
    return copy.original


def _remove(path: Path) -> None:
    is_folder = path.is_dir() and not path.is_symlink()
    try:
        path.rmdir() if is_folder else path.unlink()
    except OSError as error:
        raise _untouched(path, error) from error


def _untouched(path: Path, error: OSError) -> CommandError:
    return CommandError(
        ExitCode.FAILED,
        f"{path}: {error.strerror}. Nothing was changed; of a folder with something in it, move "
        "what you want to keep, and remove the other one",
    )


def _keep_both(copy: Copy) -> Path:
    """A name that says whose it is, and that it was settled."""
    for number in range(1, 1000):
        path = copy.path.with_name(_settled_name(copy, number))
        if os.path.lexists(path):
            continue
        try:
            if copy.path.is_dir() and not copy.path.is_symlink():
                copy.path.rename(path)
            else:
                # Unlike a rename, this replaces nothing that has appeared this very moment.
                os.link(copy.path, path, follow_symlinks=False)
                copy.path.unlink()
        except FileExistsError:
            continue
        except OSError as error:
            raise _untouched(copy.path, error) from error
        return path
    raise CommandError(ExitCode.FAILED, f"no free name for {copy.path}. Nothing was changed")


def _settled_name(copy: Copy, number: int) -> str:
    """`report (bob 2026-08-02 10.12).odt`."""
    name = copy.path.name.replace(" (conflict, ", " (", 1)
    if number == 1:
        return name
    stem, bracket, extension = name.rpartition(")")
    return f"{stem} {number}{bracket}{extension}"


app = typer.Typer(
    invoke_without_command=True, help="List what two devices changed at once, and settle it."
)


@app.callback()
def listed(
    context: typer.Context,
    workspace: Annotated[
        str | None,
        typer.Option("--workspace", "-w", help="Workspace or folder; default: all mounted ones."),
    ] = None,
) -> None:
    """List the conflict copies of mounted workspaces."""
    if context.invoked_subcommand is not None:
        return
    settings = settings_of(context)
    chosen = [running.choose(settings, workspace)] if workspace else running.mounted(settings)
    if not chosen:
        raise CommandError(ExitCode.NOT_FOUND, "nothing is mounted; see: parsec-fs status")
    documents: list[Json] = []
    for found, holder in chosen:
        root = Path(holder.mountpoint)
        copies = described(copies_below(root), root)
        authors = _authors(settings, found, {one["label"] for one in copies})
        documents += [
            {
                "workspace": found.title,
                "mountpoint": str(root),
                **one,
                **{key: authors[one["label"]][key] for key in _AUTHOR},
            }
            for one in copies
        ]
    settings.output.result({"conflicts": documents}, _lines(documents))


def _authors(settings: Settings, workspace: Workspace, labels: Iterable[str]) -> dict[str, Json]:
    """By label: who is meant."""
    found = running.ask(settings, workspace, "authors", {"labels": sorted(labels)})
    authors: dict[str, Json] = found["authors"]
    return authors


def _lines(documents: list[Json]) -> list[str]:
    if not documents:
        return ["No conflicts."]
    rows = [
        [f"{one['mountpoint']}/{one['path']}", *_changed_by(one), one["when"], _beside(one)]
        for one in documents
    ]
    return [
        *table(["COPY", "CHANGED BY", "ON", "WHEN", "OTHER VERSION"], rows),
        f"{count_text(len(rows), 'conflict')}. "
        "Settle one: parsec-fs conflicts resolve COPY --keep mine|theirs|both",
    ]


def _changed_by(one: Json) -> list[str]:
    if not one["name"]:
        return [one["label"], "?"]
    return [f"{one['name']} <{one['email']}>", one["device"] or "?"]


def _beside(one: Json) -> str:
    return os.path.basename(one["original"]) if one["original_exists"] else "gone"


@app.command()
def resolve(
    context: typer.Context,
    path: Annotated[Path, typer.Argument(help="A conflict copy, as the list names it.")],
    keep: Annotated[
        Keep,
        typer.Option(
            help="mine: what you changed (on this device, where the copy names a device), theirs: "
            "what others did; it has the name then. both: the copy gets an ordinary name."
        ),
    ],
) -> None:
    """Settle one conflict: one version goes on, or both do."""
    settings = settings_of(context)
    workspace, _ = running.by_path(settings, path)
    copy = copy_at(path.absolute())
    if copy is None or not os.path.lexists(copy.path):
        what = "no conflict copy" if copy is None else "not there"
        raise CommandError(ExitCode.NOT_FOUND, f"{path} is {what}; see: parsec-fs conflicts")
    judged = _authors(settings, workspace, [copy.label])[copy.label]
    kept = resolve_copy(copy, keep, judged=judged)
    document = {"kept": str(kept), "keep": str(keep), "workspace": workspace.title}
    settings.output.result(document, [f"Settled: {kept}"])

"""parsec-fs status, wait.

Data flow: daemons of mounted workspaces -> table, or JSON; wait ends when a state is reached.
"""

import time
from typing import Annotated, Any

import typer

from parsec_fs.cli import running
from parsec_fs.cli.exit_codes import CommandError, ExitCode
from parsec_fs.cli.hints import NO_KIT
from parsec_fs.cli.output import count_text, size_text, table
from parsec_fs.cli.settings import Settings, settings_of
from parsec_fs.protocol.errors import OfflineError

Json = dict[str, Any]
_WATCH_S = 1.0


def status(
    context: typer.Context,
    watch: Annotated[bool, typer.Option("--watch", help="Show it again every second.")] = False,
    files: Annotated[bool, typer.Option("--files", help="List what is not audited yet.")] = False,
) -> None:
    """Show the state of mounted workspaces."""
    settings = settings_of(context)
    while True:
        documents = _collect(settings, files)
        if watch and not settings.output.json:
            print("\x1b[2J\x1b[H", end="")
        settings.output.result({"workspaces": documents}, _lines(documents))
        if not watch:
            break
        time.sleep(_WATCH_S)
    if any(one["state"]["word"] == "convicted" for one in documents):
        raise CommandError(ExitCode.TAMPERED, "the server is proven to have cheated; see above")


def _collect(settings: Settings, files: bool) -> list[Json]:
    documents, asked = [], {"files": files, "conflicts": True}
    for workspace, _ in running.mounted(settings):
        try:
            documents.append(running.ask(settings, workspace, "status", asked))
        except OfflineError:
            continue  # unmounted this very moment
    return documents


def _lines(documents: list[Json]) -> list[str]:
    if not documents:
        return ["nothing is mounted; see: parsec-fs workspace list"]
    rows = [_row(one) for one in documents]
    lines = table(["WORKSPACE", "STATE", "PENDING", "LAST CHECKPOINT", "MOUNTED AT"], rows)
    for one in documents:
        lines += [f"! {one['name']}: {note}" for note in one["state"]["notes"]]
        lines += _conflicts(one)
        lines += [f"  {entry['state']:9} {entry['path']}" for entry in one.get("files", [])]
    in_force = [one for one in documents if not one.get("revoked")]
    if in_force and not any(one.get("recovery", True) for one in in_force):
        lines.append(NO_KIT)
    return lines


def _conflicts(document: Json) -> list[str]:
    """Nothing is said while a large workspace is being counted."""
    count = document.get("conflicts")
    if not count:
        return []
    return [f"! {document['name']}: {count_text(count, 'conflict')}; see: parsec-fs conflicts"]


def _row(document: Json) -> list[str]:
    state, changes = document["state"], document["changes"]
    local, anchored = changes["local"], changes["anchored"]
    unanchored, unaudited = changes["logged"] - anchored, anchored - changes["audited"]
    pending = [count_text(local, "change")] * bool(local)
    if changes["pending_bytes"]:
        pending.append(size_text(changes["pending_bytes"]))
    pending += [f"{unanchored:,} to anchor"] * (unanchored > 0)
    pending += [f"{unaudited:,} to audit"] * (unaudited > 0)
    checkpoint = "none yet"
    if state["epochs"]:
        checkpoint = f"epoch {state['epochs'] - 1}, {state['age_s']:.0f} s ago"
    return [
        document["name"],
        "revoked" if document.get("revoked") and not state["frozen"] else state["word"],
        ", ".join(pending) or "-",
        checkpoint,
        document["mountpoint"],
    ]


def wait(
    context: typer.Context,
    workspace: Annotated[
        str | None, typer.Argument(help="Workspace or folder; default: the only mounted one.")
    ] = None,
    logged: Annotated[bool, typer.Option("--logged", help="The server has it (default).")] = False,
    anchored: Annotated[
        bool, typer.Option("--anchored", help="A final checkpoint covers it.")
    ] = False,
    audited: Annotated[
        bool, typer.Option("--audited", help="And compared with all this device has.")
    ] = False,
    timeout: Annotated[
        float | None, typer.Option(min=0, help="Seconds; then it ends with exit code 21.")
    ] = None,
) -> None:
    """Wait until everything changed so far is logged, anchored or audited."""
    settings = settings_of(context)
    found, _ = running.choose(settings, workspace)
    if logged + anchored + audited > 1:
        raise CommandError(ExitCode.USAGE, "give one of --logged, --anchored, --audited")
    state = "audited" if audited else "anchored" if anchored else "logged"
    started = time.monotonic()
    result = running.ask(settings, found, "wait", {"state": state, "timeout_s": timeout})
    seconds = time.monotonic() - started
    line = f"{found.title}: everything is {state} (waited {seconds:.1f} s)"
    settings.output.result({**result, "state": state, "seconds": round(seconds, 3)}, [line])

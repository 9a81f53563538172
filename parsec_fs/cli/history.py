"""parsec-fs log, verify, proof.

Data flow: path or workspace -> daemon -> table, report, proof file; a proof is checked offline.
"""

import os
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from parsec_fs.audit.evidence import check_offline
from parsec_fs.audit.proof import FORMAT as PROOF_FORMAT
from parsec_fs.audit.proof import check as check_proof
from parsec_fs.audit.report import (
    proof_json,
    proof_notes,
    proof_text,
    verdict_json,
    verdict_text,
)
from parsec_fs.cli import running
from parsec_fs.cli.exit_codes import CommandError, ExitCode
from parsec_fs.cli.output import table
from parsec_fs.cli.settings import Settings, settings_of
from parsec_fs.identity import TrustAnchor
from parsec_fs.people_log import who
from parsec_fs.protocol.codec import decode
from parsec_fs.protocol.errors import DataError

Json = dict[str, Any]
_MAX_SIZE = 128 * 1024 * 1024


def log(
    context: typer.Context,
    path: Annotated[Path, typer.Argument(help="A file or folder in a mounted workspace.")],
) -> None:
    """Show who changed a file or folder, and when; newest first."""
    settings = settings_of(context)
    workspace, _ = running.by_path(settings, path)
    versions = running.ask(settings, workspace, "log", {"inode": _inode(path)})["versions"]
    rows = [
        [f"@{one['version']}", when(one["time_ms"]), *_by(one["author"]), one["state"]]
        for one in versions
    ]
    lines = table(["VERSION", "WHEN", "BY", "ON", "STATE"], rows)
    if not versions:
        lines = ["nothing of it is logged yet; see: parsec-fs wait"]
    settings.output.result({"versions": versions}, lines)


def _by(author: Json | None) -> list[str]:
    """Person and device."""
    return ["-", "-"] if author is None else [who(author), author["device"]]


def verify(
    context: typer.Context,
    workspace: Annotated[
        str | None, typer.Argument(help="Workspace or folder; default: the only mounted one.")
    ] = None,
) -> None:
    """Audit a mounted workspace now, and say what was verified."""
    settings = settings_of(context)
    found, _ = running.choose(settings, workspace)
    tell(settings, running.ask(settings, found, "verify"))


def tell(settings: Settings, report: Json) -> None:
    """What an audit found, then its exit code. Raises CommandError."""
    text = report.pop("text")
    settings.output.result(report, text.splitlines())
    check(settings, report)


def check(settings: Settings, report: Json) -> None:
    """Raises CommandError unless everything that is anchored was verified."""
    if report["word"] == "convicted":
        raise CommandError(
            ExitCode.TAMPERED,
            f"{report['reason']}. The workspace is frozen here; evidence: {settings.home.evidence}",
        )
    if not report["verified"]:
        reason = report["reason"] or "the log from before this device joined is being replayed"
        raise CommandError(_not_verified(report), f"not verified: {reason}")


def _not_verified(report: Json) -> ExitCode:
    if not report["epochs"] and report["word"] == "pending":
        return ExitCode.NOT_ANCHORED
    if "bootstrapped" in report["qualifiers"] and report["word"] in ("verified", "pending"):
        return ExitCode.PARTIAL
    return ExitCode.OFFLINE if report["word"] == "lagging" else ExitCode.FAILED


def proof(
    context: typer.Context,
    path: Annotated[
        Path | None, typer.Argument(help="A file or folder in a mounted workspace.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Where to write the proof.")
    ] = None,
    check: Annotated[
        Path | None, typer.Option(help="A proof, or a piece of evidence, to check offline.")
    ] = None,
    anchor: Annotated[
        Path | None, typer.Option(help="Your own trust anchor, of: parsec-fs org anchor FILE.")
    ] = None,
) -> None:
    """Write a proof of a file's newest version, or check one against your own anchor."""
    settings = settings_of(context)
    if check is not None:
        _check(settings, check, anchor)
    elif path is not None:
        _write(settings, path, output)
    else:
        raise CommandError(ExitCode.USAGE, "give a PATH, or --check FILE --anchor FILE")


def _write(settings: Settings, path: Path, output: Path | None) -> None:
    workspace, inside = running.by_path(settings, path)
    target = output or Path(f"{path.name}.proof")
    parameters = {"inode": _inode(path), "label": inside}
    answer = running.ask(settings, workspace, "proof", parameters)
    data = bytes.fromhex(answer["proof"])
    target.write_bytes(data)
    lines = [
        f"{target}: proof of {inside}, {len(data):,} bytes",
        *proof_notes(answer["qualifiers"]),
        f"check it anywhere: parsec-fs proof --check {target} --anchor ANCHOR",
    ]
    document = {"file": str(target), "size": len(data), "qualifiers": answer["qualifiers"]}
    settings.output.result(document, lines)


def _check(settings: Settings, file: Path, anchor: Path | None) -> None:
    if anchor is None:
        raise CommandError(
            ExitCode.USAGE, "--check needs --anchor FILE: your own, never one that came with it"
        )
    trusted = decode(TrustAnchor, _read(anchor))
    data = _read(file)
    if data.startswith(PROOF_FORMAT):
        found = check_proof(data, trusted)
        settings.output.result(proof_json(found), proof_text(found).splitlines())
        return
    verdict = check_offline(data, trusted)
    settings.output.result(verdict_json(verdict), verdict_text(verdict).splitlines())


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_SIZE + 1)
    except OSError as error:
        raise CommandError(ExitCode.NOT_FOUND, f"{path}: {error.strerror}") from error
    if len(data) > _MAX_SIZE:
        raise DataError(f"{path}: too large")
    return data


def _inode(path: Path) -> int:
    """Makes the kernel look the path up, so that the daemon has it in memory."""
    try:
        return os.stat(path, follow_symlinks=False).st_ino
    except OSError as error:
        raise CommandError(ExitCode.NOT_FOUND, f"{path}: {error.strerror}") from error


def when(time_ms: int) -> str:
    """A time of a log, in this machine's zone."""
    return datetime.fromtimestamp(time_ms / 1000).strftime("%Y-%m-%d %H:%M:%S")

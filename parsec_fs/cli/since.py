"""parsec-fs audit --since: who joined, left and changed roles, with epochs.

Data flow: every workspace audited (by its daemon, or without keys here) -> chronicle -> table.

A workspace that cannot be audited is named and the others are told of. What is shown was verified
when it was stored; how far the audit came is said of each workspace, and is the exit code.
"""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import trio

from parsec_fs.blind_audit import blind_audit
from parsec_fs.chronicle import Chronicle, titles_of
from parsec_fs.cli.exit_codes import CommandError, ExitCode, exit_code
from parsec_fs.cli.history import Json, check, when
from parsec_fs.cli.output import table
from parsec_fs.cli.running import serving
from parsec_fs.cli.settings import Settings
from parsec_fs.connection import Connection, connect
from parsec_fs.control import call
from parsec_fs.directory import Workspace, matching
from parsec_fs.discovery import find_all
from parsec_fs.identity import Identity
from parsec_fs.people_log import Event, Place, Since, author, event_text, parse_since
from parsec_fs.protocol.errors import ParsecFSError
from parsec_fs.storage.realm_store import RealmStore


@dataclass(slots=True, kw_only=True)
class _Collected:
    """What the workspaces gave."""

    events: list[Event] = field(default_factory=list)
    workspaces: list[Json] = field(default_factory=list)


def tell_since(settings: Settings, identity: Identity, asked: str, text: str | None) -> None:
    """The command. Raises CommandError: the worst of what the audits found."""
    since = parse_since(asked, now_ms=time.time_ns() // 1_000_000)
    document = trio.run(_collect, settings, identity, since, text)
    settings.output.clear()
    settings.output.result({"since": asked, **document}, _lines(document))
    _check(settings, document["workspaces"])


def chosen(
    named: Sequence[Workspace], closed: Sequence[Workspace], *, text: str | None
) -> Workspace:
    """The workspace of this name, or whose id begins so; without a text the only one. Raises
    CommandError."""
    everything = (*named, *closed)
    found = list(everything) if text is None else matching(everything, text)
    if len(found) == 1:
        return found[0]
    called = "" if text is None else f" called {text}"
    problem = f"{len(found)} workspaces are there{called}" if found else f"no workspace{called}"
    raise CommandError(ExitCode.NOT_FOUND, f"{problem}; see: parsec-fs workspace list")


async def _collect(settings: Settings, identity: Identity, since: Since, text: str | None) -> Json:
    async with connect(settings.home, identity) as connection:
        named, closed = await find_all(connection)
        wanted = (*named, *closed) if text is None else (chosen(named, closed, text=text),)
        chronicle = Chronicle(home=settings.home, connection=connection, since=since)
        collected = _Collected()
        for one in wanted:
            about: Json = {"name": one.title, "id": one.realm.hex()}
            try:
                about |= await _audit(settings, connection, one, chronicle, collected, text)
            except ParsecFSError as error:
                about |= {"error": str(error), "exit": int(exit_code(error))}
            collected.workspaces.append(about)
        await connection.org.pull()
        events = [*chronicle.of_org(), *collected.events]
        told = chronicle.told(events, titles_of((*named, *closed)))
        return {"events": told, "workspaces": collected.workspaces}


async def _audit(
    settings: Settings,
    connection: Connection,
    one: Workspace,
    chronicle: Chronicle,
    collected: _Collected,
    text: str | None,
) -> Json:
    """One workspace: what its audit says, and what happened in it."""

    def read(store: RealmStore) -> Json:
        collected.events += chronicle.of_realm(store)
        return {} if text is None else {"changes": chronicle.changes(store)}

    settings.output.progress(f"verifying {one.title}")
    paths = settings.home.workspace(one.realm)
    if serving(settings, one):
        report = await call(paths.socket, "verify")
        report.pop("text")
        store = RealmStore(paths.database, one.realm)
        try:
            return {**report, **read(store)}
        finally:
            store.close()
    async with blind_audit(settings.home, connection, one) as here:
        found = await here.run()
        return {**found.json(), **read(here.store)}


def _check(settings: Settings, workspaces: Iterable[Json]) -> None:
    """Raises CommandError: proven tampering before all else, one failure with its own code."""
    failures = []
    for one in workspaces:
        try:
            if "error" in one:
                raise CommandError(ExitCode(one["exit"]), f"{one['name']}: {one['error']}")
            check(settings, one)
        except CommandError as error:
            failures.append(error)
    proven = [one for one in failures if one.code is ExitCode.TAMPERED]
    if proven or len(failures) == 1:
        raise (proven or failures)[0]
    if failures:
        raise CommandError(ExitCode.PARTIAL, "; ".join(str(one) for one in failures))


def _lines(document: Json) -> list[str]:
    rows = [
        [_epoch(one), when(one["time_ms"]), event_text(one), author(one["by"])]
        for one in document["events"]
    ]
    lines = table(["EPOCH", "WHEN", "WHAT", "BY"], rows) if rows else ["nobody joined or changed"]
    for one in document["workspaces"]:
        lines += ["", *_changes(one["changes"])] if "changes" in one else []
    lines.append("")
    if not document["workspaces"]:
        lines.append("There is no workspace of yours: nothing was compared with the chain.")
    return lines + [_state(one) for one in document["workspaces"]]


def _changes(changes: list[Json]) -> list[str]:
    rows = [
        [
            _epoch(one),
            when(one["time_ms"]),
            author(one["by"]),
            f"{one['commits']:,}",
            f"{one['operations']:,}",
        ]
        for one in changes
    ]
    header = ["EPOCH", "LAST", "BY", "COMMITS", "OPERATIONS"]
    return table(header, rows) if rows else ["nothing in it was changed"]


def _state(one: Json) -> str:
    if "error" in one:
        return f"{one['name']}: not audited, {one['error']}"
    words = " ".join([one["word"], *(f"({word})" for word in one["qualifiers"])])
    reason = f": {one['reason']}" if one["reason"] else ""
    return f"{one['name']}: {words}, {one['epochs']:,} epochs{reason}"


def _epoch(document: Json) -> str:
    return Place(epoch=document["epoch"], before=document["before_epoch"]).cell()

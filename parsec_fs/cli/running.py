"""Talking to the daemons of mounted workspaces.

Data flow: command -> lock files (who runs) -> control socket -> answer.
"""

import os
from pathlib import Path
from typing import Any

import trio

from parsec_fs.cli.exit_codes import CommandError, ExitCode
from parsec_fs.cli.mountpoint import real_place
from parsec_fs.cli.settings import Settings
from parsec_fs.config import Home
from parsec_fs.control import call
from parsec_fs.directory import Workspace, known_workspaces, matching
from parsec_fs.identity import Identity
from parsec_fs.lockfile import Holder, holder
from parsec_fs.storage.org_store import OrgStore

Json = dict[str, Any]


def known(home: Home, identity: Identity) -> tuple[Workspace, ...]:
    """Workspaces known here, without the server."""
    store = OrgStore(home.org_database, identity.anchor.org)
    try:
        return known_workspaces(store, identity.secrets)
    finally:
        store.close()


def mounted(settings: Settings) -> list[tuple[Workspace, Holder]]:
    """Workspaces that a daemon serves now, by name."""
    identity = settings.device_file().load()
    found = []
    for workspace in known(settings.home, identity):
        running = holder(settings.home.workspace(workspace.realm).lock)
        if running is not None:
            found.append((workspace, running))
    return sorted(found, key=lambda one: one[0].name)


def serving(settings: Settings, workspace: Workspace) -> bool:
    """True iff a daemon answers for it; a command that only reads its log holds the lock too."""
    paths = settings.home.workspace(workspace.realm)
    return holder(paths.lock) is not None and paths.socket.exists()


def choose(settings: Settings, text: str | None) -> tuple[Workspace, Holder]:
    """The mounted workspace of this name, id or mountpoint; without one: the only mounted one.
    Raises CommandError."""
    running = mounted(settings)
    if text is None:
        if len(running) == 1:
            return running[0]
        what = "several workspaces are mounted: name one" if running else "nothing is mounted"
        raise CommandError(ExitCode.NOT_FOUND, f"{what}; see: parsec-fs status")
    named = {one.realm for one in matching(tuple(one for one, _ in running), text)}
    spellings = _spellings(Path(text))
    for workspace, found in running:
        if workspace.realm in named or real_place(Path(found.mountpoint)) in spellings:
            return workspace, found
    raise CommandError(ExitCode.NOT_FOUND, f"{text} is not mounted; see: parsec-fs status")


def by_path(settings: Settings, path: Path) -> tuple[Workspace, str]:
    """The mounted workspace that a path lies in, and the path inside it. Raises CommandError."""
    found = [(one, Path(where.mountpoint)) for one, where in mounted(settings)]
    found += [(one, real_place(where)) for one, where in found]
    for place in (path.absolute(), *_spellings(path)):
        around = [one for one in found if place.is_relative_to(one[1])]
        if around:
            # A workspace can be mounted inside another: the inner one is meant.
            workspace, mountpoint = max(around, key=lambda one: len(str(one[1])))
            return workspace, str(place.relative_to(mountpoint))
    raise CommandError(ExitCode.NOT_FOUND, f"{path} does not lie in a mounted workspace")


def _spellings(path: Path) -> tuple[Path, ...]:
    """Where a path lies in truth, without and with its last link followed."""
    return real_place(path.absolute()), Path(os.path.realpath(path))


def ask(
    settings: Settings, workspace: Workspace, command: str, parameters: Json | None = None
) -> Json:
    """Result of a daemon's command, with its progress shown."""
    socket = settings.home.workspace(workspace.realm).socket

    def progress(document: Json) -> None:
        settings.output.progress(str(document.get("text", "")))

    async def run() -> Json:
        return await call(socket, command, parameters, progress=progress)

    try:
        return trio.run(run)
    finally:
        settings.output.clear()

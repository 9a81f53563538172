"""parsec-fs mount, umount.

Data flow: names and folders -> checked -> daemon in the background -> ready.
"""

import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Final

import trio
import typer

from parsec_fs.cli import running
from parsec_fs.cli import service as service_file
from parsec_fs.cli.background import Reporter
from parsec_fs.cli.closing import unmount, wait_for_end
from parsec_fs.cli.exit_codes import CommandError, ExitCode, exit_code
from parsec_fs.cli.mounting import Json, arguments, at_once, check_not_running, places, start
from parsec_fs.cli.mountpoint import check_allow_other, clear_dead_mount, prepare
from parsec_fs.cli.settings import Settings, settings_of
from parsec_fs.config import CACHE_DEFAULT_SIZE, Consistency, Durability, MountOptions
from parsec_fs.control import CommandFailedError
from parsec_fs.device_lock import KeyFileLock, PassphraseLock, describe
from parsec_fs.directory import Workspace, matching
from parsec_fs.identity import Identity
from parsec_fs.protocol.errors import OfflineError, ParsecFSError, RemoteError
from parsec_fs.protocol.limits import MIB

_STARTING: Final = 4
"""Daemons that are started at the same time: most of it is waiting for the server and the chain."""

Done = tuple[Json, list[str]]
"""What a workspace's part of a command says, for programs and for people."""


def mount(
    context: typer.Context,
    workspace: Annotated[
        str, typer.Argument(help="Name of the workspace, or how its id begins; not with --all.")
    ],
    folder: Annotated[
        Path | None, typer.Argument(help="Empty folder to mount it on; made if missing.")
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="All workspaces, each in a folder of its own in FOLDER.")
    ] = False,
    service: Annotated[
        bool, typer.Option("--service", help="At every login from now on (systemd user service).")
    ] = False,
    foreground: Annotated[
        bool, typer.Option("--foreground", help="Stay here, log to this terminal.")
    ] = False,
    fsync: Annotated[Durability, typer.Option(help="What fsync waits for.")] = Durability.LOCAL,
    consistency: Annotated[
        Consistency, typer.Option(help="strict: open waits for what others logged before it.")
    ] = Consistency.LOCAL,
    cache: Annotated[
        int, typer.Option(min=64, help="Room for blocks here, waiting for upload or kept, in MiB.")
    ] = CACHE_DEFAULT_SIZE // MIB,
    allow_other: Annotated[
        bool, typer.Option("--allow-other", help="Let other users of this machine in.")
    ] = False,
    stored_owners: Annotated[
        bool,
        typer.Option("--stored-owners", help="Show owners as stored, not as the mounting user."),
    ] = False,
    ready_fd: Annotated[int | None, typer.Option(hidden=True)] = None,
    key_stdin: Annotated[bool, typer.Option("--key-stdin", hidden=True)] = False,
) -> None:
    """Mount a workspace on a folder."""
    settings = settings_of(context)
    if key_stdin:
        _take_key(settings)
    options = MountOptions(
        fsync=fsync,
        consistency=consistency,
        cache_size=cache * MIB,
        allow_other=allow_other,
        stored_owners=stored_owners,
    )
    if allow_other:
        check_allow_other(is_root=os.geteuid() == 0)
    wanted = _wanted(settings, workspace, folder, everything=everything)
    if ready_fd is not None or foreground:
        if len(wanted) != 1:
            raise CommandError(ExitCode.USAGE, "one workspace at a time can stay in the foreground")
        from parsec_fs.cli.serving import serve  # half a second that nothing else here waits for

        serve(settings.home, settings.device_file(), *wanted[0], options, Reporter(ready_fd))
    elif service:
        _check_unattended(settings)
        _each(settings, wanted, lambda one, place: _enable(settings, one, place, options))
    else:
        start_one = partial(_start, settings, options=options)
        _each(settings, wanted, start_one, most=_STARTING)


def _wanted(
    settings: Settings, word: str, folder: Path | None, *, everything: bool
) -> list[tuple[Workspace, Path]]:
    """Which workspaces go where. Raises CommandError."""
    identity = settings.device_file().load()
    if not everything:
        if folder is None:
            raise CommandError(ExitCode.USAGE, f"on which folder? parsec-fs mount {word} FOLDER")
        return [(_resolve(settings, identity, word), folder)]
    if folder is not None:
        raise CommandError(ExitCode.USAGE, "--all takes one folder: parsec-fs mount --all FOLDER")
    found = places(_all_workspaces(settings, identity), Path(os.path.abspath(word)))
    running_now = {one.realm for one, _ in running.mounted(settings)}
    free = [one for one in found if one[0].realm not in running_now]
    if not free:
        what = "all workspaces are mounted already" if found else "there is no workspace"
        raise CommandError(ExitCode.NOT_FOUND, f"{what}; see: parsec-fs workspace list")
    return free


def _all_workspaces(settings: Settings, identity: Identity) -> tuple[Workspace, ...]:
    """Those that the server knows of as well; without it those that are known here, which a device
    that was revoked can still read."""
    try:
        return trio.run(_ask, settings, identity)
    except OfflineError:
        settings.output.note("the server cannot be reached: workspaces shared lately are left out")
    except RemoteError as error:
        settings.output.note(f"! {error}")
    return running.known(settings.home, identity)


def _each(
    settings: Settings,
    wanted: list[tuple[Workspace, Path]],
    work: Callable[[Workspace, Path], Done],
    *,
    most: int = 1,
) -> None:
    """At most so many at a time. One alone fails with its own error; of several the others go
    on."""
    if len(wanted) == 1:
        settings.output.result(*work(*wanted[0]))
        return

    def try_one(item: tuple[Workspace, Path]) -> Done:
        try:
            return work(*item)
        except ParsecFSError as error:
            title = item[0].title
            document = {"workspace": title, "error": str(error), "exit": int(exit_code(error))}
            return document, [f"{title}: {error}"]

    done = at_once(most, try_one, wanted)
    documents = [document for document, _ in done]
    lines = [line for _, said in done for line in said]
    settings.output.result({"workspaces": documents}, lines)
    if any("error" in one for one in documents):
        sys.exit(ExitCode.PARTIAL)


def _start(settings: Settings, workspace: Workspace, place: Path, *, options: MountOptions) -> Done:
    ready = start(settings, workspace, place, options)
    lines = [
        f"mounted {workspace.title} at {os.path.abspath(place)} in {ready['seconds']:.1f} s",
        f"  see: parsec-fs status    unmount: parsec-fs umount {workspace.title}",
    ]
    return ready, lines


def _check_unattended(settings: Settings) -> None:
    """At a login nobody is asked. Raises CommandError."""
    lock = settings.device_file().lock()
    if isinstance(lock, PassphraseLock):
        raise CommandError(
            ExitCode.NOT_ALLOWED,
            f"this device's keys are opened by {describe(lock)}, which a service cannot ask for. "
            "Let the desktop's keyring open them: parsec-fs device keyring",
        )


def _enable(settings: Settings, workspace: Workspace, place: Path, options: MountOptions) -> Done:
    check_not_running(settings, workspace)
    place = prepare(place)
    name = service_file.unit_name(settings.home, workspace)
    called = arguments(settings, workspace, place, options)
    text = service_file.unit_text(settings.home, workspace, place, called)
    path = service_file.install(os.environ, name, text)
    lines = [
        f"{workspace.title} is mounted at {place}, now and at every login",
        f"  no more: systemctl --user disable --now {name}",
        "  also without a login, from the start of this machine: loginctl enable-linger",
    ]
    return {"workspace": workspace.title, "mountpoint": str(place), "unit": str(path)}, lines


def _take_key(settings: Settings) -> None:
    lock = settings.device_file().lock()
    if not isinstance(lock, KeyFileLock):
        settings.unlocking.take(lock, sys.stdin.buffer.read(64))


def _resolve(settings: Settings, identity: Identity, text: str) -> Workspace:
    """The workspace of this name or id, asking the server only if it is unknown here."""
    found = matching(running.known(settings.home, identity), text)
    if not found:
        found = matching(trio.run(_ask, settings, identity), text)
    if not found:
        _check_auditor(settings, identity, text)
    if len(found) != 1:
        problem = f"{len(found)} workspaces are called" if found else "there is no workspace"
        raise CommandError(ExitCode.NOT_FOUND, f"{problem} {text}; see: parsec-fs workspace list")
    return found[0]


def _check_auditor(settings: Settings, identity: Identity, text: str) -> None:
    """Raises CommandError if a workspace without a key for this user is meant."""
    closed = matching(trio.run(_ask_all, settings, identity)[1], text)
    if closed:
        raise CommandError(
            ExitCode.NOT_ALLOWED,
            f"there is no key of workspace {text} for you, so it cannot be mounted. As its "
            f"auditor, verify it: parsec-fs audit {text}. Otherwise the key is still to be made by "
            "a mounted device of a contributor, manager or owner: try again later",
        )


async def _ask(settings: Settings, identity: Identity) -> tuple[Workspace, ...]:
    return (await _ask_all(settings, identity))[0]


async def _ask_all(
    settings: Settings, identity: Identity
) -> tuple[tuple[Workspace, ...], tuple[Workspace, ...]]:
    from parsec_fs.connection import connect  # as below: only where the server is asked
    from parsec_fs.discovery import find_all

    async with connect(settings.home, identity) as connection:
        return await find_all(connection)


def umount(
    context: typer.Context,
    workspace: Annotated[
        str | None, typer.Argument(help="Workspace or folder; default: the only mounted one.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="All that are mounted.")] = False,
    no_wait: Annotated[
        bool, typer.Option("--no-wait", help="Do not wait for uploads; they are kept here.")
    ] = False,
) -> None:
    """Unmount a workspace, once everything in it is uploaded."""
    settings = settings_of(context)
    if workspace is not None and clear_dead_mount(Path(os.path.abspath(workspace))):
        lines = ["removed a mount whose daemon had died; its changes are kept on this device"]
        settings.output.result({"unmounted": True, "dead": True}, lines)
        return
    if everything and workspace is not None:
        raise CommandError(ExitCode.USAGE, "name a workspace, or all of them (--all), not both")
    chosen = running.mounted(settings) if everything else [running.choose(settings, workspace)]
    if not chosen:
        raise CommandError(ExitCode.NOT_FOUND, "nothing is mounted; see: parsec-fs status")
    pending: list[int] = []

    def end(one: Workspace, place: Path) -> Done:
        pending.append(_end(settings, one, str(place), no_wait=no_wait))
        left = pending[-1]
        rest = "nothing pending" if not left else f"{left} changes wait on this device"
        document = {"unmounted": True, "dead": False, "pending": left}
        return document, [f"unmounted {one.title}, {rest}"]

    _each(settings, [(one, Path(found.mountpoint)) for one, found in chosen], end)
    if any(pending):
        sys.exit(ExitCode.PENDING)


def _end(settings: Settings, workspace: Workspace, mountpoint: str, *, no_wait: bool) -> int:
    """Unmount, and wait for the daemon; how many changes are left on this device."""
    if not no_wait:
        waited = _wait_logged(settings, workspace)
        pending = int(waited.get("local", 0))
    else:
        pending = int(running.ask(settings, workspace, "status")["changes"]["local"])
    unmount(mountpoint)
    wait_for_end(settings.home.workspace(workspace.realm).lock)
    return pending


def _wait_logged(settings: Settings, workspace: Workspace) -> Json:
    try:
        return running.ask(settings, workspace, "wait", {"state": "logged"})
    except CommandFailedError as error:
        if error.exit != ExitCode.REVOKED:
            raise
        raise CommandError(
            ExitCode.REVOKED,
            f"{workspace.title} stays mounted: {error}. To unmount it with what is left, which "
            f"stays on this device: parsec-fs umount --no-wait {workspace.title}",
        ) from error

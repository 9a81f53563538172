"""parsec-fs mount, umount.

Data flow: names and folders -> checked -> daemon in the background -> ready.
"""

import logging
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, Final

import trio
import typer

from parsec_fs.cli import running
from parsec_fs.cli.background import Reporter, start_daemon
from parsec_fs.cli.exit_codes import CommandError, ExitCode, exit_code, first_cause
from parsec_fs.cli.log_format import PlainFormatter
from parsec_fs.cli.mountpoint import check_allow_other, clear_dead_mount, prepare
from parsec_fs.cli.settings import Settings, settings_of
from parsec_fs.config import CACHE_DEFAULT_SIZE, Consistency, Durability, MountOptions
from parsec_fs.device_lock import KeyFileLock
from parsec_fs.directory import Workspace, matching
from parsec_fs.identity import Identity
from parsec_fs.lockfile import holder, last_mountpoint
from parsec_fs.protocol.limits import MIB

_END_S: Final = 30.0
_LOG_FORMAT: Final = "%(asctime)s level=%(levelname)s logger=%(name)s %(message)s"


def mount(
    context: typer.Context,
    workspace: Annotated[str, typer.Argument(help="Name of the workspace, or how its id begins.")],
    folder: Annotated[Path, typer.Argument(help="Empty folder to mount it on; made if missing.")],
    foreground: Annotated[
        bool, typer.Option("--foreground", help="Stay here, log to this terminal.")
    ] = False,
    fsync: Annotated[Durability, typer.Option(help="What fsync waits for.")] = Durability.LOCAL,
    consistency: Annotated[
        Consistency, typer.Option(help="strict: open waits for what others logged before it.")
    ] = Consistency.LOCAL,
    cache: Annotated[
        int, typer.Option(min=64, help="Room for downloaded and uploaded blocks, in MiB.")
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
    found = _resolve(settings, settings.device_file().load(), workspace)
    if ready_fd is not None or foreground:
        _serve(settings, found, folder, options, Reporter(ready_fd))
        return
    _check_not_running(settings, found)
    place = prepare(folder)
    started = time.monotonic()
    log = settings.home.workspace(found.realm).log
    arguments = ["--home", str(settings.home.root), "mount", found.realm.hex(), str(place)]
    arguments += ["--fsync", fsync, "--consistency", consistency, "--cache", str(cache)]
    arguments += ["--allow-other"] * allow_other + ["--stored-owners"] * stored_owners
    secret = _key_to_hand_over(settings)
    arguments += ["--key-stdin"] * bool(secret)
    ready = start_daemon(arguments, log, settings.output.progress, secret=secret)
    seconds = time.monotonic() - started
    lines = [
        f"mounted {found.title} at {place} in {seconds:.1f} s",
        f"  see: parsec-fs status    unmount: parsec-fs umount {found.title}",
    ]
    settings.output.result({**ready, "log": str(log), "seconds": round(seconds, 3)}, lines)


def _key_to_hand_over(settings: Settings) -> bytes:
    """The child has no terminal to ask at. What lies in a key file it reads itself."""
    file = settings.device_file()
    return b"" if isinstance(file.lock(), KeyFileLock) else file.file_key()


def _take_key(settings: Settings) -> None:
    lock = settings.device_file().lock()
    if not isinstance(lock, KeyFileLock):
        settings.unlocking.take(lock, sys.stdin.buffer.read(64))


def _resolve(settings: Settings, identity: Identity, text: str) -> Workspace:
    """The workspace of this name or id, asking the server only if it is unknown here."""
    found = matching(running.known(settings.home, identity), text)
    if not found:
        found = matching(trio.run(_ask, settings, identity), text)
    if len(found) != 1:
        problem = f"{len(found)} workspaces are called" if found else "there is no workspace"
        raise CommandError(ExitCode.NOT_FOUND, f"{problem} {text}; see: parsec-fs workspace list")
    return found[0]


async def _ask(settings: Settings, identity: Identity) -> tuple[Workspace, ...]:
    from parsec_fs.connection import connect  # as below: only where the server is asked
    from parsec_fs.discovery import find_workspaces

    async with connect(settings.home, identity) as connection:
        return await find_workspaces(connection)


def _check_not_running(settings: Settings, workspace: Workspace) -> None:
    """Also takes away what a daemon that died left mounted somewhere else."""
    lock = settings.home.workspace(workspace.realm).lock
    running_now = holder(lock)
    if running_now is not None:
        raise CommandError(
            ExitCode.BUSY, f"{workspace.title} is mounted already at {running_now.mountpoint}"
        )
    last = last_mountpoint(lock)
    if last is not None:
        clear_dead_mount(Path(last))


def _serve(
    settings: Settings,
    workspace: Workspace,
    folder: Path,
    options: MountOptions,
    reporter: Reporter,
) -> None:
    from parsec_fs.daemon import Daemon  # half a second that no other command waits for

    handler = logging.StreamHandler()
    handler.setFormatter(PlainFormatter(_LOG_FORMAT))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        daemon = Daemon(
            home=settings.home,
            identity=settings.device_file().load(),
            named=workspace,
            mountpoint=prepare(folder),
            options=options,
            reporter=reporter,
        )
        trio.run(daemon.run)
    except BaseException as error:
        _tell(reporter, first_cause(error))
        raise


def _tell(reporter: Reporter, error: BaseException) -> None:
    reporter.error(str(error) or type(error).__name__, exit_code(error))


def umount(
    context: typer.Context,
    workspace: Annotated[
        str | None, typer.Argument(help="Workspace or folder; default: the only mounted one.")
    ] = None,
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
    found, running_now = running.choose(settings, workspace)
    pending = 0
    if not no_wait:
        waited = running.ask(settings, found, "wait", {"state": "logged"})
        pending = int(waited.get("local", 0))
    else:
        pending = int(running.ask(settings, found, "status")["changes"]["local"])
    _unmount(running_now.mountpoint)
    _wait_for_end(settings, found)
    rest = "nothing pending" if not pending else f"{pending} changes wait on this device"
    document = {"unmounted": True, "dead": False, "pending": pending}
    settings.output.result(document, [f"unmounted {found.title}, {rest}"])
    if pending:
        sys.exit(ExitCode.PENDING)


def _unmount(mountpoint: str) -> None:
    """Not lazily: a folder that is in use stays mounted. Raises CommandError."""
    done = subprocess.run(
        ["fusermount3", "-u", "--", mountpoint], capture_output=True, text=True, timeout=60
    )
    if done.returncode:
        reason = done.stderr.strip().removeprefix("fusermount3: ")
        raise CommandError(
            ExitCode.BUSY,
            f"{mountpoint} stays mounted: {reason}. Who uses it: fuser -vm {mountpoint}",
        )


def _wait_for_end(settings: Settings, workspace: Workspace) -> None:
    lock = settings.home.workspace(workspace.realm).lock
    deadline = time.monotonic() + _END_S
    while holder(lock) is not None:
        if time.monotonic() > deadline:
            raise CommandError(ExitCode.TIMEOUT, "unmounted, but its daemon is still busy")
        time.sleep(0.02)

"""parsec-fs unlock, lock, and the agent that they talk to.

Data flow: passphrase -> file key, checked -> agent in the background -> later commands.
"""

import os
import re
from typing import Annotated, Final

import trio
import typer

from parsec_fs.agent import Agent, agent_lock, agent_sockets, ends_with_session, harden
from parsec_fs.cli.background import Reporter, start_daemon
from parsec_fs.cli.exit_codes import CommandError, ExitCode, exit_code
from parsec_fs.cli.settings import Settings, settings_of
from parsec_fs.control import CommandFailedError
from parsec_fs.device_lock import PassphraseLock, describe, lock_name
from parsec_fs.lockfile import held
from parsec_fs.protocol.errors import InputError, OfflineError, ParsecFSError

_UNITS: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}


def seconds(text: str) -> int:
    """`90`, `30m`, `8h`, `1d` in seconds; 0 means never. Raises InputError."""
    found = re.fullmatch(r"(\d{1,9})([smhd]?)", text.strip())
    if not found:
        raise InputError(f"{text}: a time is a number with s, m, h or d, for example 30m")
    return int(found[1]) * _UNITS[found[2]]


def unlock(
    context: typer.Context,
    idle: Annotated[
        str, typer.Option(help="Lock again when no command asked for that long: 30m, 8h; 0: never.")
    ] = "0",
) -> None:
    """Unlock this device for the login session: commands ask for no passphrase any more."""
    settings = settings_of(context)
    idle_s = seconds(idle)
    lock = settings.device_file().lock()
    if not isinstance(lock, PassphraseLock):
        raise CommandError(
            ExitCode.USAGE,
            f"this device's keys are opened by {describe(lock)}: there is nothing to unlock. "
            "Protect them: parsec-fs device passphrase set",
        )
    key = settings.unlocking.ask(lock)
    settings.device_file().check_key(lock, key)
    _ensure_agent(settings)
    given = {"lock": lock_name(lock), "key": key.hex(), "idle_s": idle_s}
    settings.unlocking.agent("hold", given)
    until = "until you log out" if ends_with_session(settings.home) else "until a restart"
    until = f"until nobody asked for {idle}" if idle_s else until
    lines = [f"Unlocked {until}, or you type: parsec-fs lock"]
    settings.output.result({"unlocked": True, "idle_s": idle_s}, lines)


def _ensure_agent(settings: Settings) -> None:
    try:
        settings.unlocking.agent("state")
    except (OfflineError, CommandFailedError):
        arguments = ["--home", str(settings.home.root), "agent"]
        log = settings.home.device / "agent.log"
        start_daemon(arguments, log, settings.output.progress)


def lock(context: typer.Context) -> None:
    """Forget what `unlock` opened. Mounted workspaces stay mounted until they are unmounted."""
    settings = settings_of(context)
    was = forget(settings)
    lines = ["Locked. What is mounted stays mounted: parsec-fs umount"]
    if not was:
        lines = ["Nothing was unlocked."]
    settings.output.result({"unlocked": False, "was_unlocked": was}, lines)


def forget(settings: Settings) -> bool:
    """End the agent, if there is one; was there?"""
    try:
        settings.unlocking.agent("lock")
    except (OfflineError, CommandFailedError):
        return False
    return True


def agent(
    context: typer.Context, ready_fd: Annotated[int | None, typer.Option(hidden=True)] = None
) -> None:
    """Hold the key of an unlocked device; started by `unlock`."""
    settings, reporter = settings_of(context), Reporter(ready_fd)
    path = agent_sockets(settings.home, os.environ)[0]
    harden()

    async def run() -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(Agent().serve, path)
            reporter.ready({"socket": str(path)})

    try:
        with held(agent_lock(settings.home), str(path)):
            trio.run(run)
    except ParsecFSError as error:
        reporter.error(str(error), exit_code(error))
        raise

"""parsec-fs unlock, lock, and the agent that they talk to.

Data flow: passphrase -> file key, checked -> agent in the background -> later commands.
"""

import os
import re
import sys
import time
from typing import Annotated, Any, Final

import trio
import typer

from parsec_fs.agent import (
    Agent,
    agent_lock,
    agent_sockets,
    ends_with_session,
    harden,
    running_agent,
)
from parsec_fs.cli.background import Reporter, start_daemon
from parsec_fs.cli.closing import Closed, OpenMount, close, open_mounts, unused_s
from parsec_fs.cli.exit_codes import CommandError, ExitCode, exit_code
from parsec_fs.cli.output import count_text
from parsec_fs.cli.settings import Settings, settings_of
from parsec_fs.control import CommandFailedError
from parsec_fs.device_lock import PassphraseLock, describe, lock_name
from parsec_fs.lockfile import held
from parsec_fs.protocol.errors import InputError, OfflineError, ParsecFSError

Json = dict[str, Any]
_LOOK_S: Final = 30.0
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
    umount: Annotated[
        bool,
        typer.Option(
            "--umount",
            help="When it locks by itself, also unmount what nobody used for that long.",
        ),
    ] = False,
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
    if umount and not idle_s and not _has_session(settings):
        raise CommandError(
            ExitCode.USAGE,
            "no login session ends here, so --umount needs a time: --idle 30m --umount",
        )
    key = settings.unlocking.ask(lock)
    settings.device_file().check_key(lock, key)
    _ensure_agent(settings)
    given = {"lock": lock_name(lock), "key": key.hex(), "idle_s": idle_s, "umount": umount}
    settings.unlocking.agent("hold", given)
    until = "until you log out" if ends_with_session(settings.home) else "until a restart"
    until = f"until nobody asked for {idle}" if idle_s else until
    lines = [f"Unlocked {until}, or you type: parsec-fs lock"]
    if umount:
        which = f" that nobody used for {idle}" if idle_s else ""
        lines.append(f"Mounted workspaces{which} are unmounted then, too.")
    settings.output.result({"unlocked": True, "idle_s": idle_s, "umount": umount}, lines)


def _has_session(settings: Settings) -> bool:
    """Does an agent that is started now end with the login session?"""
    return len(agent_sockets(settings.home, os.environ)) > 1


def _ensure_agent(settings: Settings) -> None:
    try:
        settings.unlocking.agent("state")
    except (OfflineError, CommandFailedError):
        arguments = ["--home", str(settings.home.root), "agent"]
        log = settings.home.device / "agent.log"
        start_daemon(arguments, log, settings.output.progress)


def lock(
    context: typer.Context,
    umount: Annotated[
        bool, typer.Option("--umount", help="Unmount all workspaces as well, without waiting.")
    ] = False,
) -> None:
    """Forget what `unlock` opened. Mounted workspaces stay open, unless `--umount` is given."""
    settings = settings_of(context)
    was = forget(settings)
    document: Json = {"unlocked": False, "was_unlocked": was}
    lines = ["Locked." if was else "Nothing was unlocked."]
    mounts = open_mounts(settings.home)
    if not umount:
        document["mounted"] = [one.json() for one in mounts]
        for one in mounts:
            lines.append(f"{one.title} stays open at {one.mountpoint}, for whoever sits here")
        lines += ["Unmount as well: parsec-fs lock --umount"] * bool(mounts)
        settings.output.result(document, lines)
        return
    closed, busy = _close_all(mounts)
    document |= _closed_json(closed) | {"mounted": [one.json() for one, _ in busy]}
    settings.output.result(document, [*lines, *_closed_lines(closed)])
    _end_by(closed, busy)


def _close_all(
    mounts: list[OpenMount],
) -> tuple[list[Closed], list[tuple[OpenMount, CommandError]]]:
    """What was unmounted, and what is in use."""
    closed = []
    busy = []
    for one in mounts:
        try:
            closed.append(close(one))
        except CommandError as error:
            busy.append((one, error))
    return closed, busy


def _closed_json(closed: list[Closed]) -> Json:
    """What is gone, and apart from it that whose process still runs, with the keys."""
    return {
        "unmounted": [{**one.mount.json(), "pending": one.pending} for one in closed if one.ended],
        "ending": [
            {**one.mount.json(), "pending": one.pending, "pid": one.mount.pid}
            for one in closed
            if not one.ended
        ],
    }


def _closed_lines(closed: list[Closed]) -> list[str]:
    return [
        f"unmounted {one.mount.title}, {_left_text(one)}"
        if one.ended
        else f"{one.mount.title} is not mounted now, but its process {one.mount.pid} still runs; "
        + _left_text(one)
        for one in closed
    ]


def _left_text(one: Closed) -> str:
    """The count is from before the unmount: a program may have written until then."""
    if one.pending is None:
        return "unknown how many changes were not sent; they are kept here"
    if not one.pending:
        return "nothing was pending just before"
    changes = count_text(one.pending, "change")
    return f"at least {changes} kept here, to be sent after the next mount"


def _end_by(closed: list[Closed], busy: list[tuple[OpenMount, CommandError]]) -> None:
    """The exit code that asks for most. Raises CommandError, SystemExit."""
    if busy:
        raise CommandError(ExitCode.BUSY, "; ".join(str(error) for _, error in busy))
    running = [str(one.mount.pid) for one in closed if not one.ended]
    if running:
        raise CommandError(
            ExitCode.TIMEOUT,
            f"not ended yet, with keys in memory: process {', '.join(running)}. Nothing is lost. "
            "Look again: parsec-fs lock --umount",
        )
    if any(one.pending != 0 for one in closed):
        sys.exit(ExitCode.PENDING)


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
    keeper = Agent()

    async def run() -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(keeper.serve, path)
            reporter.ready({"socket": str(path)})

    try:
        with held(agent_lock(settings.home), str(path)):
            trio.run(run)
    except ParsecFSError as error:
        reporter.error(str(error), exit_code(error))
        raise
    if not keeper.leaves_mounts():
        _close_unused(settings, keeper.unused_s)


def _close_unused(settings: Settings, limit_s: float) -> None:
    """Unmount each workspace once nobody has used it for that long, until none is left, or somebody
    has unlocked again. The key is forgotten already; what is said goes to the agent's log."""
    pause_s = min(_LOOK_S, max(1.0, limit_s / 10))
    told: set[str] = set()
    while (mounts := open_mounts(settings.home)) and running_agent(settings.home) is None:
        unused, silent = _unused(mounts, limit_s)
        closed, busy = _close_all(unused)
        lines = {*silent, *_closed_lines(closed), *(str(error) for _, error in busy)}
        for line in sorted(lines - told):
            print(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}", file=sys.stderr, flush=True)
        told = lines
        if len(closed) < len(mounts) or not all(one.ended for one in closed):
            time.sleep(pause_s)


def _unused(mounts: list[OpenMount], limit_s: float) -> tuple[list[OpenMount], list[str]]:
    """Which of them nobody has used for that long, and a line for each that does not say."""
    unused, silent = [], []
    for one in mounts:
        seconds_unused = unused_s(one)
        if seconds_unused is None and limit_s:
            silent.append(f"{one.mountpoint} is left as it is: its daemon does not answer")
        elif not limit_s or (seconds_unused or 0) >= limit_s:
            unused.append(one)
    return unused, silent

"""Starting one daemon, and where many workspaces go: the parts of `mount` that are no options.

Data flow: mount command -> places -> checked -> daemon in the background -> what it said.
"""

import re
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeVar

from parsec_fs.cli.background import order_daemon, start_daemon
from parsec_fs.cli.early import Orders
from parsec_fs.cli.exit_codes import CommandError, ExitCode
from parsec_fs.cli.mountpoint import clear_dead_mount, prepare
from parsec_fs.cli.settings import Settings
from parsec_fs.config import MountOptions
from parsec_fs.device_lock import KeyFileLock
from parsec_fs.directory import Workspace
from parsec_fs.lockfile import holder, last_mountpoint
from parsec_fs.protocol.limits import MIB

Json = dict[str, Any]
T = TypeVar("T")
R = TypeVar("R")
_NAME_MAX: Final = 100
"""Characters of a workspace's name in its folder's name: at most 400 bytes become too many."""

_UNFIT: Final = re.compile(r"[/\x00-\x1f\x7f]")


def places(workspaces: Iterable[Workspace], parent: Path) -> list[tuple[Workspace, Path]]:
    """A folder of its own below `parent` for each, named after the workspace.

    A name that somebody else chose leads nowhere else. Two workspaces of the same name get the
    beginning of their ids; and all of them where that is the same, or the name of a third: whoever
    chooses names and ids puts no workspace in the place of another.
    """
    ordered = sorted(workspaces, key=lambda one: (one.title, one.realm))
    names = [_folder_name(one) for one in ordered]
    for length in (8, 64):
        names = [
            name if names.count(name) == 1 else f"{_folder_name(one)} {one.realm.hex()[:length]}"
            for one, name in zip(ordered, names, strict=True)
        ]
    return [(one, parent / name) for one, name in zip(ordered, names, strict=True)]


def _folder_name(workspace: Workspace) -> str:
    name = _UNFIT.sub("_", workspace.title)[:_NAME_MAX]
    while len(name.encode()) > 2 * _NAME_MAX:
        name = name[:-1]
    return workspace.realm.hex()[:8] if name.strip(". ") == "" else name


def at_once(most: int, work: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """The work for each, in order, at most so many at a time. Where one raises, those that have
    not begun do not, and it is raised when those that have begun are done."""
    if most < 2:
        return [work(one) for one in items]
    with ThreadPoolExecutor(max_workers=most) as pool:
        done = [pool.submit(work, one) for one in items]
        try:
            return [one.result() for one in done]
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def arguments(
    settings: Settings, workspace: Workspace, place: Path, options: MountOptions
) -> list[str]:
    """What `parsec-fs` is called with to serve a workspace, after the program's name."""
    chosen = ["--home", str(settings.home.root), "mount", workspace.realm.hex(), str(place)]
    chosen += ["--fsync", options.fsync, "--consistency", options.consistency]
    chosen += ["--cache", str(options.cache_size // MIB)]
    chosen += ["--allow-other"] * options.allow_other
    return chosen + ["--stored-owners"] * options.stored_owners


def start(settings: Settings, workspace: Workspace, folder: Path, options: MountOptions) -> Json:
    """Mount one workspace, served in the background; what its daemon said. Raises CommandError."""
    check_not_running(settings, workspace)
    place = prepare(folder)
    started = time.monotonic()
    log = settings.home.workspace(workspace.realm).log
    secret = _key_to_hand_over(settings)
    early, progress = settings.early, settings.output.progress
    if early is not None and early.take():
        orders = _orders(settings, workspace, place, options, secret)
        ready = order_daemon(early, orders, log, progress)
    else:
        called = arguments(settings, workspace, place, options)
        called += ["--key-stdin"] * bool(secret)
        ready = start_daemon(called, log, progress, secret=secret)
    return {**ready, "log": str(log), "seconds": round(time.monotonic() - started, 3)}


def _orders(
    settings: Settings, workspace: Workspace, place: Path, options: MountOptions, key: bytes
) -> Orders:
    return Orders(
        home=str(settings.home.root),
        realm=workspace.realm.hex(),
        name=workspace.name.hex(),
        place=str(place),
        log=str(settings.home.workspace(workspace.realm).log),
        fsync=options.fsync,
        consistency=options.consistency,
        cache_size=options.cache_size,
        allow_other=options.allow_other,
        stored_owners=options.stored_owners,
        key=key.hex(),
    )


def _key_to_hand_over(settings: Settings) -> bytes:
    """The child has no terminal to ask at. What lies in a key file it reads itself."""
    file = settings.device_file()
    return b"" if isinstance(file.lock(), KeyFileLock) else file.file_key()


def check_not_running(settings: Settings, workspace: Workspace) -> None:
    """Also takes away what a daemon that died left mounted somewhere else. Raises CommandError."""
    lock = settings.home.workspace(workspace.realm).lock
    running_now = holder(lock)
    if running_now is not None:
        raise CommandError(
            ExitCode.BUSY, f"{workspace.title} is mounted already at {running_now.mountpoint}"
        )
    last = last_mountpoint(lock)
    if last is not None:
        clear_dead_mount(Path(last))

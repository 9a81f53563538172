"""Mounting, serving, and unmounting without ever hanging.

Data flow: daemon -> `serve` -> pyfuse3 main loop -> mount/operations.
"""

import contextlib
import ctypes
import gc
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pyfuse3
import trio

from parsec_fs.mount import loop
from parsec_fs.mount.attributes import Attributes
from parsec_fs.mount.control import Facts, LocalFacts
from parsec_fs.mount.notify import Notifier
from parsec_fs.mount.operations import Operations
from parsec_fs.mount.strict import StrictOperations
from parsec_fs.mount.watchers import Watchers
from parsec_fs.workspace.filesystem import Filesystem
from parsec_fs.workspace.gate import Gate
from parsec_fs.workspace.remote_changes import Invalidation

log = logging.getLogger(__name__)

GRACE_S: Final = 5.0
"""How long requests in progress may take once unmounting has begun."""

GC_THRESHOLDS: Final = (100_000, 50, 100)
"""The hot path makes no cycles; collections would only look at the tree again and again."""

KEPT_FREE: Final = 32 * 1024 * 1024
"""Bytes of freed memory that stay with the process."""

READ_AHEAD_KIB: Final = 1024

_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
"""Parameters of glibc's mallopt(3)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MountOptions:
    """How a workspace is mounted. `own_files`: show everything as the mounting user's."""

    mountpoint: str
    allow_other: bool = False
    own_files: bool = True
    read_only: bool = False
    spin_ns: int = loop.SPIN_NS

    def for_fuse(self) -> set[str]:
        """Mount options for libfuse."""
        options = {"default_permissions", "nodev", "nosuid", "fsname=parsec-fs", "subtype=parsec"}
        if self.allow_other or os.geteuid() == 0:
            options.add("allow_other")
        if self.read_only:
            options.add("ro")
        return options


@dataclass(frozen=True, slots=True, kw_only=True)
class Mounted:
    """What the daemon holds of a served mount."""

    operations: Operations
    notifier: Notifier
    watchers: Watchers
    poller: loop.PollFirst

    def changed(self, items: list[Invalidation]) -> None:
        """Not by a request: what the kernel must forget, and those who watch are told of."""
        self.notifier.send(items)
        self.watchers.tell(items)


async def serve(
    filesystem: Filesystem,
    options: MountOptions,
    *,
    gate: Gate | None = None,
    facts: Facts | None = None,
    task_status: trio.TaskStatus[Mounted] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Mount and serve until unmounted from outside or cancelled; always leaves it unmounted."""
    owner = (os.getuid(), os.getgid()) if options.own_files else None
    poller = loop.install(filesystem.contents.workers, options.spin_ns)
    filesystem.syncs.nobody_waits = poller.nobody_waits
    gate = gate or Gate()
    kind = Operations if gate.before_open is None else StrictOperations
    operations = kind(filesystem, gate, facts or LocalFacts(filesystem.tree), Attributes(owner))
    pyfuse3.init(operations, options.mountpoint, options.for_fuse())
    operations.stage.on_own = poller.discount
    notifier = Notifier()
    watchers = Watchers(
        filesystem, operations.stage, notifier, options.mountpoint, read_only=options.read_only
    )
    mounted = Mounted(operations=operations, notifier=notifier, watchers=watchers, poller=poller)
    _calm_memory()
    try:
        task_status.started(mounted)
        await _main(mounted, options.mountpoint)
    finally:
        notifier.close()
        pyfuse3.close(unmount=True)


async def _main(mounted: Mounted, mountpoint: str) -> None:
    """pyfuse3's main loop. Cancelled: no new requests, a short while for those in progress."""
    finished = trio.Event()

    async def run(scope: trio.CancelScope) -> None:
        with scope:
            await pyfuse3.main()
        finished.set()

    async with trio.open_nursery() as nursery:
        scope = trio.CancelScope(shield=True)
        nursery.start_soon(run, scope)
        nursery.start_soon(_read_ahead_far, mounted.operations, mountpoint)
        nursery.start_soon(mounted.watchers.run)
        try:
            await finished.wait()
            nursery.cancel_scope.cancel()
        finally:
            if not finished.is_set():
                pyfuse3.terminate()
                scope.deadline = trio.current_time() + GRACE_S


async def _read_ahead_far(operations: Operations, mountpoint: str) -> None:
    """Let the kernel read whole blocks ahead, where this process may say so (root).

    Only after the first exchange with the kernel, which sets its own limit.
    """
    await operations.initialised.wait()
    with contextlib.suppress(OSError, IndexError):
        _set_read_ahead(mountpoint)


def _set_read_ahead(mountpoint: str) -> None:
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as mounts:
        lines = [line.split() for line in mounts]
    wanted = os.path.abspath(mountpoint).replace(" ", "\\040")
    devices = [fields[2] for fields in lines if fields[4] == wanted]
    Path(f"/sys/class/bdi/{devices[-1]}/read_ahead_kb").write_text(str(READ_AHEAD_KIB))


def _calm_memory() -> None:
    """What is loaded stays: no collection needs to look at it again (decisions.md 6).

    And blocks of 1 MiB come from memory that was used before: handing each back to the system and
    faulting it in again takes as long as encrypting it.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_TRIM_THRESHOLD, KEPT_FREE)
        mallopt(_M_MMAP_THRESHOLD, KEPT_FREE)

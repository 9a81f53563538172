"""Signals to a daemon: SIGTERM and SIGINT end it, SIGUSR1 shows where every task and thread is.

Data flow: operating system -> these -> cancellation, log.
"""

import faulthandler
import logging
import os
import signal
import traceback
from collections.abc import Iterator

import trio

log = logging.getLogger(__name__)


def know_children() -> None:
    """Let ended children be waited for, whatever was inherited: where SIGCHLD is ignored the system
    reaps them at once, and their numbers may be another process's before this one knows."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)


async def stop_on_signal(scope: trio.CancelScope) -> None:
    """Cancel `scope` at the first SIGTERM or SIGINT."""
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for number in signals:
            log.info("event=stopping signal=%s", signal.Signals(number).name)
            scope.cancel()


async def dump_on_signal() -> None:
    """At SIGUSR1 write the stacks of all tasks to the log, and those of all threads to stderr,
    which works even while the event loop is stuck."""
    with trio.open_signal_receiver(signal.SIGUSR1) as signals:
        faulthandler.register(signal.SIGUSR1, all_threads=True, chain=True)
        try:
            async for _ in signals:
                log.info("event=stacks\n%s", "\n".join(task_lines()))
        finally:
            faulthandler.unregister(signal.SIGUSR1)


def task_lines() -> Iterator[str]:
    """Every task with the place where it waits."""
    root = trio.lowlevel.current_root_task()
    stack = [(root, 0)] if root else []
    while stack:
        task, depth = stack.pop()
        yield f"{'  ' * depth}{task.name}{_place(task)}"
        stack += [
            (one, depth + 1) for nursery in task.child_nurseries for one in nursery.child_tasks
        ]


def _place(task: trio.lowlevel.Task) -> str:
    """Where it waits, innermost first, without the frames of the event loop itself."""
    loop = os.path.dirname(trio.__file__)
    summary = traceback.StackSummary.extract(task.iter_await_frames())
    ours = [one for one in summary if not one.filename.startswith(loop)]
    places = [f"{one.filename}:{one.lineno} in {one.name}" for one in reversed(ours[-4:])]
    return "".join(f"\n{'  ' * 8}{place}" for place in places)

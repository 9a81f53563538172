"""A daemon in the background: started in its own session, watched until it is ready.

Data flow: mount command -> `start_daemon` -> child -> `Reporter` over a pipe -> mount command.

The child writes JSON lines: progress, then ready or an error with its exit code. A child that ends
without either has its last log lines shown. Nothing secret is in its arguments or environment: the
key of a locked device file goes to its standard input.
"""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from parsec_fs.cli.early import Early, Orders
from parsec_fs.cli.exit_codes import CommandError, ExitCode
from parsec_fs.cli.service import notify_ready

Json = dict[str, Any]
_LOG_LINES = 10


class Reporter:
    """The child's end of the pipe; without one (foreground) it says nothing."""

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor

    def progress(self, text: str) -> None:
        """What it is doing."""
        self._write({"progress": text})

    def ready(self, document: Json) -> None:
        """It serves; the last thing that is said, also to a service manager."""
        if self._descriptor is None:
            notify_ready(os.environ)
        self._write({"ready": document})
        self._close()

    def error(self, message: str, code: ExitCode) -> None:
        """It ends before it is ready."""
        self._write({"error": message, "exit": int(code)})
        self._close()

    def _write(self, document: Json) -> None:
        if self._descriptor is not None:
            try:
                os.write(self._descriptor, json.dumps(document).encode() + b"\n")
            except BrokenPipeError:
                self._close()

    def _close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def order_daemon(early: Early, orders: Orders, log: Path, progress: Callable[[str], None]) -> Json:
    """Let a child that is loading already serve; what it said when it was ready. Raises
    CommandError."""
    log.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        early.order(orders)
        ready = _follow(early.reports, progress, log)
    except BaseException:
        early.end()
        raise
    early.let_go()
    return ready


def start_daemon(
    arguments: list[str], log: Path, progress: Callable[[str], None], *, secret: bytes = b""
) -> Json:
    """Run `parsec-fs` with these arguments and `--ready-fd N` until it is ready; what it said.
    `secret`: all of its standard input. Raises CommandError."""
    log.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as pipe, log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-Pm", "parsec_fs", *arguments, "--ready-fd", str(writing)],
            stdin=subprocess.PIPE if secret else subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            pass_fds=[writing],
            cwd="/",
        )
        os.close(writing)
        try:
            _hand_over(process, secret)
            ready = _follow(pipe, progress, log)
        except BaseException:
            process.terminate()
            process.wait()
            raise
    process.returncode = 0  # it lives on by intent: nobody waits for it, nobody is warned
    return ready


def _hand_over(process: subprocess.Popen[bytes], secret: bytes) -> None:
    if process.stdin is not None:
        with contextlib.suppress(BrokenPipeError), process.stdin as pipe:
            pipe.write(secret)  # a child that ended already says why itself


def _follow(pipe: Any, progress: Callable[[str], None], log: Path) -> Json:
    for line in pipe:
        document = json.loads(line)
        if "progress" in document:
            progress(document["progress"])
        elif "error" in document:
            raise CommandError(ExitCode(document["exit"]), document["error"])
        else:
            ready: Json = document["ready"]
            return ready
    raise CommandError(ExitCode.FAILED, f"the daemon ended at once. {log} ends with:\n{_tail(log)}")


def _tail(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()[-_LOG_LINES:]
    return "\n".join(f"  {line}" for line in lines)

"""The control socket over a real unix socket."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from parsec_fs.cli.exit_codes import ExitCode, exit_code
from parsec_fs.control import CommandFailedError, Handler, Json, Progress, call, serve_control
from parsec_fs.protocol.errors import OfflineError, RollbackError


async def echo(parameters: Json, progress: Progress) -> Json:
    await progress({"step": 1})
    return parameters


async def lie(parameters: Json, progress: Progress) -> Json:
    raise RollbackError("the server hides two changes")


async def bug(parameters: Json, progress: Progress) -> Json:
    raise ZeroDivisionError


class Waiter:
    """A command that never ends, and knows whether it was cancelled."""

    def __init__(self) -> None:
        self.cancelled = trio.Event()

    async def __call__(self, parameters: Json, progress: Progress) -> Json:
        await progress({"waiting": True})
        try:
            await trio.Event().wait()
        finally:
            self.cancelled.set()
        return {}


HANDLERS: Mapping[str, Handler] = {"echo": echo, "lie": lie, "bug": bug}


@asynccontextmanager
async def serving(path: Path, **more: Handler) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:

        async def serve(task_status: trio.TaskStatus[None]) -> None:
            handlers = {**HANDLERS, **more}
            await serve_control(path, handlers, exit_code=exit_code, task_status=task_status)

        await nursery.start(serve)
        yield
        nursery.cancel_scope.cancel()


async def test_result_and_progress(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    seen: list[Json] = []
    async with serving(path):
        assert await call(path, "echo", {"a": 1}, progress=seen.append) == {"a": 1}
        assert path.stat().st_mode & 0o777 == 0o600
    assert seen == [{"step": 1}]
    assert not path.exists()


async def test_errors_carry_their_exit_code(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    async with serving(path):
        with pytest.raises(CommandFailedError, match="hides two") as caught:
            await call(path, "lie")
        assert caught.value.exit == ExitCode.TAMPERED
        with pytest.raises(CommandFailedError, match="does not know"):
            await call(path, "dance")


async def test_nobody_listens(tmp_path: Path) -> None:
    with pytest.raises(OfflineError):
        await call(tmp_path / "control.sock", "echo")


async def test_left_behind_socket_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    path.write_bytes(b"")
    async with serving(path):
        assert await call(path, "echo") == {}


async def test_deep_folder(tmp_path: Path) -> None:
    folder = tmp_path / ("d" * 100) / ("e" * 100)
    folder.mkdir(parents=True)
    async with serving(folder / "control.sock"):
        assert await call(folder / "control.sock", "echo", {"b": 2}) == {"b": 2}


async def test_client_that_leaves_cancels_its_own_command_only(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    waiter = Waiter()
    async with serving(path, wait=waiter):
        with trio.CancelScope() as scope:
            await call(path, "wait", progress=lambda _: scope.cancel())
        with trio.fail_after(5):
            await waiter.cancelled.wait()
        assert await call(path, "echo") == {}


@pytest.mark.expects_log("event=command-failed")
async def test_a_bug_in_a_command_does_not_end_the_daemon(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    async with serving(path):
        with pytest.raises(CommandFailedError, match="internal error"):
            await call(path, "bug")
        assert await call(path, "echo") == {}

"""The quickstart's supervisor with small real programs: restart, group fate, nothing left over."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from tests.support.waiting import eventually

SUPERVISOR = Path(__file__).parents[2] / "scripts/supervisor.py"
SLEEPER = "import os, pathlib, sys, time; pathlib.Path(sys.argv[1]).write_text(str(os.getpid()))"


def sleeper(folder: Path, name: str) -> dict[str, object]:
    """A program that writes its pid and waits."""
    code = f"{SLEEPER}; time.sleep(600)"
    return {"name": name, "command": [sys.executable, "-c", code, str(folder / f"{name}.pid")]}


@contextlib.contextmanager
def supervised(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    plan = {
        "groups": [
            {"name": "pair", "programs": [sleeper(folder, "app"), sleeper(folder, "node")]},
            {"name": "server", "programs": [sleeper(folder, "server")]},
        ]
    }
    (folder / "logs").mkdir()
    (folder / "plan.json").write_text(json.dumps(plan))
    with subprocess.Popen(
        [sys.executable, str(SUPERVISOR), str(folder)], stdout=subprocess.PIPE
    ) as process:
        try:
            yield process
        finally:
            process.terminate()


async def pid_of(folder: Path, name: str, *, other_than: int = 0) -> int:
    async def probe() -> int | None:
        try:
            pid = int((folder / f"{name}.pid").read_text() or 0)
        except FileNotFoundError:
            return None
        return pid if pid != other_than and is_alive(pid) else None

    return await eventually(probe)


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


async def gone(pid: int) -> None:
    async def probe() -> bool:
        return not is_alive(pid)

    await eventually(probe)


async def test_a_group_lives_and_dies_together(tmp_path: Path) -> None:
    with supervised(tmp_path):
        app, node = await pid_of(tmp_path, "app"), await pid_of(tmp_path, "node")
        server = await pid_of(tmp_path, "server")
        os.kill(app, signal.SIGKILL)
        await gone(node)
        assert await pid_of(tmp_path, "app", other_than=app)
        assert await pid_of(tmp_path, "node", other_than=node)
        assert is_alive(server)


async def test_sigterm_ends_everything(tmp_path: Path) -> None:
    with supervised(tmp_path) as process:
        pids = [await pid_of(tmp_path, name) for name in ("app", "node", "server")]
        process.terminate()
        assert process.wait(20) == 0
        assert not any(is_alive(pid) for pid in pids)


async def test_programs_die_with_a_killed_supervisor(tmp_path: Path) -> None:
    with supervised(tmp_path) as process:
        pids = [await pid_of(tmp_path, name) for name in ("app", "node", "server")]
        process.kill()
        for pid in pids:
            await gone(pid)


async def test_only_one_supervisor_per_folder(tmp_path: Path) -> None:
    with supervised(tmp_path):
        await pid_of(tmp_path, "server")
        second = await trio.run_process(
            [sys.executable, str(SUPERVISOR), str(tmp_path)], capture_stderr=True, check=False
        )
        assert second.returncode == 11
        assert b"running already" in second.stderr


@pytest.mark.parametrize("content", ["", "7", "no number"])
def test_a_stale_lock_file_is_nobody(
    tmp_path: Path, content: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(SUPERVISOR.parent))
    from services import Services

    (tmp_path / "supervisor.lock").write_text(content)
    assert Services(tmp_path).pid() is None

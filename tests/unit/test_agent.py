"""The agent over real unix sockets: who gets the key, for which lock, and until when."""

import os
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio

from parsec_fs.agent import (
    Agent,
    agent_lock,
    agent_sockets,
    ask_agent,
    ends_with_session,
    sockets_to_ask,
    uptime,
)
from parsec_fs.config import Home
from parsec_fs.control import CommandFailedError, call
from parsec_fs.lockfile import held
from parsec_fs.protocol.errors import OfflineError
from tests.support.waiting import until

KEY = bytes(range(32)).hex()
NOBODY = 65_534
CALLER = """
import os, sys, trio
from pathlib import Path
from parsec_fs.control import call
os.setuid(int(sys.argv[2]))
print(trio.run(call, Path(sys.argv[1]), "key", {"lock": "a lock"}))
"""


@dataclass
class Clock:
    """Seconds, moved by the test."""

    now: float = 100.0

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def serving(agent: Agent, path: Path) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        await nursery.start(agent.serve, path)
        yield
        nursery.cancel_scope.cancel()


async def hold(path: Path, idle_s: float = 0) -> None:
    await call(path, "hold", {"lock": "a lock", "key": KEY, "idle_s": idle_s})


async def test_the_key_is_given_for_its_lock_alone(tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"
    async with serving(Agent(), path):
        assert path.stat().st_mode & 0o777 == 0o600
        assert (await call(path, "state"))["unlocked"] is False
        with pytest.raises(CommandFailedError, match="locked") as caught:
            await call(path, "key", {"lock": ""})
        assert caught.value.exit == 12
        await hold(path)
        assert await call(path, "key", {"lock": "a lock"}) == {"key": KEY}
        with pytest.raises(CommandFailedError, match="locked"):
            await call(path, "key", {"lock": "another lock"})


async def test_lock_ends_it_and_overwrites_the_key(tmp_path: Path) -> None:
    path, agent = tmp_path / "agent.sock", Agent()
    async with trio.open_nursery() as nursery:
        await nursery.start(agent.serve, path)
        await hold(path)
        held = agent._key
        await call(path, "lock")
    assert held == bytes(32)
    assert not path.exists()
    with pytest.raises(OfflineError):
        await call(path, "key", {"lock": "a lock"})


async def test_idle_time_counts_from_the_last_question(tmp_path: Path) -> None:
    path, clock = tmp_path / "agent.sock", Clock()
    async with serving(Agent(clock), path):
        await hold(path, idle_s=60)
        clock.now += 59
        await call(path, "key", {"lock": "a lock"})
        clock.now += 59
        await call(path, "key", {"lock": "a lock"})
        clock.now += 60
        with pytest.raises(CommandFailedError, match="locked"):
            await call(path, "key", {"lock": "a lock"})


async def test_an_idle_agent_ends_by_itself(tmp_path: Path) -> None:
    clock = Clock()
    agent, path = Agent(clock), tmp_path / "agent.sock"
    async with trio.open_nursery() as nursery:
        await nursery.start(agent.serve, path)
        await hold(path, idle_s=60)
        clock.now += 60
    assert not path.exists()
    assert not agent._key
    assert agent.unused_s == 60


async def test_it_ends_when_the_session_takes_its_socket_away(tmp_path: Path) -> None:
    path, agent = tmp_path / "agent.sock", Agent()
    async with trio.open_nursery() as nursery:
        await nursery.start(agent.serve, path)
        await hold(path, idle_s=28_800)
        path.unlink()
    assert not path.exists()
    assert not agent._key
    assert agent.unused_s == 0, "a mount that was just used would stay for eight hours"


async def test_nonsense_is_no_key(tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"
    async with serving(Agent(), path):
        for parameters in ({}, {"lock": "a lock", "key": "zz", "idle_s": 0}, {"key": KEY}):
            with pytest.raises(CommandFailedError, match="does not understand"):
                await call(path, "hold", parameters)


async def test_another_users_socket_is_told_nothing(tmp_path: Path) -> None:
    """Where the runtime folder was chosen by somebody else, their agent waits for our key."""
    path, agent = tmp_path / "agent.sock", Agent()
    async with serving(agent, path):
        with pytest.raises(OfflineError, match="another user's process"):
            await call(
                path, "hold", {"lock": "x", "key": KEY, "idle_s": 0}, only_uid=os.geteuid() + 1
            )
        assert not agent._key


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """That every user may pass through; not pytest's, which another run of the tests shuts."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o711)
        yield Path(folder)


async def test_another_users_process_gets_nothing(open_folder: Path) -> None:
    """Though the mode of the socket was spoilt: the kernel says who is calling."""
    if os.geteuid() != 0:
        pytest.skip("only root can start another user's process")
    path = open_folder / "agent.sock"
    async with serving(Agent(), path):
        await hold(path)
        path.chmod(0o666)
        command = [sys.executable, "-c", CALLER, str(path)]
        mine = await trio.run_process([*command, str(os.geteuid())], capture_stdout=True)
        assert KEY.encode() in mine.stdout
        other = await trio.run_process(
            [*command, str(NOBODY)], check=False, capture_stdout=True, capture_stderr=True
        )
    assert other.returncode != 0
    refusals = (b"went away", b"Connection reset", b"Broken pipe")
    assert any(one in other.stderr for one in refusals), other.stderr
    assert KEY.encode() not in other.stdout + other.stderr


def test_only_a_private_runtime_folder_is_used(tmp_path: Path) -> None:
    home, runtime = Home(root=tmp_path / "home"), tmp_path / "run"
    inside = (home.device / "agent.sock",)
    assert agent_sockets(home, {}) == inside
    assert agent_sockets(home, {"XDG_RUNTIME_DIR": str(runtime)}) == inside
    runtime.mkdir(mode=0o700)
    best, *rest = agent_sockets(home, {"XDG_RUNTIME_DIR": str(runtime)})
    assert (best.parent, tuple(rest)) == (runtime, inside)
    assert best != agent_sockets(Home(root=tmp_path), {"XDG_RUNTIME_DIR": str(runtime)})[0]
    runtime.chmod(0o750)
    assert agent_sockets(home, {"XDG_RUNTIME_DIR": str(runtime)}) == inside


async def test_the_first_agent_that_listens_is_asked(tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"
    missing = tmp_path / "missing.sock"
    with pytest.raises(OfflineError):
        await ask_agent((missing, path), "state", {})
    async with serving(Agent(), path):
        assert await ask_agent((missing, path), "state", {}) == {"unlocked": False, "idle_s": 0.0}


async def test_lock_finds_the_agent_of_another_session(tmp_path: Path) -> None:
    """Without the variable that said where to listen, as in a job of cron."""
    home, runtime = Home(root=tmp_path / "home"), tmp_path / "run"
    runtime.mkdir(mode=0o700)
    path, agent = agent_sockets(home, {"XDG_RUNTIME_DIR": str(runtime)})[0], Agent()
    with held(agent_lock(home), str(path)):
        async with trio.open_nursery() as nursery:
            await nursery.start(agent.serve, path)
            await hold(path)
            assert ends_with_session(home)
            await ask_agent(sockets_to_ask(home, {}), "lock", {})
        assert not agent._key
    assert sockets_to_ask(home, {}) == agent_sockets(home, {})


def test_an_agent_in_the_home_outlives_the_session(tmp_path: Path) -> None:
    home = Home(root=tmp_path)
    with held(agent_lock(home), str(agent_sockets(home, {})[0])):
        assert not ends_with_session(home)
        assert sockets_to_ask(home, {}) == agent_sockets(home, {})


async def test_the_clock_goes_on() -> None:
    before = uptime()
    await until(lambda: uptime() > before)

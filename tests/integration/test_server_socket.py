"""What only a real socket shows: event streams, unbounded bodies, signals, TLS, ports.

Data flow: server process -> loopback -> real client code.
"""

import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import trio

from parsec_fs.protocol.certificates import CONTRIBUTOR, NO_ROLE, UserRevoked
from parsec_fs.protocol.codec import decode
from parsec_fs.protocol.commands import Answer, Outcome
from parsec_fs.protocol.errors import InputError, OfflineError
from parsec_fs.protocol.hashing import map_key, read_stamp
from parsec_fs.protocol.ids import NO_HASH, LogId
from parsec_fs.remote.events import EventStream
from parsec_fs.remote.transport import http_client
from server.config import Quotas
from server.listener import Address, bind, parse_address
from tests.support.devices import RawDevice, new_object, new_org
from tests.support.server import ServerProcess, make_home, socket_server
from tests.support.waiting import eventually


@pytest.fixture
async def process(tmp_path: Path) -> AsyncIterator[ServerProcess]:
    make_home(tmp_path / "server")
    async with socket_server(tmp_path / "server") as running:
        yield running


@pytest.fixture
async def http(process: ServerProcess) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=process.url, trust_env=False) as client:
        yield client


@pytest.fixture
async def alice(http: httpx.AsyncClient, process: ServerProcess) -> RawDevice:
    info = await process.info()
    assert info is not None
    return await new_org(http, info.registration)


class Heard:
    """What an event stream has said."""

    def __init__(self) -> None:
        self.logs: list[LogId | None] = []

    async def has(self, log: LogId | None) -> bool:
        return log in self.logs


async def test_events_name_logs_that_grew(http: httpx.AsyncClient, alice: RawDevice) -> None:
    """Rule 28: commits and certificates are announced to members, read stamps to nobody."""
    bob = await alice.add_user(http)
    realm, private = await alice.create_realm(), await alice.create_realm()
    await alice.give(realm, bob.secrets.user, CONTRIBUTOR)
    heard = Heard()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(EventStream(bob.signer).follow, heard.logs.append)
        await eventually(lambda: heard.has(None))
        await alice.server.observe(realm, read_stamp(b"x"))
        await alice.write(private, new_object())
        await alice.add_user(http)
        await eventually(lambda: heard.has(LogId(alice.anchor.org)))
        await alice.write(realm, new_object())
        await eventually(lambda: heard.has(LogId(realm)))
        nursery.cancel_scope.cancel()
    assert set(heard.logs) == {None, LogId(realm), LogId(alice.anchor.org)}
    first_realm_event = heard.logs.index(LogId(realm))
    assert LogId(alice.anchor.org) in heard.logs[:first_realm_event]


async def test_whoever_may_read_no_longer_is_told_once(
    http: httpx.AsyncClient, alice: RawDevice
) -> None:
    """By what took the right: a device that waits would otherwise not ask for a long time."""
    bob = await alice.add_user(http)
    realm = await alice.create_realm()
    await alice.give(realm, bob.secrets.user, CONTRIBUTOR)
    heard = Heard()
    org = LogId(alice.anchor.org)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(EventStream(bob.signer).follow, heard.logs.append)
        await eventually(lambda: heard.has(None))
        await alice.give(realm, bob.secrets.user, NO_ROLE)
        await eventually(lambda: heard.has(LogId(realm)))
        await alice.write(realm, new_object())
        heard.logs.remove(org)
        await alice.add_user(http)
        await eventually(lambda: heard.has(org))
        ended = heard.logs.copy()
        value = alice.org_state().map.get(map_key(b"user", bob.secrets.user)) or NO_HASH
        revoked = UserRevoked(user=bob.secrets.user)
        await alice.server.append_certificate(org, alice.certificate(org, revoked, replaces=value))
        await eventually(lambda: more_than(heard, org, ended.count(org)))
        nursery.cancel_scope.cancel()
    assert ended.count(LogId(realm)) == 1


async def more_than(heard: Heard, log: LogId, times: int) -> bool:
    return heard.logs.count(log) > times


async def test_event_streams_are_bounded(alice: RawDevice) -> None:
    heard = [Heard() for _ in range(Quotas().streams_per_device)]
    async with trio.open_nursery() as nursery:
        for one in heard:
            nursery.start_soon(EventStream(alice.signer).follow, one.logs.append)
        for one in heard:
            await eventually(lambda one=one: one.has(None))  # type: ignore[misc]
        assert (await alice.signer.send("GET", "/v1/events")).status == 429
        nursery.cancel_scope.cancel()
    # Streams that end make room.
    again = Heard()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(EventStream(alice.signer).follow, again.logs.append)
        await eventually(lambda: again.has(None))
        nursery.cancel_scope.cancel()


async def test_event_stream_needs_a_signature(http: httpx.AsyncClient) -> None:
    response = await http.get("/v1/events")
    assert response.status_code == 401
    assert decode(Answer, response.content).outcome == Outcome.NOT_AUTHENTICATED


async def test_endless_bodies_are_cut_off(http: httpx.AsyncClient) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(1000):
            yield bytes(2**16)

    try:
        response = await http.post("/v1/realm/list", content=endless())
    except httpx.WriteError:
        return  # the server has closed its side
    assert response.status_code == 413


async def test_signal_ends_the_server_cleanly(process: ServerProcess, alice: RawDevice) -> None:
    heard = Heard()
    async with trio.open_nursery() as nursery, http_client():
        nursery.start_soon(EventStream(alice.signer).follow, heard.logs.append)
        await eventually(lambda: heard.has(None))
        assert await process.kill(signal.SIGTERM) == 0
        nursery.cancel_scope.cancel()
    assert "Traceback" not in process.output()
    with pytest.raises(OfflineError):
        await alice.pull_org()


def test_listening_beyond_loopback_needs_tls() -> None:
    with pytest.raises(InputError, match="tls-cert"):
        parse_address("0.0.0.0:8800", None, None)
    with pytest.raises(InputError, match="IP address"):
        parse_address("localhost", None, None)
    given = parse_address("[::1]:0", None, None)
    assert (given.host, given.port) == ("::1", 0)
    assert parse_address("0.0.0.0:1", Path("c"), Path("k")).tls_cert == Path("c")


def test_taken_port_is_one_line() -> None:
    with bind(Address(host="127.0.0.1", port=0)) as taken:
        taken.listen()
        with pytest.raises(InputError, match="cannot listen"):
            bind(Address(host="127.0.0.1", port=taken.getsockname()[1]))


def run_cli(*arguments: str) -> subprocess.CompletedProcess[str]:
    program = str(Path(sys.executable).parent / "parsec-server")
    return subprocess.run(
        [program, *arguments], capture_output=True, text=True, timeout=60, check=False
    )


def test_init_makes_an_identity_once(tmp_path: Path) -> None:
    home = tmp_path / "home"
    first = run_cli("init", "--home", str(home), "--name", "acme", "--epoch-ms", "2000")
    assert first.returncode == 0
    assert bytes.fromhex(first.stdout.strip()) == (home / "registration").read_bytes()
    for name in ("head.key", "co.key"):
        assert (home / name).stat().st_mode & 0o777 == 0o600
        assert (home / name).read_bytes().hex() not in first.stdout + first.stderr
    again = run_cli("init", "--home", str(home), "--name", "acme")
    assert (again.returncode, "never replaced" in again.stderr) == (2, True)
    elsewhere = run_cli(
        "run", "--home", str(tmp_path / "x"), "--chain-id", "c", "--rpc", "http://x"
    )
    assert (elsewhere.returncode, "parsec-server init" in elsewhere.stderr) == (2, True)

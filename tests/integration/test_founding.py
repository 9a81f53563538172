"""Founding takes a one-time token: every outcome, over HTTP and by the commands of both programs.

Data flow: operator's `parsec-server token` -> founder's `parsec-fs org create` -> org log.
"""

import base64
import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
import trio

from parsec_fs.protocol.codec import decode, encode
from parsec_fs.protocol.commands import Answer, CreateOrg, HeadAnswer, Outcome
from parsec_fs.protocol.keys import SigningKey
from parsec_fs.protocol.records import Head
from server.app import Outside, wall_ms
from server.blocks.directory import DirectoryStore
from server.config import Quotas
from server.store import logs
from server.store.database import Database, Transaction
from server.tokens import TOKEN_LIFE_MS, permit_founding
from tests.support.devices import founding
from tests.support.permits import draw_token
from tests.support.server import (
    InProcess,
    config_for_tests,
    in_process,
    make_home,
    server_identity,
    socket_server,
)
from tests.support.servers import CHAIN_ID

REGISTRATION = server_identity().registration


class FailingDatabase(Database):
    """Fails at the end of a transaction that founds, after everything was written into it."""

    failing = False
    failures = 0

    @contextmanager
    def writing(self) -> Iterator[Transaction]:
        with super().writing() as transaction:
            yield transaction
            if self.failing and logs.count_orgs(transaction):
                self.failures += 1
                raise OSError("no space left on device")


@pytest.fixture
def database(tmp_path: Path) -> FailingDatabase:
    return FailingDatabase(f"sqlite:///{tmp_path / 'server.sqlite'}")


@pytest.fixture
async def server(tmp_path: Path, database: FailingDatabase) -> AsyncIterator[InProcess]:
    pieces = Outside(database=database, blocks=DirectoryStore(tmp_path / "blocks"), nodes=())
    async with in_process(tmp_path, pieces=pieces) as running:
        yield running


@pytest.fixture
async def http(server: InProcess) -> AsyncIterator[httpx.AsyncClient]:
    async with server.http() as client:
        yield client


async def create(http: httpx.AsyncClient, request: CreateOrg) -> httpx.Response:
    return await http.post("/v1/org/create", content=encode(request))


async def outcome(http: httpx.AsyncClient, request: CreateOrg) -> Outcome:
    response = await create(http, request)
    return Outcome(decode(Answer, response.content).outcome)


async def founded(http: httpx.AsyncClient, request: CreateOrg) -> Head:
    """The head that answers a founding."""
    answer = decode(Answer, (await create(http, request)).content)
    assert answer.outcome == Outcome.OK
    return decode(Head, decode(HeadAnswer, answer.body).head.record)


async def test_token_founds_once(http: httpx.AsyncClient) -> None:
    first, _, _ = founding(REGISTRATION)
    second, _, _ = founding(REGISTRATION)
    assert (await founded(http, first)).size == 3
    assert await outcome(http, replace(second, token=first.token)) is Outcome.NOT_ALLOWED
    assert (await founded(http, second)).size == 3


async def test_every_bad_token_gets_one_answer(
    http: httpx.AsyncClient, database: Database, tmp_path: Path
) -> None:
    spent, _, _ = founding(REGISTRATION)
    await founded(http, spent)
    fresh, _, _ = founding(REGISTRATION)
    expired = draw_token(database, tmp_path, now_ms=wall_ms() - TOKEN_LIFE_MS)
    bad = [os.urandom(32), bytes(32), spent.token, expired]
    answers = [await create(http, replace(fresh, token=token)) for token in bad]
    # Whoever has no token does not learn which organizations there are either.
    answers += [await create(http, replace(spent, token=token)) for token in (bad[0], expired)]
    answers += [await create(http, replace(spent, user=fresh.user))]
    assert {(one.status_code, one.content) for one in answers} == {(403, answers[0].content)}
    assert await outcome(http, fresh) is Outcome.OK


async def test_token_lasts_until_its_last_moment(
    http: httpx.AsyncClient, database: Database, tmp_path: Path
) -> None:
    request, _, _ = founding(REGISTRATION)
    late = draw_token(database, tmp_path, now_ms=wall_ms() - TOKEN_LIFE_MS + 60_000)
    assert await outcome(http, replace(request, token=late)) is Outcome.OK


async def test_identical_founding_gets_the_same_answer(
    http: httpx.AsyncClient, database: Database, tmp_path: Path
) -> None:
    request, _, _ = founding(REGISTRATION)
    first, again = await founded(http, request), await founded(http, request)
    assert (again.size, again.log_root, again.map_root) == (3, first.log_root, first.map_root)
    token = draw_token(database, tmp_path)
    assert await outcome(http, replace(request, token=token)) is Outcome.EXISTS
    other, _, _ = founding(REGISTRATION)
    assert await outcome(http, replace(other, token=token)) is Outcome.OK  # was not spent


async def test_repetition_outlives_restarts_and_quotas(tmp_path: Path) -> None:
    config = config_for_tests(quotas=Quotas(orgs=1))
    async with in_process(tmp_path, config=config) as running, running.http() as http:
        request, _, _ = founding(REGISTRATION)
        first = await founded(http, request)
    async with in_process(tmp_path, config=config) as running, running.http() as http:
        assert (await founded(http, request)).log_root == first.log_root
        other, _, _ = founding(REGISTRATION)
        assert await outcome(http, other) is Outcome.QUOTA


async def test_refused_founding_leaves_its_token(http: httpx.AsyncClient) -> None:
    request, _, _ = founding(REGISTRATION)
    other, _, _ = founding(REGISTRATION)
    assert await outcome(http, replace(request, user=other.user)) is Outcome.INVALID
    assert await outcome(http, replace(request, genesis=b"x")) is Outcome.BAD_REQUEST
    assert await outcome(http, request) is Outcome.OK


@pytest.mark.expects_log("POST /v1/org/create failed")
async def test_token_and_founding_are_durable_together(
    http: httpx.AsyncClient, database: FailingDatabase
) -> None:
    request, _, _ = founding(REGISTRATION)
    database.failing = True
    assert await outcome(http, request) is Outcome.UNAVAILABLE
    assert database.failures == 1
    database.failing = False
    other, _, _ = founding(REGISTRATION)
    assert await outcome(http, replace(other, token=request.token)) is Outcome.OK
    assert await outcome(http, request) is Outcome.NOT_ALLOWED


async def test_one_of_many_at_once_gets_the_token(http: httpx.AsyncClient) -> None:
    requests = [founding(REGISTRATION)[0] for _ in range(5)]
    outcomes: list[Outcome] = []

    async def send(request: CreateOrg) -> None:
        outcomes.append(await outcome(http, replace(request, token=requests[0].token)))

    async with trio.open_nursery() as nursery:
        for one in requests:
            nursery.start_soon(send, one)
    assert sorted(outcomes) == [Outcome.OK, *[Outcome.NOT_ALLOWED] * 4]


async def test_token_that_cannot_be_written_permits_nothing(
    http: httpx.AsyncClient, database: Database, tmp_path: Path
) -> None:
    token = os.urandom(32)
    with pytest.raises(FileNotFoundError):
        permit_founding(database, tmp_path / "gone", token=token, now_ms=wall_ms())
    request, _, _ = founding(REGISTRATION)
    assert await outcome(http, replace(request, token=token)) is Outcome.NOT_ALLOWED


# The commands


def program(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        arguments, input=stdin, capture_output=True, text=True, timeout=60, check=False
    )


def draw(home: Path) -> tuple[Path, str]:
    """What an operator does: the file, and everything that was printed."""
    tool = str(Path(sys.executable).parent / "parsec-server")
    done = program(tool, "token", "--home", str(home))
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip()), done.stdout + done.stderr


def test_token_command_writes_a_private_file(tmp_path: Path) -> None:
    home = tmp_path / "home"
    make_home(home)
    file, printed = draw(home)
    token = file.read_text().strip()
    assert re.fullmatch("[0-9a-f]{64}", token)
    assert file.stat().st_mode & 0o777 == 0o600
    assert token not in printed
    stored = b"".join(one.read_bytes() for one in home.glob("server.sqlite*"))
    assert bytes.fromhex(token) not in stored
    assert token.encode() not in stored
    assert draw(home)[0] != file


def test_token_command_needs_a_server(tmp_path: Path) -> None:
    tool = str(Path(sys.executable).parent / "parsec-server")
    done = program(tool, "token", "--home", str(tmp_path))
    assert (done.returncode, "parsec-server init" in done.stderr) == (2, True)


class Founder:
    """`parsec-fs org create` on fresh devices."""

    def __init__(self, folder: Path, url: str) -> None:
        self._folder = folder
        self._url = url
        self._devices = 0
        key = base64.b64encode(SigningKey(bytes(32)).verify_key.raw).decode()
        validator = {
            "address": "",
            "pub_key": {"type": "tendermint/PubKeyEd25519", "value": key},
            "power": "10",
            "name": "",
        }
        self._genesis = folder / "genesis.json"
        self._genesis.write_text(
            json.dumps({"chain_id": CHAIN_ID.decode(), "validators": [validator]})
        )

    def create(self, *options: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        self._devices += 1
        home = str(self._folder / f"device{self._devices}")
        return program(
            *(sys.executable, "-Pm", "parsec_fs", "--home", home, "org", "create", "acme"),
            *("--server", self._url, "--chain", "http://127.0.0.1:9"),
            *("--genesis", str(self._genesis), *options),
            stdin=stdin,
        )


async def test_org_create_takes_the_token_from_a_file_or_standard_input(tmp_path: Path) -> None:
    home = tmp_path / "server"
    make_home(home)
    async with socket_server(home) as process:
        founder = Founder(tmp_path, process.url)

        def people() -> None:
            first, second = draw(home)[0], draw(home)[0]
            done = founder.create("--token-file", str(first))
            assert done.returncode == 0, done.stderr
            done = founder.create(stdin=second.read_text())
            assert done.returncode == 0, done.stderr
            for wrong, code in ((first.read_text(), 13), ("", 2), ("secret?", 2), ("abcd" * 4, 2)):
                done = founder.create(stdin=wrong)
                assert (done.returncode, "parsec-server token" in done.stderr) == (code, True)
                assert not wrong or wrong.strip() not in done.stdout + done.stderr
            log = process.output()
            assert not any(one.read_text().strip() in log for one in (first, second))

        await trio.to_thread.run_sync(people)

"""Nothing that the server acknowledged is lost, wherever it dies; what it did not can be repeated.

Data flow: device -> server that dies at a chosen write, before or after its commit, or is killed ->
restart over the same folder -> the device repeats the exact bytes -> replay agrees with the head.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
import trio

from parsec_fs.protocol.commands import Outcome
from parsec_fs.protocol.errors import OfflineError, ParsecFSError
from parsec_fs.protocol.hashing import read_stamp
from parsec_fs.protocol.ids import RealmId
from parsec_fs.remote.server_client import CommitReport
from server.store.database import Database, Transaction
from tests.support.devices import RawDevice, SignedCommit, new_object, new_org
from tests.support.server import (
    in_process,
    make_home,
    outside,
    socket_server,
)
from tests.support.waiting import eventually


class PowerCutError(Exception):
    """The machine is gone."""


class DyingDatabase(Database):
    """Dies at the n-th write from now: before its commit, or after it, before anyone knows."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.writes_left = -1
        self.after_commit = False
        self.dead = False

    def die_at(self, write: int, *, after_commit: bool) -> None:
        """Set the point."""
        self.writes_left, self.after_commit = write, after_commit

    @contextmanager
    def writing(self) -> Iterator[Transaction]:
        """The real transaction, up to the power cut."""
        if self.dead:
            raise PowerCutError
        self.writes_left -= 1
        dying = self.writes_left == 0
        with super().writing() as transaction:
            yield transaction
            if dying and not self.after_commit:
                self.dead = True
                raise PowerCutError
        if dying:
            self.dead = True
            raise PowerCutError

    @contextmanager
    def reading(self) -> Iterator[Transaction]:
        """Nobody reads from a dead machine."""
        if self.dead:
            raise PowerCutError
        with super().reading() as transaction:
            yield transaction


@pytest.mark.allows_log("failed")
@pytest.mark.parametrize("after_commit", [False, True])
@pytest.mark.parametrize("write", [1, 2, 3])
async def test_power_cut_around_a_write(tmp_path: Path, write: int, after_commit: bool) -> None:
    database = DyingDatabase(f"sqlite:///{tmp_path / 'server.sqlite'}")
    pieces = replace(outside(tmp_path), database=database)
    acknowledged: list[int] = []
    async with in_process(tmp_path, pieces=pieces) as running, running.http() as http:
        alice = await new_org(http, running.identity.registration)
        realm = await alice.create_realm()
        stale = alice.sign(realm, alice.record(realm, new_object()), key_index=9)
        refused = (await alice.send(realm, stale)).fates[0]
        alice.realms[realm].chain = alice.realms[realm].state.chains[alice.id]
        commits = [alice.sign(realm, alice.record(realm, new_object())) for _ in range(6)]
        database.die_at(write, after_commit=after_commit)
        for batch in (commits[:2], commits[2:4], commits[4:]):
            try:
                report = await alice.send(realm, *batch)
            except OfflineError:
                break
            acknowledged += [fate.index for fate in report.fates if fate.index is not None]
    assert len(acknowledged) == 2 * (write - 1)
    async with in_process(tmp_path) as running, running.http() as http:
        again = RawDevice(http, alice.anchor, alice.secrets)
        head = await again.pull(realm)
        assert head.size == 2 + len(acknowledged) + 2 * after_commit
        report = await again.send(realm, *commits)
        assert [fate.index for fate in report.fates] == [2, 3, 4, 5, 6, 7]
        assert (await again.pull(realm)).size == 8
        assert (await again.send(realm, stale)).fates[0].raw == refused.raw


@pytest.mark.allows_log("failed")
@pytest.mark.parametrize("after_commit", [False, True])
async def test_power_cut_around_a_refusal(tmp_path: Path, after_commit: bool) -> None:
    """Rule 15: a refusal that may have left is repeated; one that cannot have left is void."""
    database = DyingDatabase(f"sqlite:///{tmp_path / 'server.sqlite'}")
    pieces = replace(outside(tmp_path), database=database)
    async with in_process(tmp_path, pieces=pieces) as running, running.http() as http:
        alice = await new_org(http, running.identity.registration)
        realm = await alice.create_realm()
        target = new_object()
        stale = alice.record(realm, target)
        await alice.write(realm, target)
        commit = alice.sign(realm, stale)
        database.die_at(1, after_commit=after_commit)
        with pytest.raises(OfflineError):
            await alice.send(realm, commit)
    async with in_process(tmp_path) as running, running.http() as http:
        again = RawDevice(http, alice.anchor, alice.secrets)
        await again.pull(realm)
        first = (await again.send(realm, commit)).fates[0]
        assert first.refusal is not None
        assert first.refusal.outcome == Outcome.CONFLICT
        assert (await again.send(realm, commit)).fates[0].raw == first.raw


@pytest.mark.allows_log("failed")
async def test_power_cut_around_a_read_stamp(tmp_path: Path) -> None:
    """The reader is told to come back; nothing else falls with it."""
    database = DyingDatabase(f"sqlite:///{tmp_path / 'server.sqlite'}")
    pieces = replace(outside(tmp_path), database=database)
    async with in_process(tmp_path, pieces=pieces) as running, running.http() as http:
        alice = await new_org(http, running.identity.registration)
        realm = await alice.create_realm()
        database.die_at(1, after_commit=False)
        with pytest.raises(OfflineError):
            await alice.server.observe(realm, read_stamp(b"x"))
        database.dead = False
        report = await alice.server.observe(realm, read_stamp(b"x"))
        assert report.index == 2
        await alice.pull(realm)


async def commit_for_ever(
    device: RawDevice, realm: RealmId, sent: list[SignedCommit], reports: list[CommitReport]
) -> None:
    """Batch after batch, until the server is gone."""
    while True:
        batch = [device.sign(realm, device.record(realm, new_object())) for _ in range(5)]
        sent += batch
        try:
            reports.append(await device.send(realm, *batch))
        except ParsecFSError:
            return


async def test_killed_server_keeps_what_it_acknowledged(tmp_path: Path) -> None:
    """SIGKILL in the middle of work, twice."""
    make_home(tmp_path)
    sent, reports = list[SignedCommit](), list[CommitReport]()
    async with socket_server(tmp_path) as process:
        info = await process.info()
        assert info is not None
        async with httpx.AsyncClient(base_url=process.url, trust_env=False) as http:
            alice = await new_org(http, info.registration)
            realm = await alice.create_realm()
        for _ in range(2):
            async with httpx.AsyncClient(base_url=process.url, trust_env=False) as http:
                device = RawDevice(http, alice.anchor, alice.secrets)
                await device.pull(realm)
                started = len(reports)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(commit_for_ever, device, realm, sent, reports)
                    await eventually(lambda n=started: more_than(reports, n + 3))  # type: ignore[misc]
                    await process.kill(signal.SIGKILL)
            await process.start()
            async with httpx.AsyncClient(base_url=process.url, trust_env=False) as http:
                device = RawDevice(http, alice.anchor, alice.secrets)
                head = await device.pull(realm)
                last = max(fate.index or 0 for report in reports for fate in report.fates)
                assert head.size > last
                repeated = await device.send(realm, *sent[-5:])
                assert all(fate.index is not None for fate in repeated.fates)
                assert (await device.pull(realm)).size == 2 + len(sent)


async def more_than(reports: list[CommitReport], count: int) -> bool:
    return len(reports) > count

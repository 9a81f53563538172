"""Whatever devices do, what the server signs is what a replica computes.

Data flow: hypothesis -> actions of two devices, restarts -> real server -> every leaf replayed with
`realm_state.verify_leaf`, roots compared with the signed head after every action.
"""

import tempfile
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import httpx
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from parsec_fs.protocol.certificates import CONTRIBUTOR, READER
from parsec_fs.protocol.hashing import read_stamp
from parsec_fs.protocol.ids import LogId, ObjectId, RealmId
from parsec_fs.remote.server_client import CommitReport
from tests.support.devices import RawDevice, SignedCommit, new_org
from tests.support.server import in_process

OBJECTS = [ObjectId(bytes([number]) * 16) for number in range(1, 6)]

devices = st.integers(0, 1)
objects = st.lists(st.sampled_from(OBJECTS), min_size=1, max_size=3, unique=True)
actions = st.one_of(
    st.tuples(st.just("write"), devices, objects),
    st.tuples(st.just("write_unseen"), devices, objects),
    st.tuples(st.just("delete"), devices, objects),
    st.tuples(st.just("two_commits"), devices, objects),
    st.tuples(st.just("old_key"), devices, objects),
    st.tuples(st.just("repeat"), devices, st.just([])),
    st.tuples(st.just("observe"), devices, st.just([])),
    st.tuples(st.just("rotate"), st.just(0), st.just([])),
    st.tuples(st.just("demote"), st.just(0), st.just([])),
    st.tuples(st.just("promote"), st.just(0), st.just([])),
    st.tuples(st.just("restart"), st.just(0), st.just([])),
)
Action = tuple[str, int, list[ObjectId]]


class World:
    """Two devices of two users in one realm, and the server behind them."""

    def __init__(self, folder: Path, stack: AsyncExitStack) -> None:
        self._folder = folder
        self._stack = stack
        self.devices: list[RawDevice] = []
        self.realm = RealmId(bytes(32))
        self.said: dict[bytes, object] = {}
        self.sent: list[list[SignedCommit]] = [[], []]

    async def start(self) -> httpx.AsyncClient:
        running = await self._stack.enter_async_context(in_process(self._folder))
        http = await self._stack.enter_async_context(running.http())
        self.registration = running.identity.registration
        return http

    async def found(self) -> None:
        http = await self.start()
        alice = await new_org(http, self.registration)
        self.realm = await alice.create_realm()
        bob = await alice.add_user(http)
        self.devices = [alice, bob]
        await alice.give(self.realm, bob.secrets.user, CONTRIBUTOR)
        await bob.pull(self.realm)
        self._watched = RawDevice(http, alice.anchor, alice.secrets)

    def observer(self) -> RawDevice:
        """A replica of alice's that follows along while the two devices stay behind."""
        alice = self.devices[0]
        watching = RawDevice(alice.http, alice.anchor, alice.secrets)
        watching.org, watching.realms = self._watched.org, self._watched.realms
        self._watched = watching
        return watching

    async def act(self, name: str, who: int, chosen: list[ObjectId]) -> None:
        await getattr(self, name)(self.devices[who], who, chosen)

    async def write(self, device: RawDevice, who: int, chosen: list[ObjectId]) -> None:
        await device.pull(self.realm)
        await self.write_unseen(device, who, chosen)

    async def write_unseen(self, device: RawDevice, who: int, chosen: list[ObjectId]) -> None:
        """On the state that the device happens to know: conflicts where it is behind."""
        records = [device.record(self.realm, one) for one in chosen]
        await self._send(device, who, device.sign(self.realm, *records))

    async def two_commits(self, device: RawDevice, who: int, chosen: list[ObjectId]) -> None:
        """The second fails if an object is written twice, or if the first fails."""
        first = device.sign(self.realm, device.record(self.realm, chosen[0]))
        second = device.sign(self.realm, *(device.record(self.realm, one) for one in chosen))
        await self._send(device, who, first, second)

    async def delete(self, device: RawDevice, who: int, chosen: list[ObjectId]) -> None:
        await device.pull(self.realm)
        records = [device.record(self.realm, one, delete=True) for one in chosen]
        await self._send(device, who, device.sign(self.realm, *records, payloads=()))

    async def old_key(self, device: RawDevice, who: int, chosen: list[ObjectId]) -> None:
        record = device.record(self.realm, chosen[0])
        await self._send(device, who, device.sign(self.realm, record, key_index=0))

    async def repeat(self, device: RawDevice, who: int, _chosen: list[ObjectId]) -> None:
        await self._send(device, who, *self.sent[who][-3:])

    async def observe(self, device: RawDevice, _who: int, _chosen: list[ObjectId]) -> None:
        report = await device.server.observe(self.realm, read_stamp(bytes(32)))
        assert report.index < report.head.head.size

    async def rotate(self, device: RawDevice, _who: int, _chosen: list[ObjectId]) -> None:
        await device.pull(self.realm)
        body, boxes = device.rotation(self.realm)
        await device.server.append_certificate(LogId(self.realm), body, boxes)

    async def demote(self, device: RawDevice, _who: int, _chosen: list[ObjectId]) -> None:
        await self._give(device, READER)

    async def promote(self, device: RawDevice, _who: int, _chosen: list[ObjectId]) -> None:
        await self._give(device, CONTRIBUTOR)

    async def _give(self, device: RawDevice, role: int) -> None:
        await device.pull(self.realm)
        await device.give(self.realm, self.devices[1].secrets.user, role)

    async def restart(self, _device: RawDevice, _who: int, _chosen: list[ObjectId]) -> None:
        await self._stack.aclose()
        http = await self.start()
        known = self.devices
        self.devices = [RawDevice(http, one.anchor, one.secrets) for one in known]
        for device, before in zip(self.devices, known, strict=True):
            device.org, device.realms = before.org, before.realms

    async def _send(self, device: RawDevice, who: int, *commits: SignedCommit) -> None:
        if not commits:
            return
        report = await device.send(self.realm, *commits)
        self.sent[who] += commits
        self._check(commits, report)
        indexes = [fate.index for fate in report.fates if fate.index is not None]
        assert all(index < report.head.head.size for index in indexes)
        # Otherwise the device stays behind, and its chain goes on.
        if len(indexes) < len(commits):
            await device.pull(self.realm)

    def _check(self, commits: tuple[SignedCommit, ...], report: CommitReport) -> None:
        """Nobody is ever told two things about one record (rule 15)."""
        for commit, fate in zip(commits, report.fates, strict=True):
            answer = (fate.index, fate.raw)
            assert self.said.setdefault(commit.hash, answer) == answer


async def live(steps: list[Action]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with AsyncExitStack() as stack:
            world = World(Path(folder), stack)
            await world.found()
            for step in steps:
                await world.act(*step)
                await world.observer().pull(world.realm)
            # A replica that begins now and those that followed along agree.
            for device in world.devices:
                before = await device.pull(world.realm)
                device.realms.clear()
                assert (await device.pull(world.realm)).log_root == before.log_root


@settings(max_examples=20)
@given(st.lists(actions, min_size=4, max_size=12))
def test_heads_follow_from_leaves(steps: list[Action]) -> None:
    trio.run(partial(live, steps))

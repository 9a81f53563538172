"""A realm on a device that has never seen it: usable after a snapshot, verified after a replay.

Data flow: daemon (first opening) -> server (snapshot) -> `snapshot_reader` -> replica, which goes
on from there -> mount; in the background a second replica replays the whole log -> the same roots
-> realm.db is filled in, and the realm is `bootstrapped` no longer.

Rule 25: the snapshot is one that another device of this user signed. Whatever is wrong with it is a
wrong answer; then the whole log is replayed first, as if there were no snapshots. The replay in the
background is an ordinary replica with a store of its own, which keeps objects' states and no
payloads: it runs every check, survives restarts, and is deleted when both agree. If they do not,
one of them is false, and the auditor is told until they do.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import trio

from parsec_fs.identity import Author
from parsec_fs.protocol.certificates import Rotation
from parsec_fs.protocol.codec import encode_trusted
from parsec_fs.protocol.errors import (
    DataError,
    ForkError,
    ParsecFSError,
    RefusedError,
    RollbackError,
    VerificationError,
)
from parsec_fs.protocol.ids import DeviceId
from parsec_fs.protocol.log_state import log_state
from parsec_fs.protocol.membership import OrgState
from parsec_fs.protocol.snapshots import Snapshot, SnapshotStart, open_start
from parsec_fs.remote.server_client import ServerClient
from parsec_fs.storage.realm_store import RealmStore
from parsec_fs.storage.realm_tables import StoredObject
from parsec_fs.workspace.leaf_groups import ChangedObject, LeafGroup
from parsec_fs.workspace.org_replica import OrgReplica
from parsec_fs.workspace.payloads import Found, PayloadReader, PayloadSource, ReadNode
from parsec_fs.workspace.realm_keys import RealmKeys
from parsec_fs.workspace.replica import RealmReplica
from parsec_fs.workspace.replica_checks import ReplicaChecks
from parsec_fs.workspace.slices import Slices
from parsec_fs.workspace.snapshot_reader import (
    AuthorFinder,
    SnapshotReader,
    StoredPayloads,
)

log = logging.getLogger(__name__)

_REPLAY: Final = "replay.db"
_AGAIN_S: Final = 0.1
_PAUSE_FIRST_S: Final = 1.0
_PAUSE_LONGEST_S: Final = 60.0


class StatesOnly:
    """What the replay keeps of a group: states, to judge the next one by."""

    async def read(self, group: LeafGroup, slices: Slices) -> Found:
        """Nothing is fetched."""
        return Found(rows=[_row(one) for one in group.objects.values()])


class NoKeys(RealmKeys):
    """The replay opens nothing."""

    def learn(self, org: OrgState) -> None:
        """Nothing is needed."""

    def open_stored(self, rotations: Sequence[Rotation]) -> None:
        """Nothing is kept."""

    async def ensure(self, rotations: Sequence[Rotation], client: ServerClient) -> None:
        """Nothing is fetched."""


@dataclass(slots=True, kw_only=True)
class Bootstrap:
    """Of one workspace. `directory` is where its stores lie."""

    replica: RealmReplica
    server: ServerClient
    org: OrgReplica
    keys: RealmKeys
    author: Author
    read_node: ReadNode
    directory: Path
    checks: ReplicaChecks
    _filled: bool = field(default=False, init=False)

    # The first opening

    def is_first(self) -> bool:
        """No head was reached yet: a first opening that was interrupted, or refused because the log
        ends too early (A46), has left a past that is not to be shown."""
        return self.replica.newest_head() is None

    async def open_first(self) -> None:
        """Fetch a workspace that nothing is known of, or go on with that. Raises OfflineError,
        RefusedError, VerificationError, DataError."""
        if self.replica.size() == 0:
            self._forget_replay()
            self.replica.opening = True
            try:
                await self._begin()
            finally:
                self.replica.opening = False
        await self.replica.pull()

    async def _begin(self) -> None:
        """With a snapshot, or with nothing."""
        await self.org.pull()
        try:
            await self._take_snapshot()
        except (RefusedError, VerificationError, DataError) as error:
            log.info("no snapshot, the whole log is replayed: %s", error)
            await self._clear()

    async def _take_snapshot(self) -> None:
        org = self.org.state
        start = await self._start(org)
        if start is None:
            return
        await self._clear()
        snapshot = open_start(
            start,
            expected_context=self.replica.state.context,
            keys={id: org.devices[id].key for id in self._vouchers(org)},
        )
        await self.org.ensure(snapshot.position.org_size)
        reader = SnapshotReader(
            self.replica.store,
            self.server,
            slices=self.replica.slices,
            directory=self.directory,
            checks=self.checks,
        )
        await self._store(snapshot, reader)
        log.info("event=snapshot size=%d objects=%d", snapshot.position.size, snapshot.objects)

    async def _start(self, org: OrgState) -> SnapshotStart | None:
        """None if there is nobody to vouch, or if this device has signed records of its own in the
        log: then its store was lost, and it must know them before it signs again (rule 26)."""
        vouchers = self._vouchers(org)
        if not vouchers:
            return None
        try:
            await self.server.read_snapshot(self.replica.realm, (self.author.secrets.device,))
        except RefusedError as error:
            if error.outcome != "NOT_FOUND":
                raise
            return await self.server.read_snapshot(self.replica.realm, vouchers)
        return None

    def _vouchers(self, org: OrgState) -> tuple[DeviceId, ...]:
        """Other devices of this user."""
        own = self.author.secrets
        devices = (one.device for one in org.devices_of(own.user))
        return tuple(one for one in devices if one != own.device)

    async def _store(self, snapshot: Snapshot, reader: SnapshotReader) -> None:
        with reader.pages() as pages:
            state = await reader.verify(snapshot, pages)
            self.checks.pins(self.replica.pins, log_state(state))
            self.keys.learn(self.org.state)
            await self.keys.ensure(state.rotations, self.server)
            finder = self._finder()
            await reader.store(state, pages, self._payloads(finder, self.server), finder)
        stored = StoredPayloads(self.replica.store)
        await reader.place(state, self._payloads(finder, stored), stored)
        await reader.finish(snapshot, state)
        self.replica.restate(state)

    def _finder(self) -> AuthorFinder:
        return AuthorFinder(
            self.org.state.devices,
            self.keys,
            self.replica.realm,
            self.author.secrets,
            random=self.author.random,
            checks=self.checks,
        )

    def _payloads(self, finder: AuthorFinder, source: PayloadSource) -> PayloadReader:
        return PayloadReader(
            self.replica.store,
            source,
            finder,
            realm=self.replica.realm,
            device=self.author.secrets.device,
            read_node=self.read_node,
            checks=self.checks,
        )

    async def _clear(self) -> None:
        """Without a base, objects in the store are what a broken attempt has left."""
        async with self.replica.store.writing() as write:
            write.clear()

    # The replay

    async def run(
        self,
        pull: Callable[[], Awaitable[None]],
        on_failure: Callable[[VerificationError], None],
    ) -> None:
        """Until the whole log was replayed. `pull` brings the workspace up to date, in the order
        that synchronisation wants."""
        pause = _PAUSE_FIRST_S
        try:
            while self.replica.base():
                try:
                    await self.replay_once(pull)
                    await trio.sleep(_AGAIN_S)
                except ParsecFSError as error:
                    self._report(error, on_failure)
                    await trio.sleep(pause)
                    pause = min(2 * pause, _PAUSE_LONGEST_S)
        finally:
            self.close()
        self._forget_replay()

    def close(self) -> None:
        """Close the store of the replay; what it has stays for the next time."""
        past, self.replica.past = self.replica.past, None
        if past is not None:
            past.store.close()

    def _report(
        self, error: ParsecFSError, on_failure: Callable[[VerificationError], None]
    ) -> None:
        if not isinstance(error, VerificationError):
            log.info("replay: %s", error)
            return
        log.error("replay: %s", error)
        self.replica.past_failure = error
        on_failure(error)

    async def replay_once(self, pull: Callable[[], Awaitable[None]]) -> None:
        """Replay what there is. If then both replicas have as many leaves, the realm is complete.
        Raises OfflineError, VerificationError, DataError."""
        past = self.open_past()
        await self._ready(past)
        await past.pull()
        self._compare(past)
        self.replica.past_failure = None
        if not self._filled:
            await self.replica.store.fill_in(past.store, self.replica.slices.pause)
            self._filled = True
        if past.size() > self.replica.size():
            await pull()
        async with self.replica.lock:
            if past.size() == self.replica.size():
                await self._complete(past)

    async def _ready(self, past: RealmReplica) -> None:
        """A damaged store of the replay costs the replay, no more: the next one begins anew."""
        try:
            await past.ready()
        except DataError:
            self.close()
            self._forget_replay()
            raise

    def open_past(self) -> RealmReplica:
        """The second replica, open until `close`. Raises DataError if its store is damaged."""
        if self.replica.past is None:
            store = RealmStore(self.directory / _REPLAY, self.replica.realm)
            self.replica.past = RealmReplica(
                store,
                self.server,
                self.org,
                NoKeys(store, self.replica.realm, self.author.secrets),
                StatesOnly(),
                secrets=self.author.secrets,
                audit=self.replica.audit,
                pins=self.replica.pins,
                checks=self.checks,
            )
        return self.replica.past

    def _compare(self, past: RealmReplica) -> None:
        """Raises ForkError, RollbackError, with the signed heads of both."""
        replica = self.replica
        heads = [one for one in (replica.newest_head(), past.newest_head()) if one is not None]
        evidence = tuple(encode_trusted(raw) for _, raw in heads)
        if past.size() < replica.base():
            text = "the log is shorter than the snapshot that its own server gave"
            raise RollbackError(text, evidence=evidence)
        for size in (replica.base(), min(past.size(), replica.size())):
            if past.roots_at(size) != replica.roots_at(size):
                text = f"the replayed log and the snapshot differ at {size} leaves"
                raise ForkError(text, evidence=evidence)

    async def _complete(self, past: RealmReplica) -> None:
        """From here on the store has the whole log, and this device has verified all of it."""
        self._compare(past)
        key = past.state.key
        async with self.replica.store.writing() as write:
            write.whole(past.state.chains, 0 if key is None else key.index)
        self.replica.restate(past.state)
        log.info("event=replayed size=%d", past.size())

    def _forget_replay(self) -> None:
        for end in ("", "-wal", "-shm"):
            (self.directory / (_REPLAY + end)).unlink(missing_ok=True)


def _row(change: ChangedObject) -> StoredObject:
    return StoredObject(
        id=change.record.object,
        state=change.state,
        author=change.author,
        kind=0,
        sealed=None,
        flat=None,
    )

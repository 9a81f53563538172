"""This device's verified copy of one realm's log and objects.

Data flow: server_client (leaves, head) -> `realm_state.verify_leaf` -> roots of the head hold ->
payloads fetched and checked -> one transaction in realm_store -> tree.

Everything is verified before it is stored, stored before it is applied, applied before it is shown
(rules 20, 22, 23). Own commits come back the same way: their payloads lie in the outbox, and the
transaction that stores their effects takes them out of it (`own_commits`). What another device's
change replaces is kept as long as something that was made over it is pending (decision 0013).
"""

import logging
import math
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

import trio

from parsec_fs.identity import DeviceSecrets
from parsec_fs.protocol.codec import decode, encode_trusted
from parsec_fs.protocol.errors import (
    DataError,
    ProofError,
    RollbackError,
    VerificationError,
)
from parsec_fs.protocol.ids import Hash, LogId, RealmId
from parsec_fs.protocol.log_state import log_state
from parsec_fs.protocol.realm_state import RealmState, StampBatch
from parsec_fs.protocol.records import STAMPS, Leaf, LeafHeader, LogState, Seen
from parsec_fs.remote.server_client import ServerClient, UnverifiedLeaves
from parsec_fs.storage.realm_store import RealmStore
from parsec_fs.storage.realm_tables import StoredObject
from parsec_fs.storage.realm_writer import RealmWriter
from parsec_fs.workspace import own_commits
from parsec_fs.workspace.audit_view import AuditView
from parsec_fs.workspace.leaf_groups import LeafGroup, LeafGroups
from parsec_fs.workspace.org_replica import OrgReplica
from parsec_fs.workspace.payloads import Found, GroupReader
from parsec_fs.workspace.promises import AuditFirstError, HeadPair
from parsec_fs.workspace.realm_keys import RealmKeys
from parsec_fs.workspace.realm_rebuild import light_state, with_map
from parsec_fs.workspace.refused_leaf import LeafRefusedError, refuse
from parsec_fs.workspace.replica_checks import REPLICA_CHECKS, ReplicaChecks
from parsec_fs.workspace.slices import Slices

log = logging.getLogger(__name__)

MOST_LEAVES: Final = 1000
_ANY_EPOCH: Final = 2**63 - 1
_UNDECIDED: Final = _ANY_EPOCH
_JOINED: Final = "joined"
_RESTORED: Final = "restored"


class RealmReplica:
    """One realm. `on_changes` takes what others changed over into the tree."""

    def __init__(
        self,
        store: RealmStore,
        client: ServerClient,
        org: OrgReplica,
        keys: RealmKeys,
        payloads: GroupReader,
        *,
        secrets: DeviceSecrets,
        audit: AuditView,
        pins: Iterable[LogState] = (),
        checks: ReplicaChecks = REPLICA_CHECKS,
        on_changes: Callable[[Found], None] = lambda found: None,
    ) -> None:
        self.log: LogId = store.log
        self.realm = RealmId(store.log)
        self.audit = audit
        self._checks = checks
        self._shown: HeadPair | None = None
        self.on_changes = on_changes
        self.on_taking: Callable[[Slices], Awaitable[None]] | None = None
        self.on_taken: Callable[[int], bool] | None = None
        """The tree shows what others wrote up to a size of the log. False: nothing is pending, so
        that nobody needs what the store said before."""
        self.store = store
        self.slices = Slices()
        self._client = client
        self._org = org
        self._keys = keys
        self._payloads = payloads
        self._device = secrets.device
        self.pins = tuple(pin for pin in pins if pin.log == self.log)
        self._state = light_state(store, client.context(self.log))
        self._rebuilt = self._state.position.size == 0
        self.lock = trio.Lock()
        self.opening = False
        self.past: RealmReplica | None = None
        """Replays the whole log beside this one, which began with a snapshot (rule 25)."""
        self.past_failure: VerificationError | None = None
        self.verified_at = -math.inf
        """When the newest head was verified, in trio's time."""
        self._stamps: dict[bytes, int | None] = {}
        if org.size():
            keys.learn(org.state)
        keys.open_stored(self._state.rotations)

    # Reading

    @property
    def state(self) -> RealmState:
        """The verified realm; its map is complete after `ready`."""
        return self._state

    def size(self) -> int:
        """Number of verified leaves."""
        return self._state.position.size

    def base(self) -> int:
        """Size of the snapshot that this replica began with; 0 once the whole log was replayed.
        Beyond every size until it is known where it begins: the audit must not replay meanwhile."""
        return _UNDECIDED if self.opening else self._state.base

    def check_past(self) -> None:
        """Raises VerificationError while the past is known to be another history."""
        if self.past_failure is not None:
            raise self.past_failure

    def restate(self, state: RealmState) -> None:
        """The store begins or ends with other leaves now: this is the state that it holds."""
        self._state, self._rebuilt = state, True

    def roots_at(self, size: int) -> LogState:
        """State of the log after `size` leaves, not before the base."""
        return self.store.roots_at(size)

    def seen(self) -> Seen:
        """What the header of the next record in this log says that we have seen."""
        now = self.roots_at(self.size())
        org_size = max(now.org_size, self._org.size())
        return Seen(
            size=now.size,
            log_root=now.log_root,
            map_root=now.map_root,
            org_size=org_size,
            org_root=self._org.roots_at(org_size).log_root,
            epochs=self.audit.epochs,
            chain_header=self.audit.chain_header,
        )

    def check_may_sign(self) -> None:
        """Raises RollbackError on a device whose state was restored (rule 26)."""
        if self.store.fact(_RESTORED) is not None:
            raise RollbackError("this device's state is older than its own records: enrol it anew")

    # Pulling

    async def ready(self) -> None:
        """The map is complete. Raises DataError if the local store is damaged."""
        async with self.lock:
            await self._rebuild()

    async def pull(self) -> LogState:
        """Fetch, verify, store and apply up to a fresh head. Raises OfflineError,
        VerificationError."""
        while True:
            try:
                async with self.lock:
                    return await self._pull(self.audit.most_due())
            except AuditFirstError as error:
                await self.audit.catch_up(error.epochs)

    async def reach(self, head: HeadPair, *, known_size: int) -> None:
        """Believe a head that came with another answer: replay up to it, its roots must hold.
        `known_size`: verified size when that request was sent."""
        if self.size() < head[0].size:
            await self.pull()
        if self.size() < head[0].size:
            # Signed later and smaller. Asking until it fits would keep us busy for ever.
            raise self._hidden(head)
        try:
            self._checks.promise(
                head,
                known_size=known_size,
                newest=self.store.heads.newest(),
                most_due=self.audit.most_due(),
            )
        except AuditFirstError as error:
            await self.audit.catch_up(error.epochs)
        self._check_roots(head)
        if not self.store.heads.has(head[0]):
            async with self.store.writing() as write:
                write.head(head)

    async def observe(self, stamp: Hash) -> None:
        """Log a blinded read and believe the answer only if the stamp is in the leaf that the
        server names. What is read afterwards is at least as new as this. Raises OfflineError,
        RefusedError, VerificationError."""
        known = self.size()
        self._stamps[stamp] = None
        try:
            report = await self._client.observe(self.realm, stamp)
            head = (report.head.head, report.head.raw)
            with self.slices.hurried():
                await self.reach(head, known_size=known)
            if self._stamps[stamp] != report.index or report.index >= head[0].size:
                evidence = (encode_trusted(head[1]), stamp)
                raise ProofError("a read stamp is not where the server says", evidence=evidence)
        finally:
            del self._stamps[stamp]

    async def ensure(self, size: int) -> None:
        """At least `size` leaves are verified when this returns; for the audit, which asks for
        what is anchored already and therefore takes heads whatever they promise."""
        async with self.lock:
            if self.size() < size:
                await self._pull(_ANY_EPOCH)
                if self.size() < size:
                    raise self._hidden()

    def _hidden(self, *signed: HeadPair) -> ProofError:
        """The head that hides leaves is evidence (P3), and so is one that showed them."""
        heads = (*signed, *(() if self._shown is None else (self._shown,)))
        evidence = tuple(encode_trusted(raw) for _, raw in heads)
        return ProofError("the log is shorter than what was signed or anchored", evidence=evidence)

    def heads_due(self, epoch: int) -> list[HeadPair]:
        """Heads relied upon whose promise was for this epoch or before, not settled yet."""
        return self.store.heads.due(epoch)

    def leaf_header(self, index: int) -> LeafHeader:
        """A verified leaf's header. Raises LookupError."""
        if self.past is not None and index < self.past.size():
            return self.past.leaf_header(index)
        stored = self.store.leaf(index)
        if stored is None:
            raise LookupError(f"leaf {index} is not stored")
        return decode(LeafHeader, stored.header)

    def newest_head(self) -> HeadPair | None:
        """The longest signed head that was relied upon."""
        return self.store.heads.newest()

    async def settle(self, epoch: int, size: int) -> None:
        """The epoch is verified and anchors `size` leaves."""
        await self.store.settle(size)

    async def _rebuild(self) -> None:
        if not self._rebuilt:
            self._state = await self.slices.run(with_map(self._state, self.store))
            self._rebuilt = True

    async def _pull(self, most_due: int) -> LogState:
        await self._rebuild()
        while True:
            start, asked = self.size(), trio.current_time()
            found = await self._client.read_leaves(self.log, start, MOST_LEAVES)
            head: HeadPair = (found.head.head, found.head.raw)
            newest = self.store.heads.newest()
            self._checks.promise(head, known_size=start, newest=newest, most_due=most_due)
            self._checks.reached(head, self.pins)
            self._shown = head
            await self._take(found, head)
            if self.size() == head[0].size:
                self.verified_at = asked
                return self.roots_at(self.size())

    async def _take(self, found: UnverifiedLeaves, head: HeadPair) -> None:
        leaves = found.leaves[: head[0].size - self.size()]
        if not leaves:
            if self.size() < head[0].size:
                raise DataError("the server gives no leaves below its own head")
            self._check_roots(head)
            await self._keep(head)
            return
        verified = await self._verify(leaves, head)
        reached = verified.state.position.size == head[0].size
        if reached:
            await self._check_end(verified, leaves, head)
        self._keys.learn(self._org.state)
        await self._keys.ensure(verified.state.rotations, self._client)
        for group in verified.groups:
            last = group is verified.groups[-1]
            await self._store_group(group, head if reached and last else None)
        if reached and self.store.fact(_JOINED) is None:
            async with self.store.writing() as write:
                write.fact(_JOINED, b"")

    async def _keep(self, head: HeadPair) -> None:
        if not self.store.heads.has(head[0]):
            async with self.store.writing() as write:
                write.head(head)

    def _check_roots(self, head: HeadPair) -> None:
        size = head[0].size
        self._checks.roots(head, self.roots_at(size), known=self.store.heads.at(size))

    async def _verify(self, leaves: tuple[Leaf, ...], head: HeadPair) -> LeafGroups:
        groups = LeafGroups(self._state, self.store, device=self._device)
        for leaf in leaves:
            if self._org.size() < leaf.header.org_size:
                await self._org.ensure(leaf.header.org_size)
            try:
                transition = self._checks.realm_leaf(
                    groups.state, leaf, org=self._org.state, objects=groups.view
                )
            except (DataError, VerificationError) as error:
                if leaf is not leaves[0] and leaf.header.map_root != groups.state.map.root():
                    place = groups.state.position.size - self.size() - 1
                    raise await self._refuse(error, leaves, head, place) from error
                raise self._refused(error, leaves, head, leaf, groups) from error
            groups.add(leaf, transition)
            self._find_stamps(leaf)
            self._checks.pins(self.pins, log_state(groups.state))
            await self.slices.pause()
        return groups

    async def _check_end(
        self, verified: LeafGroups, leaves: tuple[Leaf, ...], head: HeadPair
    ) -> None:
        known = self.store.heads.at(head[0].size)
        try:
            self._checks.roots(head, log_state(verified.state), known=known)
        except VerificationError as error:
            raise await self._refuse(error, leaves, head, len(leaves) - 1) from error

    async def _refuse(
        self, error: Exception, leaves: tuple[Leaf, ...], head: HeadPair, place: int
    ) -> LeafRefusedError:
        """The state behind a leaf is not what the server signed (P5): once more up to that leaf,
        for the state before it."""
        groups = await self._verify(leaves[:place], head)
        return self._refused(error, leaves, head, leaves[place], groups)

    def _refused(
        self,
        error: Exception,
        leaves: tuple[Leaf, ...],
        head: HeadPair,
        leaf: Leaf,
        groups: LeafGroups,
    ) -> LeafRefusedError:
        return refuse(
            error,
            log=self.log,
            head=head,
            start=self.size(),
            served=leaves,
            leaf=leaf,
            before=groups.state,
            objects=groups.view,
        )

    def _find_stamps(self, leaf: Leaf) -> None:
        if self._stamps and leaf.header.kind == STAMPS:
            for stamp in decode(StampBatch, leaf.body).stamps:
                if stamp in self._stamps:
                    self._stamps[stamp] = leaf.header.index

    async def _store_group(self, group: LeafGroup, head: HeadPair | None) -> None:
        if self.on_taking is not None and not group.own:
            await self.on_taking(self.slices)
        found = await self._payloads.read(group, self.slices)
        joined = self.store.fact(_JOINED) is not None
        unremembered = joined and own_commits.unremembered(self.store, group, self._device)
        restored = self._checks.restored(unremembered)
        size = group.state.position.size
        async with self.store.writing() as write:
            for leaf in group.leaves:
                write.leaf(leaf)
                await self.slices.pause()
            for operation in group.operations:
                write.operation(*operation)
            for row in found.rows:
                self._keep_replaced(write, group, row)
                write.object(row)
                await self.slices.pause()
            for id, change in found.links.items():
                write.links(id, change)
            write.position(group.state.position)
            write.chains(group.state.chains, group.authors())
            own_commits.take_from_outbox(write, self.store, group, self._device)
            if head is not None:
                write.head(head)
            if restored:
                write.fact(_RESTORED, b"")
        if restored:
            await self._org.restored()
        self._state = group.state
        if found:
            self.on_changes(found)
        if self.on_taken is not None and not group.own and not self.on_taken(size):
            async with self.store.writing() as write:
                write.forget_replaced(size)

    def _keep_replaced(self, write: RealmWriter, group: LeafGroup, row: StoredObject) -> None:
        """What is pending here was made over what the store said before. Always: something may
        change here while the transaction is being committed."""
        if self.on_taken is not None and group.own:
            write.replaced_here(row.id)
        elif self.on_taken is not None:
            write.replaced(group.state.position.size, row)

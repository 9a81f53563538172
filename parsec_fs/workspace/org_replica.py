"""This device's verified copy of the organization's log.

Data flow: server_client (leaves, head) -> membership rules -> org_store -> keys, users, realms.

Everything is verified before it is stored and stored before it is used; at the end the roots must
be those of the signed head. The log is small: all leaves are replayed when a program starts.
"""

from collections.abc import Iterable
from typing import Final

import trio

from parsec_fs.protocol import membership
from parsec_fs.protocol.codec import encode_trusted
from parsec_fs.protocol.errors import DataError, OfflineError, ProofError, VerificationError
from parsec_fs.protocol.hashing import EMPTY_MAP, EMPTY_TREE
from parsec_fs.protocol.ids import Hash, LogId
from parsec_fs.protocol.log_state import log_state
from parsec_fs.protocol.membership import OrgState
from parsec_fs.protocol.records import Leaf, LeafHeader, LogState, Seen
from parsec_fs.remote.server_client import ServerClient, UnverifiedLeaves
from parsec_fs.storage.org_store import OrgStore
from parsec_fs.workspace.audit_view import AuditView
from parsec_fs.workspace.promises import AuditFirstError, HeadPair
from parsec_fs.workspace.refused_leaf import refuse
from parsec_fs.workspace.replica_checks import REPLICA_CHECKS, ReplicaChecks

_MOST_LEAVES: Final = 1000
_RESTORED: Final = "restored"


class OrgReplica:
    """The org log of one organization. `audit` may be replaced once the auditor exists."""

    def __init__(
        self,
        store: OrgStore,
        client: ServerClient,
        *,
        genesis: Hash,
        audit: AuditView,
        pins: Iterable[LogState] = (),
        checks: ReplicaChecks = REPLICA_CHECKS,
    ) -> None:
        self.log: LogId = store.log
        self.audit = audit
        self._checks = checks
        self._shown: HeadPair | None = None
        self._store = store
        self._client = client
        self._genesis = genesis
        self._pins = tuple(pins)
        self._state: OrgState | None = None
        self._roots = [_empty(self.log)]
        self._lock = trio.Lock()
        self._replay(tuple(store.leaves()))

    @property
    def state(self) -> OrgState:
        """The verified organization. Raises OfflineError before the first pull."""
        if self._state is None:
            raise OfflineError("nothing of the organization is known yet; the server is needed")
        return self._state

    def size(self) -> int:
        """Number of verified leaves."""
        return len(self._roots) - 1

    def base(self) -> int:
        """An org log is always replayed from its genesis."""
        return 0

    def check_past(self) -> None:
        """There is none that was not replayed."""

    def roots_at(self, size: int) -> LogState:
        """State of the log after `size` leaves."""
        return self._roots[size]

    def seen(self) -> Seen:
        """What the header of the next record in this log says that we have seen."""
        now = self._roots[-1]
        return Seen(
            size=now.size,
            log_root=now.log_root,
            map_root=now.map_root,
            org_size=now.size,
            org_root=now.log_root,
            epochs=self.audit.epochs,
            chain_header=self.audit.chain_header,
        )

    async def pull(self) -> OrgState:
        """Fetch and verify up to a fresh head. Raises OfflineError, VerificationError."""
        while True:
            try:
                async with self._lock:
                    return await self._pull(self.audit.most_due())
            except AuditFirstError as error:
                await self.audit.catch_up(error.epochs)

    async def ensure(self, size: int) -> None:
        """At least `size` leaves are verified when this returns; for the audit, which asks for
        what is anchored already and therefore takes heads whatever they promise."""
        async with self._lock:
            while self.size() < size:
                await self._pull(2**63 - 1)
                if self.size() < size:
                    raise self._hidden()

    def _hidden(self) -> ProofError:
        """The head that hides leaves is evidence (P3)."""
        shown = () if self._shown is None else (encode_trusted(self._shown[1]),)
        return ProofError("the org log is shorter than what was signed or anchored", evidence=shown)

    def heads_due(self, epoch: int) -> list[HeadPair]:
        """Heads relied upon whose promise was for this epoch or before, not settled yet."""
        return self._store.heads.due(epoch)

    def leaf_header(self, index: int) -> LeafHeader:
        """A verified leaf's header."""
        return self._store.leaves(index)[0].header

    def leaves(self) -> list[Leaf]:
        """All verified leaves."""
        return self._store.leaves()

    def newest_head(self) -> HeadPair | None:
        """The longest signed head that was relied upon."""
        return self._store.heads.newest()

    async def settle(self, epoch: int, size: int) -> None:
        """The epoch is verified and anchors `size` leaves."""
        await self._store.settle(size)

    def is_restored(self) -> bool:
        """True iff this device was found older than its own records, in any workspace (rule 26)."""
        return self._store.fact(_RESTORED) is not None

    async def restored(self) -> None:
        """Remember it: commands that open no workspace ask for it."""
        await self._store.save_fact(_RESTORED, b"")

    async def _pull(self, most_due: int) -> OrgState:
        while True:
            start = self.size()
            found = await self._client.read_leaves(self.log, start, _MOST_LEAVES)
            head: HeadPair = (found.head.head, found.head.raw)
            newest = self._store.heads.newest()
            self._checks.promise(head, known_size=start, newest=newest, most_due=most_due)
            self._shown = head
            if await self._take(found, head):
                return self.state

    async def _take(self, found: UnverifiedLeaves, head: HeadPair) -> bool:
        """True iff the head is reached."""
        known = self.size()
        leaves = found.leaves[: head[0].size - known]
        before = self._state, list(self._roots)
        try:
            self._replay_served(leaves, head)
            reached = self.size() == head[0].size
            if reached:
                self._check_end(leaves, head)
            elif not leaves:
                raise DataError("the server gives no leaves below its own head")
            if leaves or not self._store.heads.has(head[0]):
                await self._store.append(leaves, head if reached else None)
        except BaseException:
            self._state, self._roots = before
            raise
        return reached

    def _check_end(self, leaves: tuple[Leaf, ...], head: HeadPair) -> None:
        known = self._store.heads.at(head[0].size)
        try:
            self._checks.roots(head, self._roots[-1], known=known)
        except VerificationError as error:
            if not leaves:
                raise
            start = self.size() - len(leaves)
            raise refuse(
                error, log=self.log, head=head, start=start, served=leaves, leaf=leaves[-1]
            ) from error

    def _replay_served(self, leaves: tuple[Leaf, ...], head: HeadPair) -> None:
        start = self.size()
        try:
            self._replay(leaves)
        except (DataError, VerificationError) as error:
            wrong = leaves[self.size() - start]
            raise refuse(
                error, log=self.log, head=head, start=start, served=leaves, leaf=wrong
            ) from error

    def _replay(self, leaves: Iterable[Leaf]) -> None:
        for leaf in leaves:
            if self._state is None:
                self._state = membership.found(leaf, expected_genesis=self._genesis)
            else:
                self._state = self._checks.org_leaf(self._state, leaf)
            self._roots.append(self._checks.pins(self._pins, log_state(self._state)))


def _empty(log: LogId) -> LogState:
    return LogState(log=log, size=0, log_root=EMPTY_TREE, map_root=EMPTY_MAP, org_size=0)

"""The commands that read logs and what belongs to them: leaves, payloads, key boxes, realm lists.

Data flow: http -> `Reader` -> access decision on the newest state -> one snapshot -> answer.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Final, TypeVar

from parsec_fs.protocol.certificates import AUDITOR, READER
from parsec_fs.protocol.commands import (
    BoxAnswer,
    Leaves,
    Outcome,
    Payloads,
    ReadBox,
    ReadLeaves,
    ReadPayloads,
    RealmList,
)
from parsec_fs.protocol.ids import LogId, OrgId, RealmId
from parsec_fs.protocol.limits import MIB
from parsec_fs.protocol.membership import OrgState
from parsec_fs.protocol.merkle import (
    consistency_proof,
    inclusion_proof,
    subtree_root,
    tree_root,
)
from parsec_fs.protocol.proofs import LogProof, Opening, ReadOpening, ReadProof
from parsec_fs.protocol.realm_state import RealmState
from parsec_fs.protocol.records import Leaf, Signed
from parsec_fs.protocol.snapshots import (
    ReadSnapshot,
    ReadSnapshotPage,
    SnapshotPage,
    SnapshotStart,
)
from server.decisions.access import role_in, user_of
from server.log import snapshots
from server.log.books import Books
from server.log.sequencer import Caller
from server.log.transactor import Done, Transactor
from server.store import logs, records, subtrees
from server.store.database import Database, Transaction

T = TypeVar("T")

ANSWER_BUDGET: Final = 8 * MIB
"""Bytes of leaves or payloads in one answer: half of what a body may have (rule 2)."""
LEAVES_MOST: Final = 10_000
_LEAF_OVERHEAD: Final = 100


class Reader:
    """Reads on behalf of devices."""

    def __init__(self, *, database: Database, books: Books, transactor: Transactor) -> None:
        self._database = database
        self._books = books
        self._transactor = transactor

    async def org(self, org: OrgId) -> OrgState | None:
        """Newest state of an organization in memory."""
        return (await self._books.org(org)).state

    async def is_revoked(self, caller: Caller) -> bool:
        """True iff the organization's log has ended this device."""
        org = await self.org(caller.org)
        return org is not None and user_of(org, caller.device) is Outcome.REVOKED

    async def realm(self, caller: Caller, realm: RealmId, *, least: int) -> RealmState | Outcome:
        """State of a realm in which the caller has at least this role."""
        org = await self.org(caller.org)
        if org is None:
            return Outcome.NOT_AUTHENTICATED
        state = (await self._books.realm(caller.org, realm)).state
        role = role_in(org, state, caller.device, least)
        if isinstance(role, Outcome):
            return role
        return state if state is not None else Outcome.NOT_ALLOWED

    async def may_read(self, caller: Caller, log: LogId) -> Outcome:
        """OK for the caller's org log and for realms in which the caller has a role: an auditor
        too reads leaves, openings and epochs, which hold no key and no content."""
        if bytes(log) == caller.org:
            return Outcome.REVOKED if await self.is_revoked(caller) else Outcome.OK
        state = await self.realm(caller, RealmId(log), least=AUDITOR)
        return state if isinstance(state, Outcome) else Outcome.OK

    async def leaves(self, caller: Caller, request: ReadLeaves) -> Leaves | Outcome:
        """log/leaves: the newest head, and leaves below its size that fit."""
        looked = await self._look(caller, request.log, request.nonce)
        if isinstance(looked, Outcome):
            return looked
        end = min(looked.state.position.size, request.start + min(request.most, LEAVES_MOST))
        if request.start >= end:
            return Leaves(leaves=(), head=looked.heads[0])
        found = await self._database.read(
            lambda transaction: tuple(
                _fitting(logs.read_leaves(transaction, request.log, request.start, end), _leaf_size)
            )
        )
        return Leaves(leaves=found, head=looked.heads[0])

    async def proof(self, caller: Caller, request: ReadProof) -> LogProof | Outcome:
        """log/proof: a leaf at a size, and that size in the newest head; in O(log n)."""
        looked = await self._look(caller, request.log, request.nonce)
        if isinstance(looked, Outcome):
            return looked
        newest = looked.state.position.size
        if not request.index < request.size <= newest:
            return Outcome.INVALID
        return await self._database.read(
            lambda transaction: _proof(transaction, request, newest, looked.heads[0])
        )

    async def opening(self, caller: Caller, request: ReadOpening) -> Opening | Outcome:
        """log/opening: a key of the state map under the newest head."""
        looked = await self._look(caller, request.log, request.nonce)
        if isinstance(looked, Outcome):
            return looked
        return Opening(proof=looked.state.map.open(request.key), head=looked.heads[0])

    async def _look(
        self, caller: Caller, log: LogId, nonce: bytes
    ) -> Done[OrgState, None] | Done[RealmState, None] | Outcome:
        """Newest state and head of a log that the caller may read."""
        allowed = await self.may_read(caller, log)
        if allowed is not Outcome.OK:
            return allowed
        return await self._transactor.look(caller.org, log, nonce=nonce)

    async def payloads(self, caller: Caller, request: ReadPayloads) -> Payloads | Outcome:
        """realm/payloads: for every reader; NOT_FOUND if one of those that are due is missing."""
        state = await self.realm(caller, request.realm, least=READER)
        if isinstance(state, Outcome):
            return state
        found = await self._database.read(
            lambda transaction: records.read_payloads(
                transaction, LogId(request.realm), request.hashes, most_bytes=ANSWER_BUDGET
            )
        )
        return Outcome.NOT_FOUND if found is None else Payloads(payloads=tuple(found))

    async def box(self, caller: Caller, request: ReadBox) -> BoxAnswer | Outcome:
        """realm/box: readers ask for their own and each other's boxes, which only the owner of the
        box key can open."""
        state = await self.realm(caller, request.realm, least=READER)
        if isinstance(state, Outcome):
            return state
        boxes = await self._database.read(
            lambda transaction: records.read_boxes(transaction, LogId(request.realm), request.index)
        )
        positions = [at for at, one in enumerate(boxes) if one.user == request.user]
        if not positions:
            return Outcome.NOT_FOUND
        leaves = [one.leaf() for one in boxes]
        proof = inclusion_proof(
            lambda start, end: tree_root(leaves[start:end]), positions[0], len(leaves)
        )
        return BoxAnswer(
            box=boxes[positions[0]], position=positions[0], count=len(boxes), proof=proof
        )

    async def snapshot(self, caller: Caller, request: ReadSnapshot) -> SnapshotStart | Outcome:
        """realm/snapshot: for every reader; NOT_FOUND if none of the devices vouches for any."""
        state = await self.realm(caller, request.realm, least=READER)
        if isinstance(state, Outcome):
            return state
        found = await self._database.read(
            lambda transaction: snapshots.start_of(transaction, state, request.vouchers)
        )
        return Outcome.NOT_FOUND if found is None else found

    async def objects(self, caller: Caller, request: ReadSnapshotPage) -> SnapshotPage | Outcome:
        """realm/objects: for every reader, at any size that the log has had."""
        state = await self.realm(caller, request.realm, least=READER)
        if isinstance(state, Outcome):
            return state
        if request.size > state.position.size:
            return Outcome.INVALID
        return await self._database.read(
            lambda transaction: snapshots.page_of(transaction, request)
        )

    async def realms(self, caller: Caller) -> RealmList | Outcome:
        """realm/list: the caller's realms."""
        org = await self.org(caller.org)
        user = Outcome.NOT_AUTHENTICATED if org is None else user_of(org, caller.device)
        if isinstance(user, Outcome):
            return user
        found = await self._database.read(
            lambda transaction: logs.realms_of_user(transaction, caller.org, user)
        )
        return RealmList(realms=tuple(found[:LEAVES_MOST]))


def _proof(transaction: Transaction, request: ReadProof, newest: int, head: Signed) -> LogProof:
    node = subtrees.node_source(transaction, request.log)
    return LogProof(
        leaf=subtrees.leaf_headers(transaction, request.log, request.index, request.index + 1)[0],
        inclusion=inclusion_proof(node, request.index, request.size),
        root=subtree_root(node, 0, request.size),
        consistency=consistency_proof(node, request.size, newest),
        head=head,
    )


def _leaf_size(leaf: Leaf) -> int:
    return len(leaf.body) + _LEAF_OVERHEAD


def _fitting(items: Iterable[T], size: Callable[[T], int]) -> Iterator[T]:
    """Items as long as they fit into an answer, at least one."""
    used = 0
    for item in items:
        used += size(item)
        if used > ANSWER_BUDGET and used > size(item):
            return
        yield item

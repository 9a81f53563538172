"""Recompute everything from the leaves: logs, maps, cuts, epochs, statements.

Data flow: database -> replay of every log under the shared rules -> compared with every summary.

What `parsec-server show --verify` runs before an operator trusts a restored or migrated database.
Nothing in it is taken from a summary that it checks. Raises VerificationError at the first thing
that does not follow.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from parsec_fs.protocol import membership
from parsec_fs.protocol.epochs import opening_leaf
from parsec_fs.protocol.errors import ProofError
from parsec_fs.protocol.hashing import rfc6962_node
from parsec_fs.protocol.ids import LogId, ObjectId, OrgId, RealmId
from parsec_fs.protocol.log_state import log_state
from parsec_fs.protocol.membership import OrgState, realm_context
from parsec_fs.protocol.merkle import Frontier, tree_root
from parsec_fs.protocol.prefix_map import PrefixMap
from parsec_fs.protocol.realm_state import RealmState, Transition, verify_leaf
from parsec_fs.protocol.records import LogState, ObjectState
from parsec_fs.protocol.snapshots import SnapshotItem
from parsec_fs.protocol.statements import verify_statement
from server.identity import ServerIdentity
from server.log.epoch_maps import OrgAt, orgs_after
from server.store import epochs, logs, objects, subtrees
from server.store.database import Transaction
from server.store.epochs import StoredEpoch
from server.store.logs import StoredLog

_CHUNK = 500
"""Epochs in memory at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedDatabase:
    """What was recomputed."""

    logs: int
    leaves: int
    epochs: int


def verify_database(
    transaction: Transaction, identity: ServerIdentity, chain_id: bytes
) -> VerifiedDatabase:
    """Replay all. Raises VerificationError, DataError."""
    found = logs.all_logs(transaction)
    orgs: dict[OrgId, OrgState] = {}
    for stored in found:
        _verify_subtrees(transaction, stored)
        if bytes(stored.log) == stored.org:
            orgs[stored.org] = _verify_org(transaction, stored)
        else:
            _verify_realm(transaction, stored, orgs[stored.org])
    return VerifiedDatabase(
        logs=len(found),
        leaves=sum(stored.position.size for stored in found),
        epochs=_verify_epochs(transaction, identity, chain_id),
    )


def _verify_org(transaction: Transaction, stored: StoredLog) -> OrgState:
    cuts = _Cuts(epochs.cuts_of(transaction, stored.log))
    leaves = logs.read_leaves(transaction, stored.log, 0, stored.position.size)
    state = membership.found(next(leaves), expected_genesis=stored.genesis)
    cuts.reached(state)
    for leaf in leaves:
        state = membership.append(state, leaf)
        cuts.reached(state)
    cuts.finish(stored.log)
    _check_summary(stored, state)
    return state


def _verify_realm(transaction: Transaction, stored: StoredLog, org: OrgState) -> RealmState:
    realm = RealmId(stored.log)
    if realm not in org.realms:
        raise ProofError(f"realm {realm.hex()} is not registered in its org log (rule 6)")
    cuts = _Cuts(epochs.cuts_of(transaction, stored.log))
    state = RealmState(context=realm_context(org, realm))
    history = _History(objects.all_former(transaction, stored.log))
    for leaf in logs.read_leaves(transaction, stored.log, 0, stored.position.size):
        step = verify_leaf(state, leaf, org=org, objects=history.state)
        state = step.state
        history.wrote(step)
        cuts.reached(state)
    cuts.finish(stored.log)
    _check_summary(stored, state)
    history.finish(objects.all_items(transaction, stored.log))
    if logs.read_chains(transaction, stored.log) != dict(state.chains):
        raise ProofError(f"device chains of {realm.hex()} do not follow from its leaves")
    return state


class _History:
    """Versions of a realm's objects on the way through its leaves: each is the newest until a leaf
    replaces it, and then the next of the former ones."""

    def __init__(self, former: Iterator[tuple[int, SnapshotItem]]) -> None:
        self._former = former
        self._newest: dict[ObjectId, SnapshotItem] = {}

    def state(self, object_id: ObjectId) -> ObjectState | None:
        """The newest state of an object."""
        found = self._newest.get(object_id)
        return None if found is None else found.state

    def wrote(self, step: Transition) -> None:
        """A leaf has written these objects, which are in order of their ids."""
        for record, state in step.objects:
            old = self._newest.get(record.object)
            if old is not None and next(self._former, None) != (state.write_index, old):
                raise ProofError(f"former states of {record.object.hex()} do not follow")
            self._newest[record.object] = SnapshotItem(
                object=record.object, state=state, commit=step.record, record=record
            )

    def finish(self, stored: Iterator[SnapshotItem]) -> None:
        """Nothing else is stored."""
        if next(self._former, None) is not None:
            raise ProofError("there are former object states that no leaf has replaced")
        if list(stored) != [self._newest[one] for one in sorted(self._newest)]:
            raise ProofError("object states do not follow from the leaves")


class _Cuts:
    """What epochs have anchored of a log, to be met on the way through its leaves."""

    def __init__(self, cuts: Iterable[LogState]) -> None:
        self._left = {state.size: state for state in cuts}

    def reached(self, state: OrgState | RealmState) -> None:
        """The log has this state; if an epoch anchored this size, then with these roots."""
        cut = self._left.pop(state.position.size, None)
        if cut is not None and cut != log_state(state):
            raise ProofError(f"log {cut.log.hex()}: anchored state of size {cut.size} is another")

    def finish(self, log: LogId) -> None:
        """Everything that was anchored is in the log."""
        if self._left:
            raise ProofError(f"log {log.hex()} ends before what was anchored of it")


def _verify_subtrees(transaction: Transaction, stored: StoredLog) -> None:
    """Exactly the full subtrees are stored, each over two that are, the lowest over leaves."""
    found = subtrees.all_stored(transaction, stored.log)
    size, lowest = stored.position.size, subtrees.LOWEST
    heights = range(lowest, max(lowest, size.bit_length()))
    if set(found) != {(height, idx) for height in heights for idx in range(size >> height)}:
        raise ProofError(f"log {stored.log.hex()}: other subtrees are stored than are full")
    for (height, idx), root in found.items():
        if height == lowest:
            start, end = idx << height, (idx + 1) << height
            expected = tree_root(subtrees.leaf_hashes(transaction, stored.log, start, end))
        else:
            expected = rfc6962_node(*(found[height - 1, 2 * idx + side] for side in (0, 1)))
        if root != expected:
            raise ProofError(f"log {stored.log.hex()}: a subtree does not follow from its leaves")


def _check_summary(stored: StoredLog, state: OrgState | RealmState) -> None:
    if stored.position != state.position or stored.map_root != state.map.root():
        raise ProofError(f"log {stored.log.hex()}: its summary does not follow from its leaves")


def _verify_epochs(transaction: Transaction, identity: ServerIdentity, chain_id: bytes) -> int:
    """Every statement signs the tree of all epochs before it, each opened down to its logs."""
    tree, orgs, org_at = Frontier(), PrefixMap(), dict[OrgId, OrgAt]()
    while stored := epochs.range_of(transaction, tree.size, tree.size + _CHUNK):
        changed = epochs.changed_logs(transaction, tree.size, tree.size + _CHUNK)
        for one in stored:
            for org, states in changed.get(one.epoch, {}).items():
                org_at[org] = org_at.get(org, OrgAt(org=org)).after(states)
                orgs = orgs_after(orgs, {org: org_at[org].map.root()})
            tree = _verify_epoch(one, tree, orgs, identity, chain_id)
    return tree.size


def _verify_epoch(
    stored: StoredEpoch, tree: Frontier, orgs: PrefixMap, identity: ServerIdentity, chain_id: bytes
) -> Frontier:
    statement = verify_statement(
        stored.statement,
        expected_chain_id=chain_id,
        expected_server_log=identity.server_log,
        head_key=identity.head_key.verify_key,
        co_key=identity.co_key.verify_key,
    )
    after = tree.append(opening_leaf(stored.opening))
    claimed = (statement.epoch, statement.epoch_leaf, statement.root)
    if claimed != (tree.size, opening_leaf(stored.opening), after.root()):
        raise ProofError(f"epoch {stored.epoch}: the statement signs another tree")
    if stored.opening.map_root != orgs.root() or stored.tree != after:
        raise ProofError(f"epoch {stored.epoch}: its map does not follow from what was cut")
    return after

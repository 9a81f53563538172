"""Recompute everything from the leaves: logs, maps, cuts, epochs, statements.

Data flow: database -> replay of every log under the shared rules -> compared with every summary.

What `parsec-server show --verify` runs before an operator trusts a restored or migrated database.
Nothing in it is taken from a summary that it checks. Raises VerificationError at the first thing
that does not follow.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from parsec_fs.protocol import membership
from parsec_fs.protocol.epochs import opening_leaf
from parsec_fs.protocol.errors import ProofError
from parsec_fs.protocol.ids import LogId, ObjectId, OrgId, RealmId
from parsec_fs.protocol.membership import OrgState, realm_context
from parsec_fs.protocol.merkle import Frontier
from parsec_fs.protocol.prefix_map import PrefixMap
from parsec_fs.protocol.realm_state import RealmState, verify_leaf
from parsec_fs.protocol.records import LogState, ObjectState
from parsec_fs.protocol.statements import verify_statement
from server.identity import ServerIdentity
from server.log.epoch_maps import OrgAt, orgs_after
from server.store import epochs, logs
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
    objects: dict[ObjectId, ObjectState] = {}
    for leaf in logs.read_leaves(transaction, stored.log, 0, stored.position.size):
        step = verify_leaf(state, leaf, org=org, objects=objects.get)
        state = step.state
        objects.update((record.object, new) for record, new in step.objects)
        cuts.reached(state)
    cuts.finish(stored.log)
    _check_summary(stored, state)
    if dict(logs.all_objects(transaction, stored.log)) != objects:
        raise ProofError(f"object states of {realm.hex()} do not follow from its leaves")
    if logs.read_chains(transaction, stored.log) != dict(state.chains):
        raise ProofError(f"device chains of {realm.hex()} do not follow from its leaves")
    return state


class _Cuts:
    """What epochs have anchored of a log, to be met on the way through its leaves."""

    def __init__(self, cuts: Iterable[LogState]) -> None:
        self._left = {state.size: state for state in cuts}

    def reached(self, state: OrgState | RealmState) -> None:
        """The log has this state; if an epoch anchored this size, then with these roots."""
        cut = self._left.pop(state.position.size, None)
        if cut is not None and cut != _log_state(state):
            raise ProofError(f"log {cut.log.hex()}: anchored state of size {cut.size} is another")

    def finish(self, log: LogId) -> None:
        """Everything that was anchored is in the log."""
        if self._left:
            raise ProofError(f"log {log.hex()} ends before what was anchored of it")


def _log_state(state: OrgState | RealmState) -> LogState:
    return LogState(
        log=state.context.log,
        size=state.position.size,
        log_root=state.position.root(),
        map_root=state.map.root(),
        org_size=state.position.org_size,
    )


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

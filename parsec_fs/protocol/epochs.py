"""Epochs: how a log's state is bound to the statement on the chain, and how it is opened.

Data flow: server/log/publisher builds -> chain -> `open_epoch` in every client's audit (rule 22).

    log state -> map of the organization's logs -> map of organizations -> salted epoch leaf -> E
"""

from parsec_fs.protocol.codec import encode_trusted
from parsec_fs.protocol.commands import EpochProof, LogOpening
from parsec_fs.protocol.errors import ProofError
from parsec_fs.protocol.hashing import epoch_leaf, log_map_key, log_value, org_map_key
from parsec_fs.protocol.ids import Hash, LogId, OrgId
from parsec_fs.protocol.merkle import Frontier
from parsec_fs.protocol.prefix_map import PrefixMap, verify_opening
from parsec_fs.protocol.records import EpochOpening, LogState
from parsec_fs.protocol.statements import Statement


def org_logs_map(org: OrgId, logs: list[LogState]) -> PrefixMap:
    """Map of the states of all logs of one organization."""
    return PrefixMap().set_many((log_map_key(org, log.log), log_state_hash(log)) for log in logs)


def orgs_map(roots: dict[OrgId, Hash]) -> PrefixMap:
    """Map of all organizations of a server: key from the id, value the root of its logs' map."""
    return PrefixMap().set_many((org_map_key(org), root) for org, root in roots.items())


def log_state_hash(state: LogState) -> Hash:
    """Value hash of a log in the map of its organization."""
    return log_value(encode_trusted(state))


def opening_leaf(opening: EpochOpening) -> Hash:
    """Leaf hash of an epoch in E."""
    return epoch_leaf(encode_trusted(opening))


def open_epoch(
    proof: EpochProof,
    statement: Statement,
    *,
    expected_epoch: int,
    expected_org: OrgId,
    expected_logs: tuple[LogId, ...],
    before: Frontier,
) -> tuple[Frontier, tuple[LogState | None, ...]]:
    """E after this epoch and the states of the asked logs (None: provably absent).

    `statement` is already verified; `before` is E after the epoch before. Raises ProofError."""
    raw = (encode_trusted(proof),)
    if statement.epoch != expected_epoch or before.size != expected_epoch:
        raise ProofError("not the next epoch", evidence=raw)
    leaf = opening_leaf(proof.opening)
    after = before.append(leaf)
    if proof.opening.epoch != expected_epoch or statement.epoch_leaf != leaf:
        raise ProofError("epoch opening is not the one that was anchored", evidence=raw)
    if after.root() != statement.root:
        raise ProofError("this epoch does not extend the one before (rule 22)", evidence=raw)
    org_key = org_map_key(expected_org)
    root = verify_opening(org_key, proof.org_proof, expected_root=proof.opening.map_root)
    if len(proof.logs) != len(expected_logs):
        raise ProofError("epoch opening answers another question", evidence=raw)
    if root is None:
        return after, tuple(None for _ in expected_logs)
    if root != proof.org_root:
        raise ProofError("organization's root is not the anchored one", evidence=raw)
    pairs = zip(expected_logs, proof.logs, strict=True)
    return after, tuple(_open_log(expected_org, log, one, root) for log, one in pairs)


def _open_log(org: OrgId, log: LogId, unverified: LogOpening, root: Hash) -> LogState | None:
    value = verify_opening(log_map_key(org, log), unverified.proof, expected_root=root)
    if value is None:
        if unverified.state:
            raise ProofError("log state given for a log that is provably absent")
        return None
    if len(unverified.state) != 1 or log_state_hash(unverified.state[0]) != value:
        raise ProofError("log state is not the anchored one")
    if unverified.state[0].log != log:
        raise ProofError("state of another log")
    return unverified.state[0]

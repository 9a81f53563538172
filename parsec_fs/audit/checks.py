"""Every verification that stands between a lying server and this device, by name.

Data flow: light client, auditor, replicas -> `Checks` method -> verified object, or an error.

One method per check, each with the attack that it stops. Production constructs `Checks()` and
nothing else: no flag, file or environment variable reaches this class. The attack tests hand in a
subclass that leaves one method out and show that then, and only then, the attack succeeds.
"""

from parsec_fs.audit.headers import HeaderChecks
from parsec_fs.protocol import epochs
from parsec_fs.protocol.codec import encode_trusted
from parsec_fs.protocol.commands import EpochProof
from parsec_fs.protocol.errors import (
    ForkError,
    ProofError,
    RollbackError,
    StaleError,
    TrustchainError,
)
from parsec_fs.protocol.ids import LogId, OrgId
from parsec_fs.protocol.merkle import Frontier
from parsec_fs.protocol.records import Head, LeafHeader, LogState
from parsec_fs.protocol.statements import Statement
from parsec_fs.workspace.replica_checks import ReplicaChecks


class Checks(HeaderChecks, ReplicaChecks):
    """The light client's and the replicas' checks, and the auditor's in the order in which data
    meets them. Stateless."""

    # Epochs as they are opened

    def epoch_opening(
        self,
        proof: EpochProof,
        statement: Statement,
        *,
        expected_epoch: int,
        expected_org: OrgId,
        expected_logs: tuple[LogId, ...],
        before: Frontier,
    ) -> tuple[Frontier, tuple[LogState | None, ...]]:
        """One path to one state per log and epoch, and E only grows (A24, A37, rule 22)."""
        return epochs.open_epoch(
            proof,
            statement,
            expected_epoch=expected_epoch,
            expected_org=expected_org,
            expected_logs=expected_logs,
            before=before,
        )

    def statement_is_anchored(self, served: Statement, on_chain: Statement) -> Statement:
        """The newest epoch that was opened is the one on the chain (A26, A40, A41)."""
        if served != on_chain:
            raise ForkError("the server opened a statement that is not the one on the chain")
        return served

    def time_grows(self, statement: Statement, *, before_ms: int) -> Statement:
        """Statements of consecutive epochs are in order. Raises ProofError."""
        if statement.time_ms <= before_ms:
            raise ProofError("time of the statements went back")
        return statement

    def log_grows(self, before: LogState, after: LogState) -> LogState:
        """What was anchored is never taken back or replaced (A21, A28). Raises RollbackError."""
        if after.size < before.size:
            raise RollbackError(f"{before.size} leaves were anchored, an epoch later {after.size}")
        same_size = after.size == before.size
        if same_size and (after.log_root, after.map_root) != (before.log_root, before.map_root):
            raise ForkError("an anchored log changed without growing")
        return after

    def org_is_current(
        self, before: LogState, after: LogState, *, org_before: LogState
    ) -> LogState:
        """Rule 9: a realm that grew knows the org log anchored one epoch before (A17)."""
        if after.size > before.size and after.org_size < org_before.size:
            raise TrustchainError("a realm is anchored against an outdated organization (rule 9)")
        return after

    def leaf_is_current(self, header: LeafHeader, *, org_before: LogState) -> LeafHeader:
        """Rule 9 for the first leaf after an epoch: a revocation anchored there is in force."""
        if header.org_size < org_before.size:
            raise TrustchainError("a leaf was judged by an outdated organization (rule 9)")
        return header

    # What was relied upon here, against what was anchored

    def leaves_to_hold(self, anchored: LogState) -> int:
        """Every anchored leaf has to be held and replayed here: hidden ones show (A23, A29)."""
        return anchored.size

    def own_is_anchored(self, own: LogState, anchored: LogState, *, epoch: int) -> LogState:
        """This device's replica is a prefix of what the chain holds (A26, A34, A37), in every
        epoch: a server could otherwise show one branch in odd epochs, another in even (rule 22).

        `own` is the replica's state at the anchored size. Raises ForkError."""
        same_size = own.size == anchored.size
        if same_size and (own.log_root, own.map_root) != (anchored.log_root, anchored.map_root):
            raise ForkError("another history than this device's was anchored")
        return own

    def promise_is_kept(self, head: Head, anchored: LogState) -> Head:
        """A head due by this epoch is covered by it (A28, A38). Raises RollbackError."""
        if head.size > anchored.size:
            raise RollbackError(
                f"{head.size} leaves were promised, {anchored.size} are anchored",
                evidence=(encode_trusted(head),),
            )
        return head

    def head_is_prefix(self, head: Head, own: LogState) -> Head:
        """A head relied upon is a prefix of the audited history; `own` is the replica at the
        head's size (A26, A27). Raises ForkError."""
        if (head.log_root, head.map_root) != (own.log_root, own.map_root):
            raise ForkError("a head was relied upon that is not part of the anchored history")
        return head

    def chain_time_grows(self, time_ns: int, *, before_ns: int) -> int:
        """Chain time never goes back on a device, restarts included (T12). Raises StaleError."""
        if time_ns < before_ns:
            raise StaleError("the chain node is behind what was verified before")
        return time_ns


ALL_CHECKS = Checks()
"""What every program uses."""

"""The verifications of a replica, by name: what every leaf and every head has to pass.

Data flow: replicas -> `ReplicaChecks` method -> verified object, or an error.

Production uses `REPLICA_CHECKS` (or `audit.checks.ALL_CHECKS`, which adds the auditor's); no flag,
file or environment variable reaches these classes. The attack tests hand a subclass that leaves one
method out to a constructor, and show that then, and only then, the attack succeeds.
"""

from collections.abc import Iterable
from typing import Final

from parsec_fs.identity import DeviceSecrets
from parsec_fs.protocol import membership, realm_state, sealing
from parsec_fs.protocol.certificates import Rotation
from parsec_fs.protocol.commands import BoxAnswer
from parsec_fs.protocol.errors import ProofError
from parsec_fs.protocol.hashing import payload_hash
from parsec_fs.protocol.ids import Hash, RealmId
from parsec_fs.protocol.manifests import BlockRef, Manifest, decode_manifest
from parsec_fs.protocol.membership import OrgState
from parsec_fs.protocol.realm_state import ObjectView, RealmState, Transition
from parsec_fs.protocol.records import Leaf, LogState
from parsec_fs.protocol.sealing import RealmKey
from parsec_fs.protocol.snapshots import Snapshot
from parsec_fs.workspace.key_boxes import open_realm_key
from parsec_fs.workspace.promises import (
    HeadPair,
    check_pins,
    check_promise,
    check_reached,
    check_roots,
)


class ReplicaChecks:
    """All of them. Stateless."""

    def promise(
        self, found: HeadPair, *, known_size: int, newest: HeadPair | None, most_due: int
    ) -> HeadPair:
        """No head is older than what this device holds (A21), and none promises an epoch so far
        ahead that the promise could never be broken (A38, rule 23)."""
        return check_promise(found, known_size=known_size, newest=newest, most_due=most_due)

    def roots(self, found: HeadPair, recomputed: LogState, *, known: HeadPair | None) -> HeadPair:
        """The replayed log has the head's roots (A26, A27, A34). Raises ProofError, ForkError."""
        return check_roots(found, recomputed, known=known)

    def org_leaf(self, state: OrgState, leaf: Leaf) -> OrgState:
        """Membership rules (A02, A03, A19, A20). Raises VerificationError."""
        return membership.append(state, leaf)

    def realm_leaf(
        self, state: RealmState, leaf: Leaf, *, org: OrgState, objects: ObjectView
    ) -> Transition:
        """Transition rules of a realm (A10, A17, A18, A31, A32). Raises VerificationError."""
        return realm_state.verify_leaf(state, leaf, org=org, objects=objects)

    def pins(self, pins: Iterable[LogState], recomputed: LogState) -> LogState:
        """This is the history that whoever invited this device saw (A46, rule 25). Raises
        ForkError."""
        return check_pins(pins, recomputed)

    def reached(self, found: HeadPair, pins: Iterable[LogState]) -> HeadPair:
        """This is all of that history: no log ends before what was seen then (A46). Raises
        RollbackError."""
        return check_reached(found, pins)

    def snapshot(self, found: Snapshot) -> RealmState:
        """What the server says of the past leads to the roots that an own device has signed (A46,
        rule 25). Raises ProofError."""
        return found.finish()

    def restored(self, unremembered: bool) -> bool:
        """A record under this device's key that it does not remember: its state is an older copy,
        or its key is used elsewhere too, and it signs no more (A47, rule 26)."""
        return unremembered

    def realm_key(
        self, unverified: BoxAnswer, rotation: Rotation, *, realm: RealmId, secrets: DeviceSecrets
    ) -> RealmKey:
        """The box is the one that the rotation's author sealed, and nothing else is ever opened
        (A01, A13); its key is the one that all members hold (A15). Raises ProofError,
        TrustchainError, DecryptionError."""
        return open_realm_key(unverified, rotation, realm=realm, secrets=secrets)

    def payload(self, unverified: bytes, *, expected: Hash) -> bytes:
        """The sealed manifest is the one that its author signed for: nobody who merely holds the
        realm key can put an older one in its place (A08, A11, A21). Raises ProofError."""
        if payload_hash(unverified) != expected:
            raise ProofError("payload is not the one that its commit names", evidence=(unverified,))
        return unverified

    def manifest(self, unverified: bytes) -> Manifest:
        """What a member sealed is well-formed, and no name in it is a way out of its folder (A50,
        rule 12). Raises DataError."""
        return decode_manifest(unverified)

    def block(
        self,
        unverified: bytes | memoryview,
        ref: BlockRef,
        *,
        realm: RealmId,
        buffer: bytearray | None = None,
    ) -> bytearray:
        """A block has the digest that its file's author signed, then opens: nobody who merely
        holds its key can change it (A06, A07, A16). Raises DecryptionError."""
        return sealing.open_block(unverified, ref, realm=realm, buffer=buffer)


REPLICA_CHECKS: Final = ReplicaChecks()
"""What every replica uses unless it is given more."""

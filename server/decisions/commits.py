"""What becomes of a batch of commits: a leaf each, or a signed and final refusal (rule 15).

Data flow: CommitBatch, BatchView -> `decide` over realm_state -> BatchEffects | Outcome.

Order: organization and author (the session), role (outsiders get the same unsigned answer whether
or not the realm exists), repeated bytes, refused predecessor, chain, key index, versions.
A commit that follows a refused one in the device's chain is refused too, in this and in every
later batch. A request that is malformed or lacks payloads is answered as a whole and settles
nothing: it is repaired and sent again.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from parsec_fs.protocol.commands import CommitBatch, Outcome
from parsec_fs.protocol.commits import (
    DELETED,
    Commit,
    VerifiedCommit,
    verify_commit,
)
from parsec_fs.protocol.errors import ParsecFSError
from parsec_fs.protocol.hashing import payload_hash
from parsec_fs.protocol.ids import DeviceId, Hash, ObjectId
from parsec_fs.protocol.keys import VerifyKey
from parsec_fs.protocol.limits import COMMIT_MAX_OBJECTS
from parsec_fs.protocol.log_state import DeviceChain
from parsec_fs.protocol.membership import OrgState
from parsec_fs.protocol.realm_state import CommitConflictError, RealmState, Transition, apply_commit
from parsec_fs.protocol.records import (
    COMMIT,
    Conflict,
    Context,
    Leaf,
    ObjectState,
    Refusal,
    Signed,
)
from server.decisions.access import is_outsider
from server.decisions.effects import LogChange, RealmEffects, Write, next_leaf
from server.decisions.reasons import outcome_of

SEQUENCE_MAX = 2**63 - 1
"""What the database can hold; no honest device gets there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedCommit:
    """A commit whose signature, context and records root hold, and its leaf body."""

    body: bytes
    verified: VerifiedCommit

    @property
    def commit(self) -> Commit:
        """The signed record."""
        return self.verified.commit


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedBatch:
    """A well-formed batch: verified commits, payloads by their hashes."""

    commits: tuple[ParsedCommit, ...]
    payloads: Mapping[Hash, bytes]

    def needed_payloads(self) -> dict[Hash, int]:
        """Payloads that the commits name, with their declared sizes."""
        return {
            record.payload: record.payload_size
            for one in self.commits
            for record in one.verified.objects
            if not record.flags & DELETED
        }

    def records(self) -> set[Hash]:
        """Hashes of the commits and of the records that they follow."""
        found = {one.verified.hash for one in self.commits}
        return found | {one.commit.header.previous for one in self.commits}

    def earlier(self, chain: DeviceChain) -> set[Hash]:
        """Hashes of those commits that can be in the log already: a device's accepted records are
        exactly those below its chain's sequence."""
        return {
            one.verified.hash for one in self.commits if one.commit.header.sequence < chain.sequence
        }

    def objects(self) -> set[ObjectId]:
        """Every object whose state the decision looks at."""
        ids = {record.object for one in self.commits for record in one.verified.objects}
        return ids | {one.object for each in self.commits for one in each.commit.preconditions}


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchView:
    """All that the decision needs to see, read in the transaction that will carry it out.

    `accepted` and `refused` say what became of records of this device before; `stored` are those
    payloads that are needed, not sent, and here already; `objects` looks up present states."""

    org: OrgState
    realm: RealmState
    accepted: Mapping[Hash, int]
    refused: Mapping[Hash, Signed]
    stored: frozenset[Hash]
    objects: Callable[[ObjectId], ObjectState | None]
    bytes_left: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeated:
    """The answer that was given before: a leaf index, or the refusal's exact bytes."""

    index: int | None
    refusal: Signed | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchEffects:
    """Effects on the realm, and per commit a leaf index, a refusal, or what was said before."""

    realm: RealmEffects
    results: tuple[int | Refusal | Repeated, ...]


def parse(
    batch: CommitBatch, *, device: DeviceId, key: VerifyKey, context: Context
) -> ParsedBatch | Outcome:
    """Check everything that does not depend on the state of the realm."""
    try:
        commits = tuple(
            ParsedCommit(body=body, verified=verify_commit(body, key=key, expected_context=context))
            for body in batch.commits
        )
    except ParsecFSError:
        return Outcome.BAD_REQUEST
    headers = [one.commit.header for one in commits]
    if any(one.device != device or one.sequence > SEQUENCE_MAX for one in headers):
        return Outcome.BAD_REQUEST
    return ParsedBatch(
        commits=commits, payloads={payload_hash(data): data for data in batch.payloads}
    )


def decide(
    batch: ParsedBatch, *, view: BatchView, device: DeviceId, now_ms: int
) -> BatchEffects | Outcome:
    """The fate of every commit, in order."""
    if is_outsider(view.org, view.realm, device):
        return Outcome.NOT_ALLOWED
    needed = batch.needed_payloads()
    if any(one not in batch.payloads and one not in view.stored for one in needed):
        return Outcome.MISSING_PAYLOAD
    used = {one: batch.payloads[one] for one in needed if one in batch.payloads}
    if any(len(data) != needed[one] for one, data in used.items()):
        return Outcome.BAD_REQUEST
    if sum(len(data) for data in used.values()) > view.bytes_left:
        return Outcome.QUOTA
    run = _Run(view=view, realm=view.realm, device=device, now_ms=now_ms)
    results = tuple(run.next(one) for one in batch.commits)
    return BatchEffects(realm=run.effects(used), results=results)


@dataclass(slots=True, kw_only=True)
class _Run:
    """The batch under way: a local accumulator, never shared."""

    view: BatchView
    realm: RealmState
    device: DeviceId
    now_ms: int
    leaves: list[Leaf] = field(default_factory=list)
    accepted: dict[Hash, int] = field(default_factory=dict)
    refusals: dict[Hash, Refusal] = field(default_factory=dict)
    objects: dict[ObjectId, ObjectState] = field(default_factory=dict)
    writes: list[Write] = field(default_factory=list)
    payloads: set[Hash] = field(default_factory=set)

    def next(self, one: ParsedCommit) -> int | Refusal | Repeated:
        """Decide one commit on top of those before it."""
        repeated = self._repeated(one.verified.hash)
        if repeated is not None:
            return repeated
        previous = one.commit.header.previous
        if previous in self.view.refused or previous in self.refusals:
            return self._refuse(one, Outcome.AFTER_REFUSED)
        try:
            transition = apply_commit(
                self.realm, one.verified, org=self.view.org, objects=self._object
            )
        except CommitConflictError as error:
            return self._refuse(one, Outcome.CONFLICT, error.conflicts)
        except ParsecFSError as error:
            return self._refuse(one, outcome_of(error))
        leaf = next_leaf(
            self.realm.position,
            COMMIT,
            one.body,
            map_root=self.realm.map.root(),
            org_size=self.view.org.position.size,
            now_ms=self.now_ms,
        )
        self.realm = replace(transition.state, position=self.realm.position.after(leaf))
        self._wrote(one.verified, transition)
        self.payloads.update(record.payload for record in one.verified.objects)
        self.leaves.append(leaf)
        self.accepted[one.verified.hash] = leaf.header.index
        return leaf.header.index

    def effects(self, payloads: Mapping[Hash, bytes]) -> RealmEffects:
        """Everything at once; payloads that only refused commits name are not kept."""
        chains: dict[DeviceId, DeviceChain] = {}
        if self.leaves:
            chains[self.device] = self.realm.chains[self.device]
        change = LogChange(
            context=self.realm.context,
            position=self.realm.position,
            map_root=self.realm.map.root(),
            leaves=tuple(self.leaves),
            accepted=tuple(self.accepted.items()),
            refusals=tuple(self.refusals.values()),
            chains=chains,
            writes=tuple(self.writes),
            payloads={one: data for one, data in payloads.items() if one in self.payloads},
        )
        return RealmEffects(state=self.realm, change=change)

    def _wrote(self, commit: VerifiedCommit, transition: Transition) -> None:
        for (record, state), encoded in zip(transition.objects, commit.encoded, strict=True):
            self.objects[record.object] = state
            self.writes.append(Write(record.object, state, commit.hash, encoded))

    def _object(self, object_id: ObjectId) -> ObjectState | None:
        return self.objects.get(object_id) or self.view.objects(object_id)

    def _repeated(self, record: Hash) -> Refusal | Repeated | None:
        """Identical bytes get the answer that they got, in an earlier batch or in this one."""
        if record in self.refusals:
            return self.refusals[record]
        index = self.view.accepted.get(record, self.accepted.get(record))
        refusal = self.view.refused.get(record)
        if index is None and refusal is None:
            return None
        return Repeated(index=index, refusal=refusal)

    def _refuse(
        self, one: ParsedCommit, outcome: Outcome, conflicts: tuple[Conflict, ...] = ()
    ) -> Refusal:
        header = one.commit.header
        refusal = Refusal(
            context=self.realm.context,
            device=header.device,
            sequence=header.sequence,
            record=one.verified.hash,
            outcome=int(outcome),
            size=self.realm.position.size,
            log_root=self.realm.position.root(),
            map_root=self.realm.map.root(),
            time_ms=max(self.now_ms, self.realm.position.time_ms),
            conflicts=conflicts[:COMMIT_MAX_OBJECTS],
        )
        self.refusals[one.verified.hash] = refusal
        return refusal

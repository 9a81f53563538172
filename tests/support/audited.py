"""A device in memory: replicas over a simulated server, light client stand-in, stores, clocks.

Data flow: HonestServer (or a lying twin) -> ReplicaLog -> Auditor -> state, evidence.

The replicas run the same checks as the real ones, through the same `Checks` object, so that a test
can leave exactly one out and see the attack succeed.
"""

from collections.abc import Awaitable, Callable, Sequence
from copy import copy
from dataclasses import dataclass, field, replace

from parsec_fs.audit.auditor import Auditor
from parsec_fs.audit.chain_head import ChainProof, VerifiedChainHead, chain_proof, verify_proof
from parsec_fs.audit.checks import ALL_CHECKS, Checks
from parsec_fs.audit.commitments import absent
from parsec_fs.audit.evidence import check_offline
from parsec_fs.audit.headers import trust_anchor
from parsec_fs.audit.ports import HeadPair
from parsec_fs.audit.trusted_state import AnchoredRange
from parsec_fs.audit.verdict import Verdict
from parsec_fs.protocol import membership
from parsec_fs.protocol.chain_types import TrustState
from parsec_fs.protocol.codec import decode, encode
from parsec_fs.protocol.commands import EpochProof, Epochs
from parsec_fs.protocol.errors import (
    DataError,
    OfflineError,
    ProofError,
    StaleError,
    VerificationError,
)
from parsec_fs.protocol.ids import Hash, LogId, ObjectId
from parsec_fs.protocol.keys import VerifyKey
from parsec_fs.protocol.membership import OrgState
from parsec_fs.protocol.realm_state import RealmState
from parsec_fs.protocol.records import Leaf, LeafHeader, LogState, ObjectState, verify_head
from parsec_fs.protocol.simple_map import (
    HEADS_KEY,
    HISTORY_KEY,
    PARAMS_KEY,
    encode_operation,
    log_key,
    map_root,
    prove,
)
from parsec_fs.protocol.statements import Statement
from parsec_fs.workspace.refused_leaf import LeafRefusedError, refuse
from tests.support.history import CutEpoch, HonestServer
from tests.support.simulated_chain import make_header, sign_header

SECOND_NS = 1_000_000_000
MS_NS = 1_000_000


@dataclass(kw_only=True)
class DeviceClock:
    """Both clocks of a device: they run with the server's until somebody turns them."""

    server: HonestServer
    monotonic_ahead_ns: int = 0
    wall_ahead_ns: int = 0

    def monotonic_ns(self) -> int:
        return self.server.now_ms * MS_NS + self.monotonic_ahead_ns

    def now_ns(self) -> int:
        return self.server.now_ms * MS_NS + self.wall_ahead_ns

    def turn_wall(self, seconds: float) -> None:
        """The wall clock is set."""
        self.wall_ahead_ns += int(seconds * SECOND_NS)


@dataclass(kw_only=True)
class SimulatedChain:
    """What the validators agreed on: the statements of one server, provable to anyone."""

    server: HonestServer
    statements: list[CutEpoch] = field(default_factory=list)
    times_ms: list[int] = field(default_factory=list)
    reachable: bool = True
    failure: Exception | None = None

    def publish(self, cut: CutEpoch) -> None:
        """Accepted by the validators, in a block of the statement's time."""
        self.statements.append(cut)
        self.times_ms.append(decode(Statement, cut.statement.statement).time_ms)

    def proof(self) -> ChainProof:
        """Light block and state proof of the newest statement."""
        height = len(self.statements) * 2 + 1
        value = encode(self.statements[-1].statement)
        key = log_key(self.server.registration.server_log)
        inner = {key: value, b"ff" * 32: b"another server's"}
        outer = {HEADS_KEY: map_root(inner), HISTORY_KEY: b"h", PARAMS_KEY: b"p"}
        operations = (
            encode_operation(key, prove(inner, key)),
            encode_operation(HEADS_KEY, prove(outer, HEADS_KEY)),
        )
        validators = self.server.validators
        header = make_header(
            height, validators, app_hash=map_root(outer), time_ns=self.times_ms[-1] * MS_NS
        )
        block = sign_header(header, validators)
        return chain_proof(block, value, operations)

    def head(self) -> VerifiedChainHead:
        """The newest head, verified from the anchor."""
        anchor = self.server.anchor
        return verify_proof(self.proof(), anchor=anchor.chain, server=anchor.server)


class SimulatedLightClient:
    """Stands where the light client stands; its verification has tests of its own."""

    def __init__(self, chain: SimulatedChain) -> None:
        self.chain = chain
        self.trust: TrustState = trust_anchor(chain.server.anchor.chain)

    async def newest_head(self) -> VerifiedChainHead:
        if self.chain.failure is not None:
            raise self.chain.failure
        if not self.chain.reachable:
            raise OfflineError("no chain node can be reached")
        if not self.chain.statements:
            raise StaleError("no statement yet")
        return self.chain.head()


async def _nothing(record: bytes) -> None:
    return None


class MemoryStore:
    """Survives restarts of a device."""

    def __init__(self) -> None:
        self.record: bytes | None = None
        self.evidence: dict[str, bytes] = {}
        self.anchored: list[AnchoredRange] = []
        self.before_save: Callable[[bytes], Awaitable[None]] = _nothing

    def load(self) -> bytes | None:
        return self.record

    async def save(self, record: bytes, anchored: Sequence[AnchoredRange] = ()) -> None:
        await self.before_save(record)
        self.record = record
        self.anchored += anchored

    async def keep_evidence(self, name: str, file: bytes) -> None:
        self.evidence[name] = file


class Door:
    """How a device reaches the server. What a lying one shows: another `server` altogether, fewer
    leaves (`shown`), a certain head (`heads`), other openings (`twist`)."""

    def __init__(self, server: HonestServer) -> None:
        self.server = server
        self.reachable = self.opens = True
        self.shown: dict[LogId, int] = {}
        self.heads: dict[LogId, HeadPair] = {}
        self.twist: Callable[[EpochProof], EpochProof] = lambda proof: proof

    def _check(self) -> None:
        if not self.reachable:
            raise OfflineError("the server cannot be reached")

    def leaves(self, log: LogId, start: int) -> tuple[Sequence[Leaf], HeadPair]:
        """log/leaves: everything, or what is shown of it."""
        self._check()
        size = self.shown.get(log, len(self.server.simulated(log).leaves))
        head = self.heads.get(log) or self.server.head(log, size=size)
        return self.server.simulated(log).leaves[start:size], head

    async def read_epochs(self, start: int, most: int, logs: tuple[LogId, ...]) -> Epochs:
        self._check()
        answer = self.server.read(start, most if self.opens else 0, logs)
        return replace(answer, epochs=tuple(self.twist(one) for one in answer.epochs))

    async def read_headers(self, log: LogId, size: int) -> Sequence[LeafHeader]:
        self._check()
        return [leaf.header for leaf in self.server.simulated(log).leaves[:size]]


class ReplicaLog:
    """A replica of the org log, or of the realm log over the one of the org log."""

    def __init__(
        self,
        door: Door,
        log: LogId,
        *,
        checks: Checks,
        org: "ReplicaLog | None" = None,
        most_due: int = 2**62,
    ) -> None:
        self.log, self.door, self.checks, self.org = log, door, checks, org
        self.most_due = most_due
        self.states: list[LogState] = [absent(log)]
        self.org_states: list[OrgState] = []
        self.realm_state = RealmState(context=door.server.anchor.context(log))
        self.objects: dict[ObjectId, ObjectState] = {}
        self.headers: list[LeafHeader] = []
        self.bodies: list[Leaf] = []
        self.heads: dict[int, HeadPair] = {}
        self.settled: dict[int, int] = {}
        self.shown: tuple[bytes, ...] = ()
        self.vouched = 0
        """Leaves below are there for the simulation, but not for the auditor (a snapshot)."""
        self.past_failure: VerificationError | None = None

    def size(self) -> int:
        return len(self.headers)

    def base(self) -> int:
        return self.vouched

    def check_past(self) -> None:
        if self.past_failure is not None:
            raise self.past_failure

    def roots_at(self, size: int) -> LogState:
        if 0 < size < self.vouched:
            raise LookupError(size)
        return self.states[size]

    def leaf_header(self, index: int) -> LeafHeader:
        if index < self.vouched:
            raise LookupError(index)
        return self.headers[index]

    def leaves(self) -> list[Leaf]:
        return self.bodies

    def newest_head(self) -> HeadPair | None:
        return self.heads[max(self.heads)] if self.heads else None

    def heads_due(self, epoch: int) -> list[HeadPair]:
        due = [self.heads[size] for size in sorted(self.heads)]
        return [one for one in due if one[0].due_epoch <= epoch and one[0].size not in self.settled]

    async def settle(self, epoch: int, size: int) -> None:
        self.settled |= {one: epoch for one in self.heads if one <= size}

    async def ensure(self, size: int) -> None:
        if self.size() < size:
            await self.pull()
        if self.size() < size:
            raise ProofError("the log is shorter than what was anchored", evidence=self.shown)

    async def pull(self) -> None:
        """Fetch, verify, keep the head: what the real replicas do."""
        leaves, pair = self.door.leaves(self.log, self.size())
        self.shown = (encode(pair[1]),)
        context = self.door.server.anchor.context(self.log)
        key = VerifyKey(self.door.server.anchor.server.head_key)
        verify_head(pair[1], head_key=key, expected_context=context)
        self.checks.promise(
            pair,
            known_size=self.size(),
            newest=self.newest_head(),
            most_due=self.most_due,
        )
        trial = self._trial()
        for place, leaf in enumerate(leaves):
            trial._take_served(leaf, leaves, pair, self, place)
        known = self.heads.get(pair[0].size)
        try:
            self.checks.roots(pair, trial.states[-1], known=known)
        except VerificationError as error:
            if not leaves:
                raise
            raise self._refuse(error, leaves, pair, len(leaves) - 1) from error
        vars(self).update(vars(trial))
        self.keep(pair)

    def keep(self, pair: HeadPair) -> None:
        """Rely on a head: the earliest promise for a size is the strongest."""
        old = self.heads.get(pair[0].size)
        if old is None or pair[0].due_epoch < old[0].due_epoch:
            self.heads[pair[0].size] = pair

    def _trial(self) -> "ReplicaLog":
        trial = copy(self)
        trial.states, trial.headers = list(self.states), list(self.headers)
        trial.org_states, trial.objects = list(self.org_states), dict(self.objects)
        trial.bodies = list(self.bodies)
        return trial

    def _take_served(
        self, leaf: Leaf, served: Sequence[Leaf], head: HeadPair, old: "ReplicaLog", place: int
    ) -> None:
        try:
            self._take(leaf)
        except (DataError, VerificationError) as error:
            wrong_map = self.states[-1].map_root != leaf.header.map_root
            if place and wrong_map:
                place -= 1
            raise old._refuse(error, served, head, place) from error

    def _refuse(
        self, error: Exception, served: Sequence[Leaf], head: HeadPair, place: int
    ) -> LeafRefusedError:
        before = self._trial()
        for leaf in served[:place]:
            before._take(leaf)
        return refuse(
            error,
            log=self.log,
            head=head,
            start=self.size(),
            served=served,
            leaf=served[place],
            before=before.realm_state if self.org else None,
            objects=before.objects.get,
        )

    def _take(self, leaf: Leaf) -> None:
        if self.org is None:
            self._take_org(leaf)
        else:
            self._take_realm(leaf)

    def _take_org(self, leaf: Leaf) -> None:
        genesis = self.door.server.anchor.genesis
        if self.org_states:
            state = self.checks.org_leaf(self.org_states[-1], leaf)
        else:
            state = membership.found(leaf, expected_genesis=genesis)
        self.org_states.append(state)
        self.bodies.append(leaf)
        self._extend(leaf.header, state.position.root(), state.map.root())

    def _take_realm(self, leaf: Leaf) -> None:
        assert self.org is not None
        org = self.org.org_states[leaf.header.org_size - 1]
        transition = self.checks.realm_leaf(
            self.realm_state, leaf, org=org, objects=self.objects.get
        )
        self.realm_state = transition.state
        self.objects |= {record.object: new for record, new in transition.objects}
        self._extend(leaf.header, transition.state.position.root(), transition.state.map.root())

    def _extend(self, header: LeafHeader, log_root: Hash, map_root: Hash) -> None:
        self.headers.append(header)
        self.states.append(
            LogState(
                log=self.log,
                size=len(self.headers),
                log_root=log_root,
                map_root=map_root,
                org_size=header.org_size,
            )
        )


class AuditedDevice:
    """One member's device: two replicas and an auditor."""

    def __init__(
        self,
        server: HonestServer,
        chain: SimulatedChain,
        *,
        checks: Checks = ALL_CHECKS,
        clock: DeviceClock | None = None,
    ) -> None:
        self.door, self.chain, self.checks = Door(server), chain, checks
        self.anchor = server.anchor
        self.clock = clock or DeviceClock(server=server)
        self.store = MemoryStore()
        self.org = ReplicaLog(self.door, server.org_log.log, checks=checks)
        self.realm = ReplicaLog(self.door, server.realm_log.log, checks=checks, org=self.org)
        self.frozen: list[bool] = []
        self.restart()

    def restart(self, *, own_floor: bool = True) -> None:
        """A new process over the same stores."""
        self.auditor = Auditor(
            anchor=self.anchor,
            server=self.door,
            chain=SimulatedLightClient(self.chain),
            histories=(self.org, self.realm),
            store=self.store,
            clock=self.clock,
            checks=self.checks,
            on_convicted=lambda: self.frozen.append(True),
            own_floor=own_floor,
        )

    async def pull(self) -> None:
        """Both replicas."""
        await self.org.pull()
        await self.realm.pull()

    async def audit(self) -> str:
        """One round; the word."""
        return (await self.auditor.audit_once()).word

    def verdicts(self) -> list[Verdict]:
        """What the kept evidence proves, on a clean machine that has only the anchor."""
        return [check_offline(one, self.anchor) for one in self.store.evidence.values()]

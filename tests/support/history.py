"""An honest server's history in memory, over the real rules: leaves, heads, epochs, statements.

Data flow: certificates and commits signed by real devices -> `HonestServer` -> what a device sees.

`fork()` gives a twin with the same keys and the same past, which from then on may say otherwise:
that is all that a lying server needs. Everything is deterministic in the seed.
"""

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, field, replace
from typing import Any

from parsec_fs.audit.commitments import absent
from parsec_fs.enrolment import device_content, found_org
from parsec_fs.identity import Author, DeviceSecrets, Identity, TrustAnchor, UserKeySeed
from parsec_fs.protocol import membership
from parsec_fs.protocol.certificates import (
    STANDARD,
    Content,
    DeviceRevoked,
    RealmCreated,
    RealmRegistered,
    Role,
    RoleRegistered,
    Rotation,
    User,
    UserKey,
    UserRevoked,
    sign_certificate,
)
from parsec_fs.protocol.codec import decode, encode
from parsec_fs.protocol.commands import EpochProof, Epochs, LogOpening
from parsec_fs.protocol.commits import DELETED, ObjectRecord, sign_commit
from parsec_fs.protocol.epochs import opening_leaf, org_logs_map, orgs_map
from parsec_fs.protocol.hashing import (
    EMPTY_MAP,
    body_hash,
    log_map_key,
    map_key,
    org_map_key,
    sha256,
    signed_hash,
)
from parsec_fs.protocol.ids import NO_HASH, DeviceId, Hash, LogId, ObjectId, RealmId, UserId
from parsec_fs.protocol.keys import SigningKey
from parsec_fs.protocol.log_state import DeviceChain
from parsec_fs.protocol.membership import OrgState
from parsec_fs.protocol.merkle import Frontier
from parsec_fs.protocol.prefix_map import PrefixMap
from parsec_fs.protocol.realm_state import RealmState, StampBatch, Transition, verify_leaf
from parsec_fs.protocol.records import (
    CERTIFICATE,
    COMMIT,
    STAMPS,
    EpochOpening,
    Head,
    Leaf,
    LeafHeader,
    LogState,
    ObjectState,
    Seen,
    Signed,
    sign_head,
)
from parsec_fs.protocol.statements import (
    ServerRegistration,
    SignedStatement,
    Statement,
    sign_statement,
)
from tests.support.identities import user_content
from tests.support.servers import FakePublisher
from tests.support.simulated_chain import Operators, operators

Random = Callable[[int], bytes]
START_MS = 1_700_000_100_000


def seeded(seed: bytes) -> Random:
    """Deterministic bytes."""
    count = 0

    def draw(size: int) -> bytes:
        nonlocal count
        count += 1
        base = sha256(seed + count.to_bytes(8, "big"))
        return b"".join(sha256(base + bytes([part])) for part in range((size + 31) // 32))[:size]

    return draw


@dataclass(kw_only=True)
class Member:
    """A device that signs, with what it has seen of each log."""

    secrets: DeviceSecrets
    author: Author
    seen: dict[LogId, Seen] = field(default_factory=dict)

    @property
    def key(self) -> SigningKey:
        return self.secrets.signing_key()


@dataclass(kw_only=True)
class SimulatedLog:
    """Leaves and states of one log; `states[n]` is the state after n leaves."""

    log: LogId
    leaves: list[Leaf] = field(default_factory=list)
    states: list[LogState] = field(default_factory=list)
    maps: list[PrefixMap] = field(default_factory=lambda: [PrefixMap()])

    def copy(self) -> "SimulatedLog":
        return SimulatedLog(
            log=self.log,
            leaves=list(self.leaves),
            states=list(self.states),
            maps=list(self.maps),
        )


@dataclass(frozen=True, kw_only=True)
class CutEpoch:
    """What a server keeps of an epoch to open it for anyone."""

    statement: SignedStatement
    opening: EpochOpening
    org_root: Hash
    orgs: PrefixMap
    logs: PrefixMap
    states: dict[LogId, LogState]


class HonestServer:
    """One organization with one realm, "alice" its first device."""

    def __init__(self, seed: bytes = b"history", *, validators: Operators | None = None) -> None:
        self.random = seeded(seed)
        self.publisher = FakePublisher()
        self.registration: ServerRegistration = self.publisher.registration
        self.head_key: SigningKey = self.publisher.key
        self.validators = validators or operators(1, 2, 3, 4)
        self.now_ms = START_MS
        self.epochs: list[CutEpoch] = []
        self.tree = Frontier()
        self.objects: dict[ObjectId, ObjectState] = {}
        self.versions: list[tuple[ObjectId, ObjectState]] = []
        self.realm_states: list[RealmState] = []
        request, identity = found_org(
            token=bytes(32),
            name="acme",
            user_name="alice",
            email="alice@acme.example",
            device_label="alice-laptop",
            chain=self.validators.anchor(),
            server=self.registration,
            server_url="http://server",
            rpc_urls=("http://node",),
            random=self.random,
        )
        self.identity: Identity = identity
        self.anchor: TrustAnchor = identity.anchor
        self.alice = self._member(identity.secrets)
        self.org_log = SimulatedLog(log=LogId(self.anchor.org))
        self.org_states: list[OrgState] = []
        for body in (request.genesis, request.user, request.device):
            self.append_org(body)
        self.realm = RealmId(self.random(32))
        self.realm_log = SimulatedLog(log=LogId(self.realm))
        self.logs = (self.org_log.log, self.realm_log.log)
        self._create_realm()

    # Members

    def _member(self, secrets: DeviceSecrets) -> Member:
        author = Author(secrets=secrets, incarnation=self.random(16), random=self.random)
        return Member(secrets=secrets, author=author)

    def add_device(self, name: str, *, profile: int = STANDARD) -> Member:
        """Another user with one device, in the org log alone."""
        user, seed = UserId(self.random(16)), UserKeySeed(generation=1, seed=self.random(96))
        secrets = replace(
            self.alice.secrets,
            user=user,
            device=DeviceId(self.random(16)),
            sign_seed=self.random(32),
            box_seed=self.random(96),
            user_keys=(seed,),
        )
        for content in (
            user_content(name, secrets, profile=profile),
            device_content(secrets, f"{name}-laptop".encode()),
        ):
            self.append_org(self.certificate(self.alice, self.org_log.log, content))
        return self._member(secrets)

    def add_member(self, name: str, role: int) -> Member:
        """Another user with one device and a role in the realm."""
        member = self.add_device(name)
        content = Role(user=member.secrets.user, role=role)
        body = self.certificate(self.alice, self.realm_log.log, content)
        self.append_realm(CERTIFICATE, body)
        return member

    # Appending

    @property
    def org(self) -> OrgState:
        """The organization now."""
        return self.org_states[-1]

    @property
    def realm_state(self) -> RealmState:
        """The realm now."""
        return self.realm_states[-1]

    def tick(self, ms: int = 10) -> int:
        """Later."""
        self.now_ms += ms
        return self.now_ms

    def append_org(self, body: bytes) -> int:
        """One org leaf, under the rules. Returns its index."""
        leaf = self._org_leaf(body)
        if self.org_states:
            state = membership.append(self.org, leaf)
        else:
            state = membership.found(leaf, expected_genesis=self.anchor.genesis)
            self.org_log.states.append(absent(self.org_log.log))
        return self._extend_org(leaf, state)

    def take_org(self, body: bytes, state: OrgState) -> int:
        """Append an org leaf with whatever it is said to do."""
        leaf = self._org_leaf(body)
        return self._extend_org(leaf, replace(state, position=self.org.position.after(leaf)))

    def _org_leaf(self, body: bytes) -> Leaf:
        index = len(self.org_log.leaves)
        map_root = self.org.map.root() if self.org_states else EMPTY_MAP
        return self._leaf(index, CERTIFICATE, body, map_root, index + 1)

    def _extend_org(self, leaf: Leaf, state: OrgState) -> int:
        self.org_states.append(state)
        self._extend(self.org_log, leaf, state.position.root(), state.map)
        return leaf.header.index

    def append_realm(self, kind: int, body: bytes) -> int:
        """One realm leaf, under the rules. Returns its index."""
        leaf = self.next_realm_leaf(kind, body)
        transition = verify_leaf(self.realm_state, leaf, org=self.org, objects=self.objects.get)
        return self.take(leaf, transition)

    def next_realm_leaf(self, kind: int, body: bytes) -> Leaf:
        """The leaf that would hold this body next."""
        state = self.realm_state
        return self._leaf(state.position.size, kind, body, state.map.root(), self.org.position.size)

    def take(self, leaf: Leaf, transition: Transition) -> int:
        """Append a realm leaf with whatever it is said to do."""
        for record, new in transition.objects:
            self.objects[record.object] = new
            self.versions.append((record.object, new))
        self.realm_states.append(transition.state)
        self._extend(self.realm_log, leaf, transition.state.position.root(), transition.state.map)
        return leaf.header.index

    def _leaf(self, index: int, kind: int, body: bytes, map_root: Hash, org_size: int) -> Leaf:
        header = LeafHeader(
            index=index,
            kind=kind,
            time_ms=self.tick(),
            org_size=org_size,
            map_root=map_root,
            body=body_hash(body),
        )
        return Leaf(header=header, body=body)

    def _extend(self, log: SimulatedLog, leaf: Leaf, root: Hash, map: PrefixMap) -> None:
        log.leaves.append(leaf)
        log.maps.append(map)
        log.states.append(
            LogState(
                log=log.log,
                size=len(log.leaves),
                log_root=root,
                map_root=map.root(),
                org_size=leaf.header.org_size,
            )
        )

    def _create_realm(self) -> None:
        context = membership.realm_context(self.org, self.realm)
        self.realm_states.append(RealmState(context=context))
        self.realm_log.states.append(absent(self.realm_log.log))
        created = RealmCreated(realm=self.realm, owner=self.alice.secrets.user)
        body = self.certificate(self.alice, self.realm_log.log, created)
        registered = RealmRegistered(realm=self.realm, creation=signed_hash(body))
        self.append_org(self.certificate(self.alice, self.org_log.log, registered))
        self.append_realm(CERTIFICATE, body)
        self.rotate(self.alice)

    def rotate(self, member: Member) -> int:
        """The next realm key."""
        index = (self.realm_state.key.index if self.realm_state.key else 0) + 1
        rotation = Rotation(
            index=index,
            commitment=Hash(self.random(32)),
            previous=b"" if index == 1 else self.random(64),
            boxes_root=Hash(self.random(32)),
            name=b"name",
        )
        return self.append_realm(
            CERTIFICATE, self.certificate(member, self.realm_log.log, rotation)
        )

    # Signing as members

    def seen(self, log: LogId) -> Seen:
        """What somebody up to date has seen of a log."""
        now, org = self.simulated(log).states[-1], self.org_log.states[-1]
        return Seen(
            size=now.size,
            log_root=now.log_root,
            map_root=now.map_root,
            org_size=org.size,
            org_root=org.log_root,
            epochs=len(self.epochs),
            chain_header=NO_HASH,
        )

    def chain_of(self, member: Member, log: LogId) -> DeviceChain:
        """The member's records in a log so far."""
        chains = self.org.chains if log == self.org_log.log else self.realm_state.chains
        return chains.get(member.secrets.device, DeviceChain())

    def certificate(
        self, member: Member, log: LogId, content: Content, *, replaces: Hash | None = None
    ) -> bytes:
        """Body of a certificate, as an honest member signs it; a role is registered in the org log,
        where that takes it."""
        header = member.author.header(
            self.anchor.context(log), self.chain_of(member, log), self.seen(log)
        )
        if replaces is None:
            replaces = self._replaced(log, content)
        body = sign_certificate(content, header=header, replaces=replaces, key=member.key)
        author = self.org.devices.get(member.secrets.device)
        if isinstance(content, Role) and author is not None and author.revoked is None:
            registered = RoleRegistered(certificate=signed_hash(body))
            self.append_org(self.certificate(member, self.org_log.log, registered))
        return body

    def _replaced(self, log: LogId, content: Content) -> Hash:
        if isinstance(content, Role):
            return self.realm_state.map.get(map_key(b"role", content.user)) or NO_HASH
        if isinstance(content, Rotation):
            return self.realm_state.map.get(map_key(b"key", b"")) or NO_HASH
        if isinstance(content, DeviceRevoked):
            return self.org.map.get(map_key(b"device", content.device)) or NO_HASH
        if isinstance(content, User | UserKey | UserRevoked):
            return self.org.map.get(map_key(b"user", content.user)) or NO_HASH
        return NO_HASH

    def new_record(self, object: ObjectId | None = None) -> ObjectRecord:
        """The next version of an object; of a new one if none is given."""
        id = object or ObjectId(self.random(16))
        old = self.objects.get(id)
        return ObjectRecord(
            object=id,
            version=old.version + 1 if old else 1,
            base=old.write if old else NO_HASH,
            payload=Hash(self.random(32)),
            payload_size=100,
            blocks_root=NO_HASH,
            flags=0,
        )

    def commit_body(
        self, member: Member, *records: ObjectRecord, key_index: int | None = None
    ) -> bytes:
        """Body of a commit, as an honest member signs it."""
        log = self.realm_log.log
        header = member.author.header(
            self.anchor.context(log), self.chain_of(member, log), self.seen(log)
        )
        index = key_index or (self.realm_state.key.index if self.realm_state.key else 0)
        ordered = tuple(sorted(records, key=lambda one: one.object))
        return sign_commit(
            ordered, header=header, key_index=index, preconditions=(), key=member.key
        )

    def objects_before(self, index: int) -> dict[ObjectId, ObjectState]:
        """States of all objects right before a leaf."""
        return {id: state for id, state in self.versions if state.write_index < index}

    def states_of(self, object: ObjectId) -> list[ObjectState]:
        """All states that an object had, oldest first."""
        return [state for id, state in self.versions if id == object]

    def commit(self, member: Member, *objects: ObjectId) -> int:
        """Log a new version of objects, of a new one if none is given. Returns the leaf index."""
        records = [self.new_record(one) for one in objects] or [self.new_record()]
        return self.append_realm(COMMIT, self.commit_body(member, *records))

    def delete(self, member: Member, object: ObjectId) -> int:
        """Log a tombstone. Returns the leaf index."""
        changes = {"payload": NO_HASH, "payload_size": 0, "flags": DELETED}
        record = replace(self.new_record(object), **changes)  # type: ignore[arg-type]
        return self.append_realm(COMMIT, self.commit_body(member, record))

    def stamp(self) -> int:
        """Log a window of blinded reads."""
        batch = StampBatch(stamps=tuple(sorted(self.random(32) for _ in range(3))))
        return self.append_realm(STAMPS, encode(batch))

    # Signing as the server

    def simulated(self, log: LogId) -> SimulatedLog:
        """One of the two logs."""
        return self.org_log if log == self.org_log.log else self.realm_log

    @property
    def due_epoch(self) -> int:
        """The next epoch that is not cut."""
        return len(self.epochs)

    def head(
        self, log: LogId, *, size: int | None = None, nonce: bytes = bytes(32), **changes: object
    ) -> tuple[Head, Signed]:
        """A signed head; `changes` are lies."""
        states = self.simulated(log).states
        state = states[-1 if size is None else size]
        fields: dict[str, object] = {
            "context": self.anchor.context(log),
            "size": state.size,
            "log_root": state.log_root,
            "map_root": state.map_root,
            "org_size": state.org_size,
            "due_epoch": self.due_epoch,
            "time_ms": self.tick(),
            "nonce": nonce,
        }
        head = Head(**{**fields, **changes})  # type: ignore[arg-type]
        return head, sign_head(head, self.head_key)

    def change_keys(self, seed: bytes, **lies: Any) -> None:
        """Statements are signed by another pair from now on."""
        self.publisher = self.publisher.changed(seed, **lies)

    def _signed(self, statement: Statement) -> SignedStatement:
        pair = self.publisher.key, self.publisher.co_key
        return sign_statement(statement, *pair, changes=self.publisher.changes)

    def sign(self, head: Head) -> Signed:
        """Any head at all."""
        return sign_head(head, self.head_key)

    def sign_again(self, signed: SignedStatement) -> SignedStatement:
        """The same statement under fresh signatures: ML-DSA is randomised."""
        statement = decode(Statement, signed.statement)
        return self._signed(statement)

    # Epochs

    def cut(self, **states: LogState) -> CutEpoch:
        """Sign the next epoch; `org` and `realm` replace the true states with lies."""
        anchored = {one.log: one.states[-1] for one in (self.org_log, self.realm_log)}
        for name, state in states.items():
            anchored[{"org": self.org_log.log, "realm": self.realm_log.log}[name]] = state
        org_size = anchored[self.org_log.log].size
        anchored[self.realm_log.log] = replace(anchored[self.realm_log.log], org_size=org_size)
        return self.cut_states(anchored)

    def cut_states(self, anchored: dict[LogId, LogState]) -> CutEpoch:
        """Sign the next epoch over exactly these states."""
        logs = org_logs_map(self.anchor.org, list(anchored.values()))
        orgs = orgs_map({self.anchor.org: logs.root()} if anchored else {})
        return self.cut_maps(orgs, logs, anchored)

    def cut_maps(
        self, orgs: PrefixMap, logs: PrefixMap, anchored: dict[LogId, LogState]
    ) -> CutEpoch:
        """Sign the next epoch over exactly these maps."""
        epoch = len(self.epochs)
        opening = EpochOpening(epoch=epoch, map_root=orgs.root(), salt=Hash(self.random(32)))
        leaf = opening_leaf(opening)
        self.tree = self.tree.append(leaf)
        statement = Statement(
            chain_id=self.anchor.chain.chain_id,
            server_log=self.registration.server_log,
            epoch=epoch,
            epoch_leaf=leaf,
            root=self.tree.root(),
            time_ms=self.tick(2_000),
        )
        signed = self._signed(statement)
        cut = CutEpoch(
            statement=signed,
            opening=opening,
            org_root=logs.root(),
            orgs=orgs,
            logs=logs,
            states=dict(anchored),
        )
        self.epochs.append(cut)
        return cut

    def epoch_proof(self, epoch: int, logs: tuple[LogId, ...] | None = None) -> EpochProof:
        """What epoch/read answers."""
        return open_cut(self.epochs[epoch], self.anchor, logs or self.logs)

    def read(self, start: int, most: int, logs: tuple[LogId, ...]) -> Epochs:
        """epoch/read."""
        last = min(start + most, len(self.epochs))
        proofs = tuple(self.epoch_proof(one, logs) for one in range(start, last))
        return Epochs(epochs=proofs, final=len(self.epochs))

    # Lying begins here

    def fork(self) -> "HonestServer":
        """A twin with the same keys and past; draws other random bytes."""
        twin = copy(self)
        twin.random = seeded(self.random(32))
        twin.org_log, twin.realm_log = self.org_log.copy(), self.realm_log.copy()
        twin.org_states, twin.realm_states = list(self.org_states), list(self.realm_states)
        twin.objects, twin.epochs = dict(self.objects), list(self.epochs)
        twin.versions = list(self.versions)
        twin.alice = Member(
            secrets=self.alice.secrets,
            author=replace(self.alice.author, random=twin.random),
        )
        return twin


def open_cut(cut: CutEpoch, anchor: TrustAnchor, logs: tuple[LogId, ...]) -> EpochProof:
    """Openings of an epoch for some logs."""
    return EpochProof(
        statement=cut.statement,
        opening=cut.opening,
        org_root=cut.org_root,
        org_proof=cut.orgs.open(org_map_key(anchor.org)),
        logs=tuple(
            LogOpening(
                state=(cut.states[log],) if log in cut.states else (),
                proof=cut.logs.open(log_map_key(anchor.org, log)),
            )
            for log in logs
        ),
    )

"""An honest organization with one realm, built leaf by leaf as devices and server would.

Data flow: a test says what happens -> `HonestOrg`, `HonestRealm` -> leaves, states, signed heads.

Everything follows from a seed, so that a log can be built again, bit for bit.
"""

from dataclasses import dataclass, field, replace

from parsec_fs.protocol import membership
from parsec_fs.protocol.certificates import (
    ADMIN,
    CONTRIBUTOR,
    OWNER,
    READER,
    STANDARD,
    Content,
    Device,
    DeviceBox,
    Genesis,
    RealmCreated,
    RealmRegistered,
    Role,
    RoleRegistered,
    Rotation,
    User,
    UserKey,
    sign_certificate,
)
from parsec_fs.protocol.codec import encode
from parsec_fs.protocol.commits import DELETED, ObjectRecord, Precondition, sign_commit
from parsec_fs.protocol.hashing import (
    EMPTY_MAP,
    body_hash,
    genesis_hash,
    map_key,
    server_log_id,
    sha256,
    signed_hash,
)
from parsec_fs.protocol.ids import (
    NO_HASH,
    DeviceId,
    Hash,
    LogId,
    ObjectId,
    OrgId,
    RealmId,
    ServerLogId,
    UserId,
)
from parsec_fs.protocol.keys import CoSigningKey, SigningKey
from parsec_fs.protocol.log_state import DeviceChain
from parsec_fs.protocol.membership import OrgState
from parsec_fs.protocol.prefix_map import PrefixMap
from parsec_fs.protocol.realm_state import RealmState, StampBatch, verify_leaf
from parsec_fs.protocol.records import (
    CERTIFICATE,
    COMMIT,
    ROOT_DEVICE,
    STAMPS,
    Context,
    DeviceHeader,
    Head,
    Leaf,
    LeafHeader,
    LogState,
    ObjectState,
    Seen,
    Signed,
    sign_head,
)
from parsec_fs.protocol.sealing import SUITE, USER_BOX_SIZE, BoxKey

CHAIN_ID = b"parsec-test"


@dataclass(frozen=True, kw_only=True)
class Person:
    """A user and a device of theirs with its secret key."""

    user: UserId
    device: DeviceId
    key: SigningKey


@dataclass
class Draw:
    """Bytes that follow from a seed; every call gives others."""

    seed: bytes
    count: int = 0

    def __call__(self, size: int) -> bytes:
        self.count += 1
        start = self.seed + self.count.to_bytes(4, "big")
        return b"".join(sha256(start + bytes([part])) for part in range(-(-size // 32)))[:size]


def next_leaf(position_size: int, root: Hash, kind: int, body: bytes, org_size: int) -> Leaf:
    """What an honest server appends; time follows from the index."""
    header = LeafHeader(
        index=position_size,
        kind=kind,
        time_ms=1_800_000_000_000 + 1000 * position_size,
        org_size=org_size,
        map_root=root,
        body=body_hash(body),
    )
    return Leaf(header=header, body=body)


def header_for(
    context: Context, device: DeviceId, chain: DeviceChain, draw: Draw, seen: Seen
) -> DeviceHeader:
    """Header of a device's next record."""
    return DeviceHeader(
        context=context,
        device=device,
        sequence=chain.sequence,
        previous=chain.last,
        incarnation=draw(16),
        nonce=draw(32),
        seen=seen,
    )


@dataclass
class HonestOrg:
    """An organization, founded by alice with one device."""

    seed: bytes = b"honest"
    leaves: list[Leaf] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.draw = Draw(self.seed)
        self.root_key = SigningKey(self.draw(32))
        self.head_key = SigningKey(self.draw(32))
        self.co_key = CoSigningKey(self.draw(32))
        org = OrgId(self.draw(32))
        keys = (self.head_key.verify_key.raw, self.co_key.verify_key.raw)
        self.context = Context(
            chain_id=CHAIN_ID,
            genesis=NO_HASH,
            server_log=ServerLogId(server_log_id(b"server", *keys)),
            org=org,
            log=LogId(org),
        )
        self._found(
            Genesis(
                org=org,
                name=b"acme",
                root_key=self.root_key.verify_key.raw,
                head_key=keys[0],
                co_key=keys[1],
                suite=SUITE,
            )
        )
        self.alice = self._first_person()

    def _found(self, content: Genesis) -> None:
        header = header_for(self.context, ROOT_DEVICE, DeviceChain(), self.draw, unseen())
        body = sign_certificate(content, header=header, replaces=NO_HASH, key=self.root_key)
        leaf = next_leaf(0, EMPTY_MAP, CERTIFICATE, body, 0)
        self.state = membership.found(leaf, expected_genesis=genesis_hash(body))
        self.context = self.state.context
        self.leaves.append(leaf)

    def _first_person(self) -> Person:
        person = self.new_person()
        self.append(self.user_of(person, profile=ADMIN), ROOT_DEVICE, self.root_key)
        self.append(self.device_of(person), ROOT_DEVICE, self.root_key)
        return person

    def new_person(self) -> Person:
        """Fresh ids and key, not yet in the log."""
        draw = self.draw
        return Person(user=UserId(draw(16)), device=DeviceId(draw(16)), key=SigningKey(draw(32)))

    def user_of(self, person: Person, *, profile: int) -> User:
        """User content; the box key follows from the user id."""
        box = BoxKey(sha256(person.user) * 3).public
        return User(
            user=person.user,
            name=person.user.hex().encode(),
            email=b"someone@acme.example",
            profile=profile,
            generation=1,
            box_key=box,
        )

    def device_of(self, person: Person) -> Device:
        """Device content, with the user's present generation."""
        known = self.state.users.get(person.user)
        return Device(
            device=person.device,
            user=person.user,
            label=b"laptop",
            sign_key=person.key.verify_key.raw,
            box_key=BoxKey(sha256(person.device) * 3).public,
            generation=known.generation if known else 1,
            user_key_box=b"",
        )

    def sign(
        self, content: Content, device: DeviceId, key: SigningKey, *, replaces: Hash = NO_HASH
    ) -> bytes:
        """Certificate body of a device's next record in the org log."""
        chain = self.state.chains.get(device, DeviceChain())
        header = header_for(self.context, device, chain, self.draw, seen_of(self.state))
        return sign_certificate(content, header=header, replaces=replaces, key=key)

    def user_key_of(self, person: Person, *, boxes: tuple[DeviceBox, ...] | None = None) -> UserKey:
        """Content of a user's next key; the boxes hold nothing."""
        generation = self.state.users[person.user].generation + 1
        seed = sha256(person.user + generation.to_bytes(4, "big")) * 3
        devices = self.state.devices_of(person.user)
        filled = tuple(
            DeviceBox(device=one.device, box=self.draw(USER_BOX_SIZE)) for one in devices
        )
        return UserKey(
            user=person.user,
            generation=generation,
            box_key=BoxKey(seed).public,
            previous=self.draw(USER_BOX_SIZE),
            boxes=filled if boxes is None else boxes,
        )

    def renew(self, person: Person) -> Leaf:
        """The user's next key, from this device."""
        content, value = self.user_key_of(person), self.user_value(person)
        return self.append(content, person.device, person.key, replaces=value)

    def user_value(self, person: Person) -> Hash:
        """Map value of the user: what the next certificate about them replaces."""
        return self.state.map.get(map_key(b"user", person.user)) or NO_HASH

    def append(
        self, content: Content, device: DeviceId, key: SigningKey, *, replaces: Hash = NO_HASH
    ) -> Leaf:
        """Sign, append, verify."""
        leaf = self.leaf(self.sign(content, device, key, replaces=replaces))
        self.state = membership.append(self.state, leaf)
        self.leaves.append(leaf)
        return leaf

    def leaf(self, body: bytes) -> Leaf:
        """The next leaf, not appended."""
        size = self.state.position.size
        return next_leaf(size, self.state.map.root(), CERTIFICATE, body, size)

    def add_person(self, *, profile: int) -> Person:
        """A user and device, added by alice."""
        person = self.new_person()
        self.append(self.user_of(person, profile=profile), self.alice.device, self.alice.key)
        self.append(self.device_of(person), self.alice.device, self.alice.key)
        return person

    def log_state(self) -> LogState:
        """As an epoch anchors it."""
        position = self.state.position
        return log_state(
            self.context.log, position.size, position.root(), self.state.map, position.size
        )


def log_state(log: LogId, size: int, root: Hash, entries: PrefixMap, org_size: int) -> LogState:
    """Record of a log's state."""
    return LogState(log=log, size=size, log_root=root, map_root=entries.root(), org_size=org_size)


def unseen() -> Seen:
    """A device that has verified nothing yet."""
    return Seen(
        size=0,
        log_root=NO_HASH,
        map_root=NO_HASH,
        org_size=0,
        org_root=NO_HASH,
        epochs=0,
        chain_header=NO_HASH,
    )


def seen_of(state: OrgState | RealmState) -> Seen:
    """A device that has verified the whole log, but no epoch."""
    position = state.position
    return replace(
        unseen(), size=position.size, log_root=position.root(), map_root=state.map.root()
    )


@dataclass
class HonestRealm:
    """A realm that `owner` created and gave a first key."""

    org: HonestOrg
    owner: Person
    leaves: list[Leaf] = field(default_factory=list)
    objects: dict[ObjectId, ObjectState] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.draw = self.org.draw
        self.id = RealmId(self.draw(32))
        self.context = membership.realm_context(self.org.state, self.id)
        self.state = RealmState(context=self.context)
        created = self.sign(RealmCreated(realm=self.id, owner=self.owner.user), self.owner)
        registered = RealmRegistered(realm=self.id, creation=signed_hash(created))
        self.org.append(registered, self.owner.device, self.owner.key)
        self.append(CERTIFICATE, created)
        self.rotate(self.owner)

    def header(self, person: Person) -> DeviceHeader:
        """Header of a person's next record in this log."""
        chain = self.state.chains.get(person.device, DeviceChain())
        return header_for(self.context, person.device, chain, self.draw, seen_of(self.state))

    def sign(self, content: Content, person: Person, *, replaces: Hash = NO_HASH) -> bytes:
        """Certificate body; a role is registered in the org log, where that takes it."""
        body = sign_certificate(
            content, header=self.header(person), replaces=replaces, key=person.key
        )
        if isinstance(content, Role) and self.org.state.devices[person.device].revoked is None:
            registered = RoleRegistered(certificate=signed_hash(body))
            self.org.append(registered, person.device, person.key)
        return body

    def leaf(self, kind: int, body: bytes) -> Leaf:
        """The next leaf, not appended."""
        org_size = self.org.state.position.size
        return next_leaf(self.state.position.size, self.state.map.root(), kind, body, org_size)

    def append(self, kind: int, body: bytes) -> Leaf:
        """Append and verify."""
        leaf = self.leaf(kind, body)
        transition = verify_leaf(self.state, leaf, org=self.org.state, objects=self.objects.get)
        self.state = transition.state
        self.objects |= {record.object: state for record, state in transition.objects}
        self.leaves.append(leaf)
        return leaf

    def rotation(self) -> Rotation:
        """The next rotation's content."""
        index = self.state.key.index + 1 if self.state.key else 1
        return Rotation(
            index=index,
            commitment=Hash(self.draw(32)),
            previous=self.draw(92) if index > 1 else b"",
            boxes_root=Hash(self.draw(32)),
            name=self.draw(60),
        )

    def rotate(self, person: Person) -> Leaf:
        """A new key."""
        replaces = self.state.map.get(map_key(b"key", b"")) or NO_HASH
        return self.append(CERTIFICATE, self.sign(self.rotation(), person, replaces=replaces))

    def give(self, person: Person, role: int, *, author: Person | None = None) -> Leaf:
        """A role, from the owner if nobody else is named."""
        replaces = self.state.map.get(map_key(b"role", person.user)) or NO_HASH
        content = Role(user=person.user, role=role)
        return self.append(CERTIFICATE, self.sign(content, author or self.owner, replaces=replaces))

    def record(self, object_id: ObjectId, *, deleted: bool = False) -> ObjectRecord:
        """The next version of an object, or its first."""
        state = self.objects.get(object_id)
        return ObjectRecord(
            object=object_id,
            version=state.version + 1 if state else 1,
            base=state.write if state else NO_HASH,
            payload=NO_HASH if deleted else Hash(self.draw(32)),
            payload_size=0 if deleted else 200,
            blocks_root=NO_HASH if deleted else Hash(self.draw(32)),
            flags=DELETED if deleted else 0,
        )

    def sign_commit(
        self,
        records: list[ObjectRecord],
        person: Person,
        *,
        preconditions: tuple[Precondition, ...] = (),
        key_index: int | None = None,
    ) -> bytes:
        """Commit body, objects in order."""
        index = self.state.key.index if self.state.key else 0
        return sign_commit(
            tuple(sorted(records, key=lambda one: one.object)),
            header=self.header(person),
            key_index=index if key_index is None else key_index,
            preconditions=preconditions,
            key=person.key,
        )

    def commit(
        self,
        object_ids: list[ObjectId],
        person: Person | None = None,
        *,
        deleted: bool = False,
        preconditions: tuple[Precondition, ...] = (),
    ) -> Leaf:
        """Next versions of these objects."""
        records = [self.record(one, deleted=deleted) for one in object_ids]
        author = person or self.owner
        body = self.sign_commit(records, author, preconditions=preconditions)
        return self.append(COMMIT, body)

    def stamp(self, count: int) -> Leaf:
        """A leaf of read stamps."""
        stamps = tuple(sorted(self.draw(32) for _ in range(count)))
        return self.append(STAMPS, encode(StampBatch(stamps=stamps)))

    def new_object(self) -> ObjectId:
        """A fresh id."""
        return ObjectId(self.draw(16))

    def head(self, *, nonce: bytes = NO_HASH, due_epoch: int = 1) -> Signed:
        """The server's signed head of this log."""
        position = self.state.position
        return sign_head(
            Head(
                context=self.context,
                size=position.size,
                log_root=position.root(),
                map_root=self.state.map.root(),
                org_size=position.org_size,
                due_epoch=due_epoch,
                time_ms=position.time_ms,
                nonce=nonce,
            ),
            self.org.head_key,
        )

    def log_state(self) -> LogState:
        """As an epoch anchors it."""
        position = self.state.position
        return log_state(
            self.context.log, position.size, position.root(), self.state.map, position.org_size
        )


def workspace_of_three(seed: bytes = b"honest") -> tuple[HonestRealm, Person, Person]:
    """A realm of alice (owner), with bob (contributor) and carol (reader)."""
    org = HonestOrg(seed)
    bob, carol = org.add_person(profile=STANDARD), org.add_person(profile=STANDARD)
    realm = HonestRealm(org, org.alice)
    realm.give(bob, CONTRIBUTOR)
    realm.give(carol, READER)
    assert realm.state.role(org.alice.user) == OWNER
    return realm, bob, carol

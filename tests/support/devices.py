"""A device that knows the protocol and nothing else: signs records, sends them, replays the logs.

Data flow: test -> `RawDevice` -> real client code of `remote` -> server; leaves -> `verify_leaf`.

It has no stores and no file system, so that tests of the server can make it do anything, also what
a real device never would. Every pull replays the leaves and compares with the signed head.
"""

import os
from dataclasses import dataclass, field, replace

import httpx

from parsec_fs.enrolment import create_realm, device_content, found_org
from parsec_fs.identity import UNSEEN, Author, DeviceSecrets, TrustAnchor, UserKeySeed, new_secrets
from parsec_fs.protocol import membership
from parsec_fs.protocol.certificates import (
    READER,
    STANDARD,
    Content,
    KeyBox,
    Role,
    RoleRegistered,
    Rotation,
    sign_certificate,
)
from parsec_fs.protocol.codec import decode
from parsec_fs.protocol.commands import CreateOrg
from parsec_fs.protocol.commits import (
    DELETED,
    CommitBody,
    ObjectRecord,
    Precondition,
    commit_hash,
    sign_commit,
)
from parsec_fs.protocol.hashing import map_key, payload_hash, signed_hash
from parsec_fs.protocol.ids import NO_HASH, Hash, LogId, ObjectId, RealmId, UserId
from parsec_fs.protocol.keys import VerifyKey
from parsec_fs.protocol.log_state import DeviceChain
from parsec_fs.protocol.membership import OrgState, realm_context
from parsec_fs.protocol.merkle import tree_root
from parsec_fs.protocol.realm_state import RealmState, verify_leaf
from parsec_fs.protocol.records import DeviceHeader, Head, ObjectState, Seen
from parsec_fs.protocol.sealing import BOX_SIZE
from parsec_fs.protocol.statements import ServerRegistration
from parsec_fs.remote.server_client import CommitReport, PublicClient, ServerClient
from parsec_fs.remote.sessions import Signer
from parsec_fs.remote.transport import Transport
from tests.support.identities import chain_anchor, user_content
from tests.support.permits import token_for

PAYLOAD = b"sealed manifest"


@dataclass(kw_only=True)
class Realm:
    """A device's replica of a realm: state, object states, and its own chain in the log."""

    state: RealmState
    objects: dict[ObjectId, ObjectState] = field(default_factory=dict)
    chain: DeviceChain = field(default_factory=DeviceChain)


@dataclass(frozen=True, kw_only=True)
class SignedCommit:
    """A commit ready to be sent, and the payloads that it names."""

    body: bytes
    hash: Hash
    payloads: tuple[bytes, ...]


class RawDevice:
    """One device of one user. `http` is shared and closed by the test."""

    def __init__(self, http: httpx.AsyncClient, anchor: TrustAnchor, secrets: DeviceSecrets):
        transport = Transport(http, str(http.base_url))
        self.http = http
        self.anchor = anchor
        self.secrets = secrets
        self.key = secrets.signing_key()
        self.id = secrets.device
        self.public = PublicClient(transport)
        self.signer = Signer(
            transport,
            server_log=anchor.server.server_log,
            org=anchor.org,
            device=secrets.device,
            key=self.key,
        )
        self.server = ServerClient(
            self.signer,
            context=anchor.context(),
            head_key=VerifyKey(anchor.server.head_key),
            random=os.urandom,
        )
        self.org: OrgState | None = None
        self.realms: dict[RealmId, Realm] = {}
        self.incarnation = os.urandom(16)

    @property
    def author(self) -> Author:
        """For the builders of `enrolment`."""
        return Author(secrets=self.secrets, incarnation=self.incarnation, random=os.urandom)

    def org_state(self) -> OrgState:
        """The org log as last pulled."""
        assert self.org is not None
        return self.org

    async def pull_org(self) -> Head:
        """Replay the org log to the newest head."""
        log = LogId(self.anchor.org)
        while True:
            size = 0 if self.org is None else self.org.position.size
            found = await self.server.read_leaves(log, size, 1000)
            for leaf in found.leaves:
                if self.org is None:
                    self.org = membership.found(leaf, expected_genesis=self.anchor.genesis)
                else:
                    self.org = membership.append(self.org, leaf)
            if self.org_state().position.size >= found.head.head.size:
                _check(self.org_state(), found.head.head)
                return found.head.head

    async def pull(self, realm: RealmId) -> Head:
        """Replay a realm log to the newest head, org log first where a leaf needs it."""
        await self.pull_org()
        known = self.realms.setdefault(
            realm, Realm(state=RealmState(context=realm_context(self.org_state(), realm)))
        )
        while True:
            found = await self.server.read_leaves(LogId(realm), known.state.position.size, 1000)
            for leaf in found.leaves:
                step = verify_leaf(
                    known.state, leaf, org=self.org_state(), objects=known.objects.get
                )
                known.state = step.state
                known.objects |= {record.object: state for record, state in step.objects}
            if known.state.position.size >= found.head.head.size:
                _check(known.state, found.head.head)
                known.chain = known.state.chains.get(self.id, DeviceChain())
                return found.head.head

    async def create_realm(self) -> RealmId:
        """A new realm of this user, pulled."""
        await self.pull_org()
        request, _ = create_realm(
            name="work", org=self.org_state(), seen=_seen(self.org_state()), author=self.author
        )
        await self.server.create_realm(request)
        await self.pull(request.realm)
        return request.realm

    def header(self, realm: RealmId) -> DeviceHeader:
        """Header of the next record in a realm log."""
        known = self.realms[realm]
        seen = _seen(known.state)
        return self.author.header(known.state.context, known.chain, seen)

    def record(
        self, realm: RealmId, object_id: ObjectId, *, payload: bytes = PAYLOAD, delete: bool = False
    ) -> ObjectRecord:
        """The next version of an object, as far as this device knows."""
        old = self.realms[realm].objects.get(object_id)
        return ObjectRecord(
            object=object_id,
            version=old.version + 1 if old else 1,
            base=old.write if old else NO_HASH,
            payload=NO_HASH if delete else payload_hash(payload),
            payload_size=0 if delete else len(payload),
            blocks_root=NO_HASH,
            flags=DELETED if delete else 0,
        )

    def sign(
        self,
        realm: RealmId,
        *records: ObjectRecord,
        payloads: tuple[bytes, ...] = (PAYLOAD,),
        key_index: int | None = None,
        preconditions: tuple[Precondition, ...] = (),
    ) -> SignedCommit:
        """The device's next commit; its chain goes on from it."""
        known = self.realms[realm]
        assert known.state.key is not None
        body = sign_commit(
            tuple(sorted(records, key=lambda one: one.object)),
            header=self.header(realm),
            key_index=known.state.key.index if key_index is None else key_index,
            preconditions=preconditions,
            key=self.key,
        )
        name = commit_hash(decode(CommitBody, body))
        known.chain = DeviceChain(sequence=known.chain.sequence + 1, last=name)
        return SignedCommit(body=body, hash=name, payloads=payloads)

    async def send(self, realm: RealmId, *commits: SignedCommit) -> CommitReport:
        """Send commits with their payloads."""
        payloads = dict.fromkeys(data for one in commits for data in one.payloads)
        return await self.server.commit(
            realm, [(one.body, one.hash) for one in commits], tuple(payloads)
        )

    async def write(self, realm: RealmId, *objects: ObjectId) -> CommitReport:
        """Commit the next version of some objects and pull."""
        report = await self.send(
            realm, self.sign(realm, *(self.record(realm, one) for one in objects))
        )
        await self.pull(realm)
        return report

    def certificate(self, log: LogId, content: Content, *, replaces: Hash = NO_HASH) -> bytes:
        """The device's next certificate in the org log or a realm log."""
        if bytes(log) == bytes(self.anchor.org):
            state: OrgState | RealmState = self.org_state()
            chain = self.org_state().chains.get(self.id, DeviceChain())
        else:
            state, chain = self.realms[RealmId(log)].state, self.realms[RealmId(log)].chain
        header = self.author.header(state.context, chain, _seen(state))
        return sign_certificate(content, header=header, replaces=replaces, key=self.key)

    async def give(self, realm: RealmId, user: UserId, role: int) -> None:
        """Set a user's role and pull."""
        replaces = self.realms[realm].state.map.get(map_key(b"role", user)) or NO_HASH
        body = self.certificate(LogId(realm), Role(user=user, role=role), replaces=replaces)
        await self.pull_org()
        log = LogId(self.anchor.org)
        registered = self.certificate(log, RoleRegistered(certificate=signed_hash(body)))
        await self.server.append_certificate(log, registered)
        await self.server.append_certificate(LogId(realm), body)
        await self.pull(realm)

    def rotation(self, realm: RealmId) -> tuple[bytes, tuple[KeyBox, ...]]:
        """The next key rotation, for all who may read now."""
        state = self.realms[realm].state
        assert state.key is not None
        users = sorted(user for user, role in state.roles.items() if role >= READER)
        boxes = tuple(KeyBox(user=user, generation=1, box=os.urandom(BOX_SIZE)) for user in users)
        content = Rotation(
            index=state.key.index + 1,
            commitment=Hash(os.urandom(32)),
            previous=os.urandom(92),
            boxes_root=tree_root([one.leaf() for one in boxes]),
            name=b"sealed name",
        )
        replaces = state.map.get(map_key(b"key", b"")) or NO_HASH
        return self.certificate(LogId(realm), content, replaces=replaces), boxes

    async def add_user(self, http: httpx.AsyncClient, *, profile: int = STANDARD) -> "RawDevice":
        """A new user with one device, added by this administrator."""
        log, user = LogId(self.anchor.org), UserId(os.urandom(16))
        seed = UserKeySeed(generation=1, seed=os.urandom(96))
        secrets = new_secrets(org=self.anchor.org, user=user, user_keys=(seed,), random=os.urandom)
        contents = (
            user_content("bob", secrets, profile=profile),
            device_content(secrets, b"laptop"),
        )
        for content in contents:
            await self.pull_org()
            await self.server.append_certificate(log, self.certificate(log, content))
        await self.pull_org()
        added = RawDevice(http, self.anchor, secrets)
        await added.pull_org()
        return added


def founding(registration: ServerRegistration) -> tuple[CreateOrg, TrustAnchor, DeviceSecrets]:
    """Request that founds an organization on a server, and its first device."""
    request, identity = found_org(
        token=token_for(registration),
        name="acme",
        user_name="alice",
        email="alice@acme.example",
        device_label="laptop",
        chain=chain_anchor(),
        server=registration,
        server_url="http://server.test",
        rpc_urls=("http://127.0.0.1:2",),
        random=os.urandom,
    )
    return request, identity.anchor, identity.secrets


async def new_org(http: httpx.AsyncClient, registration: ServerRegistration) -> RawDevice:
    """The first device of a new organization, its org log pulled."""
    request, anchor, secrets = founding(registration)
    device = RawDevice(http, anchor, secrets)
    await device.public.create_org(request)
    await device.pull_org()
    return device


def new_object() -> ObjectId:
    """A fresh id."""
    return ObjectId(os.urandom(16))


def record_hash(body: bytes) -> Hash:
    """Hash that names a certificate."""
    return signed_hash(body)


def _seen(state: OrgState | RealmState) -> Seen:
    position = state.position
    return replace(UNSEEN, size=position.size, log_root=position.root(), map_root=state.map.root())


def _check(state: OrgState | RealmState, head: Head) -> None:
    found = (state.position.size, state.position.root(), state.map.root())
    assert found == (head.size, head.log_root, head.map_root)
    assert head.org_size == state.position.org_size
    assert head.time_ms >= state.position.time_ms

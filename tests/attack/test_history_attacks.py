"""A lying server against a member's device, in memory: caught, proven, and only by this check.

Data flow: HonestServer and its lying twin -> AuditedDevice -> word, evidence.

Every attack runs twice. With all checks it ends as the threat model says, and the evidence
convinces a stranger who has nothing but the anchor. With the responsible check left out, and
nothing else changed, the device goes on in peace: so it is that check which stops the attack.
"""

from collections.abc import Callable
from dataclasses import replace

import pytest

from parsec_fs.audit.checks import ALL_CHECKS, Checks
from parsec_fs.audit.client_state import Word
from parsec_fs.audit.verdict import Kind
from parsec_fs.enrolment import device_content
from parsec_fs.identity import DeviceSecrets
from parsec_fs.protocol.certificates import (
    ADMIN,
    CONTRIBUTOR,
    NO_ROLE,
    OWNER,
    USER_REVOKED,
    Certificate,
    DeviceRevoked,
    Role,
    RoleRegistered,
    User,
)
from parsec_fs.protocol.codec import decode, encode
from parsec_fs.protocol.commands import EpochProof
from parsec_fs.protocol.commits import CommitBody
from parsec_fs.protocol.epochs import opening_leaf
from parsec_fs.protocol.errors import (
    DataError,
    OutdatedError,
    ParsecFSError,
    SignatureError,
    TrustchainError,
    VerificationError,
)
from parsec_fs.protocol.hashing import EMPTY_MAP, signed_hash, tag
from parsec_fs.protocol.ids import NO_HASH, DeviceId, Hash, UserId
from parsec_fs.protocol.log_state import DeviceChainError, NotAllowedError, RevokedError
from parsec_fs.protocol.membership import OrgState
from parsec_fs.protocol.prefix_map import PrefixMap
from parsec_fs.protocol.realm_state import (
    CommitConflictError,
    DeletedError,
    KeyIndexError,
    ObjectView,
    RealmState,
    Transition,
    verify_leaf,
)
from parsec_fs.protocol.records import CERTIFICATE, COMMIT, Leaf, Signed
from parsec_fs.workspace.promises import AuditFirstError
from parsec_fs.workspace.refused_leaf import LeafRefusedError
from tests.support.audited import AuditedDevice, SimulatedChain
from tests.support.history import HonestServer, Member, open_cut
from tests.support.weakened import believe_newcomer, believe_role, lenient, without

pytestmark = pytest.mark.allows_log("audit: ")

PEACE = (Word.VERIFIED, Word.PENDING)


class Scene:
    """An honest past of two epochs, seen by one device; then the server starts to lie."""

    def __init__(self, checks: Checks) -> None:
        self.server = HonestServer()
        self.chain = SimulatedChain(server=self.server)
        self.bob = self.server.add_member("bob", CONTRIBUTOR)
        self.device = AuditedDevice(self.server, self.chain, checks=checks)

    async def start(self) -> None:
        for _ in range(2):
            self.server.commit(self.server.alice)
            self.server.commit(self.bob)
            await self.device.pull()
            self.chain.publish(self.server.cut())
            assert await self.device.audit() == Word.VERIFIED

    def convicted_of(self, kind: Kind) -> None:
        """The state is for good, and the file proves it to anyone with the anchor."""
        state = self.device.auditor.client_state()
        assert state.word is Word.CONVICTED
        assert state.frozen
        assert self.device.frozen
        assert [one.kind for one in self.device.verdicts()] == [kind]
        assert all(one.convicts_server for one in self.device.verdicts())

    def in_peace(self) -> None:
        state = self.device.auditor.client_state()
        assert state.word in PEACE, state
        assert not self.device.store.evidence

    def only_suspect(self) -> None:
        state = self.device.auditor.client_state()
        assert state.word is Word.SUSPECT
        assert state.writes_stay_local
        assert not state.frozen
        assert not self.device.store.evidence


@pytest.fixture
async def scene() -> Scene:
    found = Scene(ALL_CHECKS)
    await found.start()
    return found


async def weak_scene(*names: str, **replacements: object) -> Scene:
    found = Scene(without(*names, **replacements))
    await found.start()
    return found


async def test_an_honest_server_is_verified_for_ever(scene: Scene) -> None:
    for _ in range(20):
        scene.server.commit(scene.bob)
        await scene.device.pull()
        scene.chain.publish(scene.server.cut())
        assert await scene.device.audit() == Word.VERIFIED
    assert not scene.device.store.evidence


# Rollback: an epoch anchors less than the one before (A21).


async def roll_back(scene: Scene) -> None:
    past = scene.server.realm_log.states[4]
    scene.chain.publish(scene.server.cut(realm=past))
    await scene.device.audit()


async def test_rollback(scene: Scene) -> None:
    await roll_back(scene)
    scene.convicted_of(Kind.BROKEN_PROMISE)


async def test_rollback_without_the_check() -> None:
    scene = await weak_scene(log_grows=lambda self, before, after: after)
    await roll_back(scene)
    scene.in_peace()


# Fork alternating by epoch: one branch in odd epochs, another in even ones (A26, rule 22).


async def alternate(scene: Scene) -> None:
    server, twin = scene.server, scene.server.fork()
    for epoch in range(4):
        server.commit(server.alice)
        twin.commit(twin.alice)
        await scene.device.pull()
        shown = (server, twin)[epoch % 2]
        scene.chain.publish(server.cut(realm=shown.realm_log.states[-1]))
        await scene.device.audit()


async def test_fork_alternating_by_epoch(scene: Scene) -> None:
    await alternate(scene)
    scene.convicted_of(Kind.SPLIT_VIEW)


async def test_fork_alternating_by_epoch_without_the_check() -> None:
    scene = await weak_scene("own_is_anchored")
    await alternate(scene)
    scene.in_peace()


# Split view: the other branch is anchored, with its leaves or with them hidden (A26, A37).


async def anchor_other_branch(scene: Scene, *, own_commits: int, other_commits: int) -> None:
    twin = scene.server.fork()
    for _ in range(own_commits):
        scene.server.commit(scene.server.alice)
    for _ in range(other_commits):
        twin.commit(twin.alice)
    await scene.device.pull()
    scene.chain.publish(twin.cut())
    scene.device.door.server = twin
    await scene.device.audit()


@pytest.mark.parametrize(("own", "other"), [(1, 1), (3, 1), (1, 4)])
async def test_split_view(scene: Scene, own: int, other: int) -> None:
    await anchor_other_branch(scene, own_commits=own, other_commits=other)
    kinds = {one.kind for one in scene.device.verdicts()}
    assert scene.device.auditor.client_state().word is Word.CONVICTED
    assert kinds <= {Kind.SPLIT_VIEW, Kind.BROKEN_PROMISE}


async def test_split_view_without_the_check() -> None:
    scene = await weak_scene("own_is_anchored")
    await anchor_other_branch(scene, own_commits=2, other_commits=2)
    scene.in_peace()


async def anchor_behind_a_snapshot(scene: Scene) -> None:
    """The other branch is anchored and hidden; ours goes on longer, and what the device holds of
    it begins where the anchored state ends."""
    server, twin = scene.server, scene.server.fork()
    server.commit(server.alice)
    twin.commit(twin.alice)
    await scene.device.pull()
    scene.device.realm.heads.clear()
    scene.chain.publish(server.cut(realm=twin.realm_log.states[-1]))
    server.commit(server.alice)
    await scene.device.pull()
    scene.device.realm.vouched = len(twin.realm_log.leaves)
    await scene.device.audit()


async def test_split_view_behind_a_snapshot(scene: Scene) -> None:
    """A device that joined lately lacks the first leaves; the server, which shows them, helps."""
    await anchor_behind_a_snapshot(scene)
    scene.convicted_of(Kind.SPLIT_VIEW)


async def test_split_view_behind_a_snapshot_without_the_check() -> None:
    scene = await weak_scene("own_is_anchored")
    await anchor_behind_a_snapshot(scene)
    scene.in_peace()


async def anchor_other_organization(scene: Scene) -> None:
    """Two directories of members, of one length (A37)."""
    twin = scene.server.fork()
    scene.server.add_member("carol", CONTRIBUTOR)
    twin.add_member("mallory", CONTRIBUTOR)
    await scene.device.pull()
    scene.chain.publish(scene.server.cut(org=twin.org_log.states[-1]))
    await scene.device.audit()


async def test_split_view_of_the_org_log(scene: Scene) -> None:
    await anchor_other_organization(scene)
    scene.convicted_of(Kind.SPLIT_VIEW)


async def test_split_view_of_the_org_log_without_the_check() -> None:
    scene = await weak_scene("own_is_anchored")
    await anchor_other_organization(scene)
    scene.in_peace()


# Acknowledged, then forgotten (A28).


async def forget(scene: Scene) -> None:
    scene.server.commit(scene.server.alice)
    await scene.device.pull()
    forgotten = scene.server.realm_log.states[-2]
    scene.chain.publish(scene.server.cut(realm=forgotten))
    await scene.device.audit()


async def test_acknowledged_then_forgotten(scene: Scene) -> None:
    await forget(scene)
    scene.convicted_of(Kind.BROKEN_PROMISE)


async def test_acknowledged_then_forgotten_without_the_check() -> None:
    scene = await weak_scene("promise_is_kept")
    await forget(scene)
    scene.in_peace()


# Hidden leaves: the anchor holds more than the server shows this device (A23, A29).


async def hide(scene: Scene) -> None:
    scene.device.door.shown[scene.server.realm_log.log] = scene.device.realm.size()
    scene.server.commit(scene.bob)
    scene.chain.publish(scene.server.cut())
    await scene.device.audit()


async def test_hidden_leaves(scene: Scene) -> None:
    await hide(scene)
    scene.convicted_of(Kind.STALE_ANSWER)


async def test_hidden_leaves_without_the_check() -> None:
    scene = await weak_scene(leaves_to_hold=lambda self, anchored: 0)
    await hide(scene)
    await scene.device.pull()
    await scene.device.audit()
    scene.in_peace()


# Wrong map: the log is right, the state is not (A34).


async def anchor_wrong_map(scene: Scene) -> None:
    scene.server.commit(scene.server.alice)
    await scene.device.pull()
    true = scene.server.realm_log.states[-1]
    scene.chain.publish(scene.server.cut(realm=replace(true, map_root=EMPTY_MAP)))
    await scene.device.audit()


async def test_wrong_map(scene: Scene) -> None:
    await anchor_wrong_map(scene)
    scene.convicted_of(Kind.SPLIT_VIEW)


async def test_wrong_map_without_the_check() -> None:
    scene = await weak_scene("own_is_anchored")
    await anchor_wrong_map(scene)
    scene.in_peace()


async def show_wrong_map(scene: Scene) -> None:
    log = scene.server.realm_log.log
    scene.server.commit(scene.bob)
    scene.device.door.heads[log] = scene.server.head(log, map_root=Hash(bytes(32)))
    try:
        await scene.device.pull()
    except VerificationError as error:
        await scene.device.auditor.report(error)


async def test_wrong_map_in_a_head(scene: Scene) -> None:
    size = scene.device.realm.size()
    await show_wrong_map(scene)
    assert scene.device.realm.size() == size
    scene.convicted_of(Kind.WRONG_TRANSITION)


async def test_wrong_map_in_a_head_without_the_check() -> None:
    scene = await weak_scene("roots")
    await show_wrong_map(scene)
    scene.in_peace()
    newest = scene.device.realm.newest_head()
    assert newest is not None
    assert newest[0].map_root == bytes(32)


async def continue_on_wrong_map(scene: Scene, *, seen_before: bool) -> None:
    """The next leaf names a map that does not follow from the one before it."""
    server = scene.server
    server.commit(scene.bob)
    if seen_before:
        await scene.device.pull()
    state = server.realm_state
    server.realm_states[-1] = replace(state, map=PrefixMap())
    body = server.commit_body(server.alice, server.new_record())
    leaf = server.next_realm_leaf(COMMIT, body)
    after = replace(server.realm_state, position=state.position.after(leaf))
    server.take(leaf, Transition(state=after))
    try:
        await scene.device.pull()
    except VerificationError as error:
        await scene.device.auditor.report(error)


@pytest.mark.parametrize(
    ("seen_before", "kind"), [(False, Kind.WRONG_TRANSITION), (True, Kind.SPLIT_VIEW)]
)
async def test_wrong_map_in_the_next_leaf(scene: Scene, seen_before: bool, kind: Kind) -> None:
    await continue_on_wrong_map(scene, seen_before=seen_before)
    scene.convicted_of(kind)


async def show_wrong_org_map(scene: Scene) -> None:
    log = scene.server.org_log.log
    scene.server.add_device("carol")
    scene.device.door.heads[log] = scene.server.head(log, map_root=Hash(bytes(32)))
    try:
        await scene.device.pull()
    except VerificationError as error:
        await scene.device.auditor.report(error)


async def test_wrong_org_map_in_a_head(scene: Scene) -> None:
    await show_wrong_org_map(scene)
    scene.convicted_of(Kind.WRONG_TRANSITION)


# An old certificate appended again: a member who was removed is back (A19, A20, rule 8).


def append_old_certificate(scene: Scene) -> None:
    server, bob = scene.server, scene.bob.secrets.user
    old = next(
        leaf
        for leaf in server.realm_log.leaves
        if leaf.header.kind == CERTIFICATE and leaf.header.index == 2
    )
    removed = Role(user=bob, role=NO_ROLE)
    log = server.realm_log.log
    server.append_realm(CERTIFICATE, server.certificate(server.alice, log, removed))
    leaf = server.next_realm_leaf(CERTIFICATE, old.body)
    server.take(leaf, believe_role(None, server.realm_state, leaf))


async def test_old_certificate_appended_again(scene: Scene) -> None:
    append_old_certificate(scene)
    size = scene.device.realm.size()
    with pytest.raises(VerificationError) as caught:
        await scene.device.pull()
    assert scene.device.realm.size() == size
    await scene.device.auditor.report(caught.value)
    scene.convicted_of(Kind.INVALID_LEAF)


async def test_old_certificate_appended_again_without_the_check() -> None:
    scene = await weak_scene(realm_leaf=lenient)
    append_old_certificate(scene)
    await scene.device.pull()
    assert scene.device.realm.realm_state.role(scene.bob.secrets.user) == CONTRIBUTOR
    scene.chain.publish(scene.server.cut())
    await scene.device.audit()
    scene.in_peace()


# A revoked owner's device gives a role late, in the epoch of its revocation (A17, rule 9): under an
# organization from before that, which no epoch contradicts.


async def give_a_role_late(scene: Scene) -> None:
    server, bob = scene.server, scene.bob
    log, place = server.org_log.log, server.realm_log.log
    owner = Role(user=bob.secrets.user, role=OWNER)
    server.append_realm(CERTIFICATE, server.certificate(server.alice, place, owner))
    carol = server.add_device("carol")
    await scene.device.pull()
    scene.chain.publish(server.cut())
    assert await scene.device.audit() == Word.VERIFIED
    before = server.org.position.size
    revoke_bob(scene)
    with pytest.raises(RevokedError):
        registered = RoleRegistered(certificate=NO_HASH)
        server.append_org(server.certificate(bob, log, registered))
    late = Role(user=carol.secrets.user, role=OWNER)
    leaf = server.next_realm_leaf(CERTIFICATE, server.certificate(bob, place, late))
    leaf = replace(leaf, header=replace(leaf.header, org_size=before))
    server.take(leaf, believe_role(None, server.realm_state, leaf))
    try:
        await scene.device.pull()
    except VerificationError as error:
        await scene.device.auditor.report(error)
    scene.chain.publish(server.cut())
    await scene.device.audit()


async def test_role_given_late_by_a_revoked_owner(scene: Scene) -> None:
    await give_a_role_late(scene)
    scene.convicted_of(Kind.INVALID_LEAF)
    assert scene.server.realm_state.role(carol_of(scene)) == OWNER
    assert scene.device.realm.realm_state.role(carol_of(scene)) == NO_ROLE


async def test_role_given_late_by_a_revoked_owner_without_the_check() -> None:
    scene = await weak_scene(realm_leaf=any_role_is_registered)
    await give_a_role_late(scene)
    scene.in_peace()
    assert scene.device.realm.realm_state.role(carol_of(scene)) == OWNER


def carol_of(scene: Scene) -> UserId:
    return next(one.user for one in scene.server.org.users.values() if one.name == b"carol")


def any_role_is_registered(
    self: Checks, state: RealmState, leaf: Leaf, *, org: OrgState, objects: ObjectView
) -> Transition:
    """All rules but the one."""
    if leaf.header.kind == CERTIFICATE:
        org = replace(org, registered={**org.registered, signed_hash(leaf.body): 0})
    return verify_leaf(state, leaf, org=org, objects=objects)


# A member takes a workspace over whose owner is there (A20), as if the owner had been revoked.


def take_over_from_a_living_owner(scene: Scene) -> None:
    server, bob = scene.server, scene.bob
    log, content = server.realm_log.log, Role(user=bob.secrets.user, role=OWNER)
    leaf = server.next_realm_leaf(CERTIFICATE, server.certificate(bob, log, content))
    server.take(leaf, believe_role(None, server.realm_state, leaf))


async def test_taken_over_from_a_living_owner(scene: Scene) -> None:
    take_over_from_a_living_owner(scene)
    with pytest.raises(VerificationError) as caught:
        await scene.device.pull()
    await scene.device.auditor.report(caught.value)
    scene.convicted_of(Kind.INVALID_LEAF)


async def test_taken_over_from_a_living_owner_without_the_check() -> None:
    scene = await weak_scene(realm_leaf=lenient)
    take_over_from_a_living_owner(scene)
    await scene.device.pull()
    assert scene.device.realm.realm_state.role(scene.bob.secrets.user) == OWNER
    scene.chain.publish(scene.server.cut())
    await scene.device.audit()
    scene.in_peace()


# A commit that nobody entitled signed, or signed under the old key (A03, A10, A11, A18).


async def take_unlawful_leaf(scene: Scene, body: bytes) -> BaseException | None:
    """What the device says to the leaf: the rule that it breaks, or nothing."""
    leaf = scene.server.next_realm_leaf(COMMIT, body)
    state = scene.server.realm_state
    after = replace(state, position=state.position.after(leaf))
    scene.server.take(leaf, Transition(state=after))
    try:
        await scene.device.pull()
    except LeafRefusedError as error:
        await scene.device.auditor.report(error)
        return error.__cause__
    return None


def lawless(self: Checks, state, leaf, **context: object) -> Transition:  # type: ignore[no-untyped-def]
    try:
        return ALL_CHECKS.realm_leaf(state, leaf, **context)  # type: ignore[arg-type]
    except (DataError, VerificationError):
        return Transition(state=replace(state, position=state.position.after(leaf)))


def by_an_unknown_device(scene: Scene) -> bytes:
    stranger = scene.server.fork().add_device("mallory")
    return scene.server.commit_body(stranger, scene.server.new_record())


def without_a_role(scene: Scene) -> bytes:
    outsider = scene.server.add_device("carol")
    return scene.server.commit_body(outsider, scene.server.new_record())


def forged(scene: Scene) -> bytes:
    impostor = replace(scene.bob, secrets=replace(scene.bob.secrets, sign_seed=bytes(32)))
    return scene.server.commit_body(impostor, scene.server.new_record())


def under_no_key(scene: Scene) -> bytes:
    return scene.server.commit_body(scene.bob, scene.server.new_record(), key_index=7)


def under_the_old_key(scene: Scene) -> bytes:
    """Sealed for everybody who held the key before this rotation, the removed too (A18)."""
    old = scene.server.realm_state.key
    assert old is not None
    scene.server.rotate(scene.server.alice)
    return scene.server.commit_body(scene.bob, scene.server.new_record(), key_index=old.index)


def over_a_change(scene: Scene) -> bytes:
    known = scene.server.new_record(sorted(scene.server.objects)[0])
    return scene.server.commit_body(scene.bob, replace(known, version=1, base=NO_HASH))


def over_a_tombstone(scene: Scene) -> bytes:
    dead = sorted(scene.server.objects)[0]
    scene.server.delete(scene.server.alice, dead)
    return scene.server.commit_body(scene.bob, scene.server.new_record(dead))


def replayed(scene: Scene) -> bytes:
    return scene.server.realm_log.leaves[3].body


def two_commits(scene: Scene) -> tuple[CommitBody, CommitBody]:
    """Each would be lawful here and now, as it is."""
    server = scene.server
    one, two = (server.commit_body(server.alice, server.new_record()) for _ in range(2))
    return decode(CommitBody, one), decode(CommitBody, two)


def spliced(scene: Scene) -> bytes:
    one, two = two_commits(scene)
    return encode(replace(one, objects=two.objects))


def with_the_signature_of_another(scene: Scene) -> bytes:
    one, two = two_commits(scene)
    return encode(replace(one, signature=two.signature))


def malformed(scene: Scene) -> bytes:
    return b"\x90"


UNLAWFUL: dict[Callable[[Scene], bytes], type[Exception]] = {
    by_an_unknown_device: TrustchainError,
    without_a_role: NotAllowedError,
    forged: SignatureError,
    under_no_key: KeyIndexError,
    under_the_old_key: KeyIndexError,
    over_a_change: CommitConflictError,
    over_a_tombstone: DeletedError,
    replayed: DeviceChainError,
    spliced: DataError,
    with_the_signature_of_another: SignatureError,
    malformed: DataError,
}
"""Each is wrong in one point alone: so it is that rule which stops it, and no other."""


@pytest.mark.parametrize(("made", "rule"), UNLAWFUL.items())
async def test_unlawful_leaf(
    scene: Scene, made: Callable[[Scene], bytes], rule: type[Exception]
) -> None:
    body = made(scene)
    await scene.device.pull()
    assert type(await take_unlawful_leaf(scene, body)) is rule
    scene.convicted_of(Kind.INVALID_LEAF)


@pytest.mark.parametrize("made", UNLAWFUL)
async def test_unlawful_leaf_without_the_check(made: Callable[[Scene], bytes]) -> None:
    scene = await weak_scene(realm_leaf=lawless)
    body = made(scene)
    await scene.device.pull()
    assert await take_unlawful_leaf(scene, body) is None
    scene.chain.publish(scene.server.cut())
    await scene.device.audit()
    scene.in_peace()


# A member whom nobody added, in the org log (A02, A03, T7).


GHOST = b"ghost" + bytes(11)


def ghost_person(scene: Scene) -> bytes:
    """In an administrator's name, with the signature of somebody else."""
    server = scene.server
    impostor = replace(server.alice, secrets=replace(server.alice.secrets, sign_seed=bytes(32)))
    ghost = User(
        user=UserId(GHOST),
        name=b"ghost",
        email=b"ghost@acme.example",
        profile=ADMIN,
        generation=1,
        box_key=server.alice.secrets.user_key(1).public,
    )
    return server.certificate(impostor, server.org_log.log, ghost)


def ghost_secrets(scene: Scene) -> DeviceSecrets:
    """A device of the server's in bob's name: bob's keys would be sealed to it."""
    return replace(scene.bob.secrets, device=DeviceId(GHOST), sign_seed=bytes(32))


def unsigned_device(scene: Scene) -> bytes:
    """Everything in it is as bob's own device would say it."""
    content = device_content(ghost_secrets(scene), b"tablet")
    body = scene.server.certificate(scene.bob, scene.server.org_log.log, content)
    return encode(replace(decode(Signed, body), signature=bytes(64)))


def device_signed_by_itself(scene: Scene) -> bytes:
    secrets = ghost_secrets(scene)
    ghost = replace(scene.bob, secrets=secrets, author=replace(scene.bob.author, secrets=secrets))
    content = device_content(secrets, b"tablet")
    return scene.server.certificate(ghost, scene.server.org_log.log, content)


GHOSTS: dict[Callable[[Scene], bytes], type[Exception]] = {
    ghost_person: SignatureError,
    unsigned_device: SignatureError,
    device_signed_by_itself: TrustchainError,
}


async def add_ghost(scene: Scene, body: bytes) -> BaseException | None:
    scene.server.take_org(body, believe_newcomer(scene.server.org, body))
    try:
        await scene.device.pull()
    except LeafRefusedError as error:
        await scene.device.auditor.report(error)
        return error.__cause__
    return None


def credulous(self: Checks, state: OrgState, leaf: Leaf) -> OrgState:
    try:
        return ALL_CHECKS.org_leaf(state, leaf)
    except (DataError, VerificationError):
        return replace(believe_newcomer(state, leaf.body), position=state.position.after(leaf))


@pytest.mark.parametrize(("made", "rule"), GHOSTS.items())
async def test_ghost_member(
    scene: Scene, made: Callable[[Scene], bytes], rule: type[Exception]
) -> None:
    assert type(await add_ghost(scene, made(scene))) is rule
    scene.convicted_of(Kind.INVALID_LEAF)


@pytest.mark.parametrize("made", GHOSTS)
async def test_ghost_member_without_the_check(made: Callable[[Scene], bytes]) -> None:
    scene = await weak_scene(org_leaf=credulous)
    assert await add_ghost(scene, made(scene)) is None
    scene.chain.publish(scene.server.cut())
    await scene.device.audit()
    scene.in_peace()
    org = scene.device.org.org_states[-1]
    assert GHOST in (*org.users, *org.devices)
    assert (made is ghost_person) is (len(org.devices_of(scene.bob.secrets.user)) == 1)


# A certificate of a kind that came after this program: nobody's fault, if it is signed. What is
# malformed, or signed by nobody who may, convicts as ever.

LATER_KIND = 200


def certificate_of(server: HonestServer, kind: int, content: bytes, by: Member) -> bytes:
    """Any content under any kind, signed as certificates are."""
    log = server.org_log.log
    chain = server.chain_of(by, log)
    header = by.author.header(server.anchor.context(log), chain, server.seen(log))
    record = encode(Certificate(header=header, kind=kind, replaces=NO_HASH, content=content))
    signature = by.key.sign(tag("certificate-signature") + record)
    return encode(Signed(record=record, signature=signature))


async def show_certificate(scene: Scene, body: bytes) -> ParsecFSError:
    """What the device says to it, and what the auditor makes of that."""
    server = scene.server
    server.take_org(body, server.org)
    with pytest.raises(ParsecFSError) as caught:
        await scene.device.pull()
    if isinstance(caught.value, VerificationError):
        await scene.device.auditor.report(caught.value)
    scene.chain.publish(server.cut())
    await scene.device.audit()
    return caught.value


async def test_a_later_kind_accuses_nobody(scene: Scene) -> None:
    size, alice = scene.device.org.size(), scene.server.alice
    error = await show_certificate(scene, certificate_of(scene.server, LATER_KIND, b"\x90", alice))
    assert isinstance(error, OutdatedError)
    assert (scene.device.org.size(), scene.device.store.evidence) == (size, {})
    scene.server.tick(60_000)
    assert await scene.device.audit() == Word.LAGGING
    assert "update it" in scene.device.auditor.client_state().reason


async def test_a_malformed_certificate_of_a_known_kind_convicts(scene: Scene) -> None:
    body = certificate_of(scene.server, USER_REVOKED, b"\x90", scene.server.alice)
    assert isinstance(await show_certificate(scene, body), LeafRefusedError)
    scene.convicted_of(Kind.INVALID_LEAF)


async def test_a_later_kind_that_nobody_signed_convicts(scene: Scene) -> None:
    alice = scene.server.alice
    impostor = replace(alice, secrets=replace(alice.secrets, sign_seed=bytes(range(32))))
    body = certificate_of(scene.server, LATER_KIND, b"\x90", impostor)
    assert isinstance(await show_certificate(scene, body), LeafRefusedError)
    scene.convicted_of(Kind.INVALID_LEAF)


# The organization listed twice in one epoch, or not at all (rule 17).


async def list_twice(scene: Scene) -> None:
    """Two entries of one organization; each device is shown the one that suits."""
    server, twin = scene.server, scene.server.fork()
    twin.commit(twin.alice)
    server.commit(server.alice)
    await scene.device.pull()
    shown, hidden = server.fork().cut(), twin.cut()
    key = Hash(bytes(31) + b"\x01")
    orgs = hidden.orgs.set(key, shown.org_root)
    cut = server.cut_maps(orgs, hidden.logs, hidden.states)
    scene.chain.publish(cut)

    def crooked(proof: EpochProof) -> EpochProof:
        if proof.opening.epoch < len(server.epochs) - 1:
            return proof
        ours = open_cut(shown, server.anchor, server.logs)
        return replace(proof, org_root=shown.org_root, org_proof=cut.orgs.open(key), logs=ours.logs)

    scene.device.door.twist = crooked
    await scene.device.audit()


def believe_opening(self: Checks, proof, statement, *, expected_logs, before, **_):  # type: ignore[no-untyped-def]
    states = tuple(one.state[0] if one.state else None for one in proof.logs)
    return before.append(opening_leaf(proof.opening)), states


async def test_organization_listed_twice(scene: Scene) -> None:
    await list_twice(scene)
    scene.only_suspect()
    assert scene.device.auditor.epochs == 2


async def test_organization_listed_twice_without_the_check() -> None:
    scene = await weak_scene(epoch_opening=believe_opening)
    await list_twice(scene)
    scene.in_peace()
    assert scene.device.auditor.epochs == 3


async def list_nowhere(scene: Scene) -> None:
    scene.chain.publish(scene.server.cut_maps(PrefixMap(), PrefixMap(), {}))
    await scene.device.audit()


async def test_organization_absent(scene: Scene) -> None:
    await list_nowhere(scene)
    scene.convicted_of(Kind.BROKEN_PROMISE)


async def test_organization_absent_without_the_check() -> None:
    scene = await weak_scene(log_grows=lambda self, before, after: after)
    await list_nowhere(scene)
    scene.in_peace()


# A due epoch far away: a promise that can never be broken (A38, rule 23).


async def postpone(scene: Scene) -> None:
    log = scene.server.realm_log.log
    scene.server.commit(scene.server.alice)
    scene.device.realm.most_due = scene.device.auditor.most_due()
    scene.device.door.heads[log] = scene.server.head(log, due_epoch=10**6)
    await scene.device.pull()


async def test_due_epoch_postponed(scene: Scene) -> None:
    with pytest.raises(AuditFirstError):
        await postpone(scene)
    assert scene.device.realm.size() == 7


async def test_due_epoch_postponed_without_the_check() -> None:
    scene = await weak_scene("promise")
    await postpone(scene)
    for _ in range(3):
        scene.chain.publish(scene.server.cut(realm=scene.server.realm_log.states[-2]))
        await scene.device.audit()
    scene.in_peace()


# Two statements for one epoch: the chain holds one, this device is shown the other (A40).


async def show_other_statement(scene: Scene) -> None:
    twin = scene.server.fork()
    scene.server.commit(scene.server.alice)
    await scene.device.pull()
    scene.server.cut()
    scene.chain.publish(twin.cut())
    await scene.device.audit()


async def test_two_statements_for_one_epoch(scene: Scene) -> None:
    await show_other_statement(scene)
    scene.convicted_of(Kind.TWO_STATEMENTS)


async def test_two_statements_for_one_epoch_without_the_check() -> None:
    scene = await weak_scene("statement_is_anchored")
    await show_other_statement(scene)
    scene.in_peace()


# A leaf judged by an outdated organization, so that a revocation does not bind it (A17, rule 9).


async def judge_by_the_past(scene: Scene) -> None:
    server = scene.server
    server.add_device("carol")
    await scene.device.pull()
    scene.chain.publish(server.cut())
    assert await scene.device.audit() == Word.VERIFIED
    body = server.commit_body(server.alice, server.new_record())
    leaf = server.next_realm_leaf(COMMIT, body)
    outdated = server.realm_log.states[-1].org_size
    old = replace(leaf, header=replace(leaf.header, org_size=outdated))
    org = server.org_states[outdated - 1]
    server.take(old, verify_leaf(server.realm_state, old, org=org, objects=server.objects.get))
    await scene.device.pull()
    scene.chain.publish(server.cut())
    await scene.device.audit()


async def test_leaf_judged_by_the_past(scene: Scene) -> None:
    await judge_by_the_past(scene)
    scene.convicted_of(Kind.INVALID_LEAF)


async def test_leaf_judged_by_the_past_without_the_check() -> None:
    scene = await weak_scene("leaf_is_current")
    await judge_by_the_past(scene)
    scene.in_peace()


# A revoked device writes on, and the server helps it (A17): openly, or under an old org size.


def revoke_bob(scene: Scene) -> None:
    server = scene.server
    device = scene.bob.author.secrets.device
    log = server.org_log.log
    server.append_org(server.certificate(server.alice, log, DeviceRevoked(device=device)))


def unrevoked(org: OrgState) -> OrgState:
    known = {id: replace(one, revoked=None) for id, one in org.devices.items()}
    return replace(org, devices=known)


async def write_after_the_end(scene: Scene) -> None:
    server = scene.server
    revoke_bob(scene)
    leaf = server.next_realm_leaf(COMMIT, server.commit_body(scene.bob, server.new_record()))
    org = unrevoked(server.org)
    server.take(leaf, verify_leaf(server.realm_state, leaf, org=org, objects=server.objects.get))
    try:
        await scene.device.pull()
    except VerificationError as error:
        await scene.device.auditor.report(error)


async def test_revoked_device_writes_on(scene: Scene) -> None:
    await write_after_the_end(scene)
    scene.convicted_of(Kind.INVALID_LEAF)


async def test_revoked_device_writes_on_without_the_check() -> None:
    scene = await weak_scene(
        realm_leaf=lambda self, state, leaf, org, objects: verify_leaf(
            state, leaf, org=unrevoked(org), objects=objects
        )
    )
    await write_after_the_end(scene)
    scene.in_peace()


async def write_under_the_past(scene: Scene) -> None:
    """As if the revocation, which an epoch anchors already, had not been there yet."""
    server = scene.server
    revoke_bob(scene)
    await scene.device.pull()
    scene.chain.publish(server.cut())
    assert await scene.device.audit() == Word.VERIFIED
    leaf = server.next_realm_leaf(COMMIT, server.commit_body(scene.bob, server.new_record()))
    past = server.realm_log.states[-1].org_size
    leaf = replace(leaf, header=replace(leaf.header, org_size=past))
    org = server.org_states[past - 1]
    server.take(leaf, verify_leaf(server.realm_state, leaf, org=org, objects=server.objects.get))
    await scene.device.pull()
    scene.chain.publish(server.cut())
    await scene.device.audit()


async def test_revoked_device_writes_under_the_past(scene: Scene) -> None:
    await write_under_the_past(scene)
    scene.convicted_of(Kind.INVALID_LEAF)


async def test_revoked_device_writes_under_the_past_without_the_check() -> None:
    scene = await weak_scene("leaf_is_current")
    await write_under_the_past(scene)
    scene.in_peace()


async def anchor_against_the_past(scene: Scene) -> None:
    """The same lie one level higher: in what the epoch says of the realm."""
    server = scene.server
    server.add_device("carol")
    await scene.device.pull()
    scene.chain.publish(server.cut())
    assert await scene.device.audit() == Word.VERIFIED
    server.commit(server.alice)
    await scene.device.pull()
    states = {one.log: one.states[-1] for one in (server.org_log, server.realm_log)}
    realm = states[server.realm_log.log]
    states[realm.log] = replace(realm, org_size=realm.org_size - 2)
    scene.chain.publish(server.cut_states(states))
    await scene.device.audit()


async def test_realm_anchored_against_the_past(scene: Scene) -> None:
    await anchor_against_the_past(scene)
    scene.only_suspect()


async def test_realm_anchored_against_the_past_without_the_check() -> None:
    scene = await weak_scene(org_is_current=lambda self, before, after, org_before: after)
    await anchor_against_the_past(scene)
    scene.in_peace()


# A head with other roots, believed by a careless replica, is caught by the audit (A26, A27).


async def believe_other_head(scene: Scene) -> None:
    log, twin = scene.server.realm_log.log, scene.server.fork()
    twin.commit(twin.alice)
    scene.server.commit(scene.server.alice)
    await scene.device.pull()
    scene.device.realm.heads[twin.realm_log.states[-1].size] = twin.head(log)
    scene.chain.publish(scene.server.cut())
    await scene.device.audit()


async def test_head_of_another_branch(scene: Scene) -> None:
    await believe_other_head(scene)
    scene.convicted_of(Kind.SPLIT_VIEW)


async def test_head_of_another_branch_without_the_check() -> None:
    scene = await weak_scene("head_is_prefix")
    await believe_other_head(scene)
    scene.in_peace()


# Time of statements goes back: the order of epochs would be for the server to tell.


async def turn_time_back(scene: Scene) -> None:
    scene.server.now_ms -= 60_000
    scene.chain.publish(scene.server.cut())
    scene.server.now_ms += 60_000
    scene.chain.times_ms[-1] = scene.server.now_ms
    await scene.device.audit()


async def test_statement_time_goes_back(scene: Scene) -> None:
    await turn_time_back(scene)
    scene.only_suspect()


async def test_statement_time_goes_back_without_the_check() -> None:
    scene = await weak_scene("time_grows")
    await turn_time_back(scene)
    scene.in_peace()

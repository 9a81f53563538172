"""What may enter a realm log, and what not: roles, keys, versions, order.

Data flow: an honest realm and one wrong record -> the error class that names the reason.
"""

from dataclasses import replace
from typing import Any

import pytest

from parsec_fs.protocol.certificates import (
    ADMIN,
    AUDITOR,
    CONTRIBUTOR,
    MANAGER,
    NO_ROLE,
    OUTSIDER,
    OWNER,
    READER,
    STANDARD,
    Authored,
    Content,
    RealmCreated,
    RealmRegistered,
    Role,
    RoleRegistered,
    UserRevoked,
    sign_certificate,
)
from parsec_fs.protocol.codec import decode, encode
from parsec_fs.protocol.commits import CommitBody, Precondition, peek_commit, verify_commit
from parsec_fs.protocol.errors import DataError, SignatureError, TrustchainError
from parsec_fs.protocol.hashing import map_key, signed_hash
from parsec_fs.protocol.ids import NO_HASH, ROOT_OBJECT, Hash, ObjectId, RealmId, UserId
from parsec_fs.protocol.log_state import NotAllowedError, ReplacedError, RevokedError
from parsec_fs.protocol.membership import realm_context
from parsec_fs.protocol.ownership import live_owners
from parsec_fs.protocol.realm_state import (
    CommitConflictError,
    DeletedError,
    KeyIndexError,
    RealmState,
    certificate_entry,
    verify_leaf,
)
from parsec_fs.protocol.records import CERTIFICATE, COMMIT, STAMPS, Leaf, verify_head
from tests.support.honest_logs import HonestRealm, Person, next_leaf, workspace_of_three


@pytest.fixture
def people() -> tuple[HonestRealm, Person, Person]:
    """A realm of alice, bob who may write, carol who may read."""
    return workspace_of_three()


def refuse(realm: HonestRealm, leaf: Leaf, error: type) -> TrustchainError:
    with pytest.raises(error) as caught:
        verify_leaf(realm.state, leaf, org=realm.org.state, objects=realm.objects.get)
    assert type(caught.value) is error
    found: TrustchainError = caught.value
    return found


def refuse_certificate(
    realm: HonestRealm, content: Content, person: Person, error: type, **sign: Any
) -> None:
    refuse(realm, realm.leaf(CERTIFICATE, realm.sign(content, person, **sign)), error)


def role_value(realm: HonestRealm, person: Person) -> Hash:
    return realm.state.map.get(map_key(b"role", person.user)) or NO_HASH


def test_only_contributors_write(people: tuple[HonestRealm, Person, Person]) -> None:
    realm, bob, carol = people
    dave = realm.org.add_person(profile=STANDARD)
    new = realm.new_object()
    for person in (carol, dave):
        body = realm.sign_commit([realm.record(new)], person)
        refuse(realm, realm.leaf(COMMIT, body), NotAllowedError)
    realm.commit([new], bob)
    realm.give(bob, NO_ROLE)
    body = realm.sign_commit([realm.record(new)], bob)
    refuse(realm, realm.leaf(COMMIT, body), NotAllowedError)


def test_conflict_names_every_object_with_its_state(
    people: tuple[HonestRealm, Person, Person],
) -> None:
    realm, bob, _ = people
    old, gone, new = sorted(realm.new_object() for _ in range(3))
    realm.commit([old, gone])
    stale = [realm.record(old), realm.record(gone)]
    realm.commit([old, gone], deleted=True)
    missing = replace(realm.record(new), version=2, base=Hash(b"b" * 32))
    body = realm.sign_commit([*stale, missing], bob)
    error = refuse(realm, realm.leaf(COMMIT, body), CommitConflictError)
    assert isinstance(error, CommitConflictError)
    states = {one.object: one.state for one in error.conflicts}
    assert states == {old: (realm.objects[old],), gone: (realm.objects[gone],), new: ()}


def test_a_tombstone_is_the_last_version(people: tuple[HonestRealm, Person, Person]) -> None:
    realm, bob, _ = people
    old, unborn, new = sorted(realm.new_object() for _ in range(3))
    realm.commit([old])
    realm.commit([old, unborn], deleted=True)
    for gone in (old, unborn):
        for deleted in (False, True):
            records = [realm.record(gone, deleted=deleted), realm.record(new)]
            body = realm.sign_commit(sorted(records, key=lambda one: one.object), bob)
            refuse(realm, realm.leaf(COMMIT, body), DeletedError)
    state = realm.objects[old]
    still = Precondition(object=old, version=state.version, write=state.write)
    realm.commit([new], bob, preconditions=(still,))


def test_the_root_is_never_deleted(people: tuple[HonestRealm, Person, Person]) -> None:
    realm, bob, _ = people
    realm.commit([ROOT_OBJECT])
    body = realm.sign_commit([realm.record(ROOT_OBJECT, deleted=True)], bob)
    refuse(realm, realm.leaf(COMMIT, body), DeletedError)


def test_version_counts_up_by_one(people: tuple[HonestRealm, Person, Person]) -> None:
    realm, bob, _ = people
    one = realm.new_object()
    realm.commit([one])
    for version in (0, 1, 3):
        body = realm.sign_commit([replace(realm.record(one), version=version)], bob)
        refuse(realm, realm.leaf(COMMIT, body), CommitConflictError)


def test_preconditions_must_hold(people: tuple[HonestRealm, Person, Person]) -> None:
    realm, bob, _ = people
    folder, child, elsewhere = sorted(realm.new_object() for _ in range(3))
    realm.commit([folder])
    state = realm.objects[folder]
    held = Precondition(object=folder, version=state.version, write=state.write)
    unborn = Precondition(object=elsewhere, version=0, write=NO_HASH)
    realm.commit([child], bob, preconditions=(held, unborn))
    realm.commit([folder])
    body = realm.sign_commit([realm.record(child)], bob, preconditions=(held,))
    error = refuse(realm, realm.leaf(COMMIT, body), CommitConflictError)
    assert isinstance(error, CommitConflictError)
    assert [one.object for one in error.conflicts] == [folder]


def test_old_key_is_refused(people: tuple[HonestRealm, Person, Person]) -> None:
    realm, bob, _ = people
    realm.rotate(bob)
    for index in (0, 1, 3):
        body = realm.sign_commit([realm.record(realm.new_object())], bob, key_index=index)
        refuse(realm, realm.leaf(COMMIT, body), KeyIndexError)


def test_no_commit_before_the_first_key(people: tuple[HonestRealm, Person, Person]) -> None:
    realm, _, _ = people
    young = replace(realm.state, key=None)
    body = realm.sign_commit([realm.record(realm.new_object())], realm.owner)
    with pytest.raises(KeyIndexError):
        verify_leaf(young, realm.leaf(COMMIT, body), org=realm.org.state, objects={}.get)


def test_roles(people: tuple[HonestRealm, Person, Person]) -> None:
    realm, bob, carol = people
    alice = realm.owner
    dave = realm.org.add_person(profile=STANDARD)
    refuse_certificate(realm, Role(user=dave.user, role=READER), bob, NotAllowedError)
    realm.give(bob, MANAGER)
    realm.give(dave, CONTRIBUTOR, author=bob)
    refuse_certificate(realm, Role(user=dave.user, role=MANAGER), bob, NotAllowedError)
    replaces = role_value(realm, bob)
    promoting = Role(user=bob.user, role=OWNER)
    refuse_certificate(realm, promoting, bob, NotAllowedError, replaces=replaces)
    demoting = Role(user=alice.user, role=READER)
    refuse_certificate(realm, demoting, bob, NotAllowedError)
    refuse_certificate(realm, Role(user=carol.user, role=6), alice, TrustchainError)
    stranger = Role(user=UserId(bytes(16)), role=READER)
    refuse_certificate(realm, stranger, alice, TrustchainError)


def end_user(realm: HonestRealm, person: Person, by: Person) -> None:
    realm.org.append(
        UserRevoked(user=person.user), by.device, by.key, replaces=realm.org.user_value(person)
    )


def own_role(realm: HonestRealm, person: Person, role: int) -> Leaf:
    """The person gives themselves this role next."""
    body = realm.sign(Role(user=person.user, role=role), person, replaces=role_value(realm, person))
    return realm.leaf(CERTIFICATE, body)


def take(realm: HonestRealm, leaf: Leaf) -> None:
    realm.append(CERTIFICATE, leaf.body)


def test_the_last_owner_who_is_not_revoked_stays_one(
    people: tuple[HonestRealm, Person, Person],
) -> None:
    realm, bob, carol = people
    alice = realm.owner
    refuse(realm, own_role(realm, alice, READER), NotAllowedError)
    admin = realm.org.add_person(profile=ADMIN)
    realm.give(bob, OWNER)
    end_user(realm, bob, admin)
    assert live_owners(realm.state.roles, org=realm.org.state, org_size=99) == (alice.user,)
    refuse(realm, own_role(realm, alice, NO_ROLE), NotAllowedError)
    realm.give(bob, NO_ROLE)
    realm.give(carol, OWNER)
    take(realm, own_role(realm, alice, NO_ROLE))
    assert realm.state.role(alice.user) == NO_ROLE


def test_the_highest_role_takes_over_what_nobody_owns(
    people: tuple[HonestRealm, Person, Person],
) -> None:
    realm, bob, carol = people
    admin = realm.org.add_person(profile=ADMIN)
    refuse(realm, own_role(realm, bob, OWNER), NotAllowedError)
    end_user(realm, realm.owner, admin)
    refuse(realm, own_role(realm, carol, OWNER), NotAllowedError)
    refuse(realm, own_role(realm, admin, OWNER), NotAllowedError)
    refuse(realm, own_role(realm, bob, MANAGER), NotAllowedError)
    for_another = realm.sign(
        Role(user=carol.user, role=OWNER), bob, replaces=role_value(realm, carol)
    )
    refuse(realm, realm.leaf(CERTIFICATE, for_another), NotAllowedError)
    end_user(realm, bob, admin)
    take(realm, own_role(realm, carol, OWNER))
    realm.give(admin, MANAGER, author=carol)
    realm.rotate(carol)


def test_who_owns_is_judged_by_the_organization_of_that_time(
    people: tuple[HonestRealm, Person, Person],
) -> None:
    """A20: an owner who is revoked later was one; a taking over that comes before is refused by
    every replica, however much of the org log it holds."""
    realm, bob, _ = people
    admin = realm.org.add_person(profile=ADMIN)
    early = own_role(realm, bob, OWNER)
    end_user(realm, realm.owner, admin)
    refuse(realm, early, NotAllowedError)
    take(realm, own_role(realm, bob, OWNER))


def test_an_outsider_takes_nothing_over_and_keeps_nobody_from_it(
    people: tuple[HonestRealm, Person, Person],
) -> None:
    realm, bob, carol = people
    admin = realm.org.add_person(profile=ADMIN)
    org, value = realm.org, realm.org.user_value(bob)
    before = realm.leaf(
        CERTIFICATE,
        realm.sign(Role(user=bob.user, role=MANAGER), realm.owner, replaces=role_value(realm, bob)),
    )
    org.append(org.user_of(bob, profile=OUTSIDER), admin.device, admin.key, replaces=value)
    verify_leaf(realm.state, before, org=org.state, objects=realm.objects.get)
    end_user(realm, realm.owner, admin)
    refuse(realm, own_role(realm, bob, OWNER), NotAllowedError)
    take(realm, own_role(realm, carol, OWNER))


def test_an_auditor_signs_nothing(people: tuple[HonestRealm, Person, Person]) -> None:
    """Also an outsider may be one, and a manager may make one; what they sign is refused."""
    realm, bob, carol = people
    erin = realm.org.add_person(profile=OUTSIDER)
    realm.give(bob, MANAGER)
    realm.give(carol, AUDITOR, author=bob)
    realm.give(erin, AUDITOR, author=bob)
    key = realm.state.map.get(map_key(b"key", b"")) or NO_HASH
    for auditor in (carol, erin):
        body = realm.sign_commit([realm.record(realm.new_object())], auditor)
        refuse(realm, realm.leaf(COMMIT, body), NotAllowedError)
        refuse_certificate(realm, realm.rotation(), auditor, NotAllowedError, replaces=key)
        higher = Role(user=auditor.user, role=READER)
        value = role_value(realm, auditor)
        refuse_certificate(realm, higher, auditor, NotAllowedError, replaces=value)
    realm.give(carol, READER, author=bob)
    assert realm.state.role(carol.user) == READER


def test_an_auditor_takes_nothing_over(people: tuple[HonestRealm, Person, Person]) -> None:
    """Also where nobody else is left: the next key would be sealed to them."""
    realm, bob, carol = people
    admin = realm.org.add_person(profile=ADMIN)
    realm.give(bob, NO_ROLE)
    realm.give(carol, AUDITOR)
    end_user(realm, realm.owner, admin)
    refuse(realm, own_role(realm, carol, OWNER), NotAllowedError)


def test_old_role_cannot_be_given_again(people: tuple[HonestRealm, Person, Person]) -> None:
    """Whoever kept "bob may write" cannot append it after bob was removed (rule 8)."""
    realm, bob, _ = people
    realm.give(bob, NO_ROLE)
    content = Role(user=bob.user, role=CONTRIBUTOR)
    refuse_certificate(realm, content, realm.owner, ReplacedError)


def test_rotations(people: tuple[HonestRealm, Person, Person]) -> None:
    realm, bob, carol = people
    value = realm.state.map.get(map_key(b"key", b"")) or NO_HASH
    rotation = realm.rotation()
    refuse_certificate(realm, rotation, carol, NotAllowedError, replaces=value)
    refuse_certificate(realm, rotation, bob, ReplacedError)
    for index in (1, 3):
        wrong = replace(rotation, index=index)
        refuse_certificate(realm, wrong, bob, TrustchainError, replaces=value)


def test_creation_is_the_registered_one(people: tuple[HonestRealm, Person, Person]) -> None:
    realm, bob, _ = people
    again = RealmCreated(realm=realm.id, owner=realm.owner.user)
    refuse_certificate(realm, again, realm.owner, TrustchainError)
    for state, content, person in (
        (RealmState(context=realm.context), again, realm.owner),  # a second creation, other bytes
        (RealmState(context=realm.context), again, bob),  # not the owner
        (
            RealmState(context=realm_context(realm.org.state, RealmId(b"z" * 32))),
            again,
            realm.owner,
        ),
    ):
        young = replace_realm(realm, state)
        body = young.sign(content, person)
        refuse(young, next_leaf(0, state.map.root(), CERTIFICATE, body, 99), TrustchainError)


def replace_realm(realm: HonestRealm, state: RealmState) -> HonestRealm:
    """The realm as a server would tell it from the beginning, once more."""
    young = object.__new__(HonestRealm)
    young.__dict__ |= {**realm.__dict__, "state": state, "objects": {}, "context": state.context}
    return young


def test_nothing_comes_before_the_creation(people: tuple[HonestRealm, Person, Person]) -> None:
    realm, _, _ = people
    young = replace_realm(realm, RealmState(context=realm.context))
    for leaf in realm.leaves[1:3]:
        early = next_leaf(0, young.state.map.root(), leaf.header.kind, leaf.body, 99)
        with pytest.raises(TrustchainError):
            verify_leaf(young.state, early, org=realm.org.state, objects={}.get)
    realm.stamp(2)
    body = realm.leaves[-1].body
    refuse(young, next_leaf(0, young.state.map.root(), STAMPS, body, 99), TrustchainError)


def test_stamps_change_nothing_but_the_log(people: tuple[HonestRealm, Person, Person]) -> None:
    realm, _, _ = people
    before = realm.state
    realm.stamp(3)
    assert realm.state == replace(before, position=realm.state.position)
    refuse(realm, realm.leaf(STAMPS, b"\x91\x90"), DataError)
    refuse(realm, realm.leaf(7, b"\x91\x90"), TrustchainError)


def test_certificates_of_the_organization_do_not_belong_here(
    people: tuple[HonestRealm, Person, Person],
) -> None:
    realm, _, _ = people
    content = RealmRegistered(realm=realm.id, creation=NO_HASH)
    refuse_certificate(realm, content, realm.owner, TrustchainError)
    header = realm.header(realm.owner)
    authored = Authored(header=header, content=content, replaces=NO_HASH, hash=NO_HASH)
    with pytest.raises(TrustchainError):
        certificate_entry(authored)


def test_time_and_org_size_never_go_back(people: tuple[HonestRealm, Person, Person]) -> None:
    realm, _, _ = people
    leaf = realm.leaf(COMMIT, realm.sign_commit([realm.record(realm.new_object())], realm.owner))
    last = realm.leaves[-1].header
    for changes in ({"time_ms": last.time_ms}, {"org_size": last.org_size - 1}):
        wrong = replace(leaf, header=replace(leaf.header, **changes))
        refuse(realm, wrong, TrustchainError)


@pytest.mark.parametrize(
    ("changes", "deleted"),
    [
        ({"flags": 2}, False),
        ({"flags": 1}, False),
        ({"flags": 0}, True),
        ({"payload_size": 0}, False),
        ({"payload_size": 1}, True),
        ({"payload": NO_HASH}, False),
        ({"payload": Hash(b"p" * 32)}, True),
    ],
)
def test_tombstones_have_no_payload_and_others_have(
    people: tuple[HonestRealm, Person, Person], changes: dict[str, Any], deleted: bool
) -> None:
    realm, bob, _ = people
    record = replace(realm.record(realm.new_object(), deleted=deleted), **changes)
    body = realm.sign_commit([record], bob)
    with pytest.raises(DataError):
        verify_commit(body, key=bob.key.verify_key, expected_context=realm.context)


def test_signature_covers_the_object_records(people: tuple[HonestRealm, Person, Person]) -> None:
    realm, bob, carol = people
    one, other = sorted(realm.new_object() for _ in range(2))
    body = decode(CommitBody, realm.sign_commit([realm.record(one), realm.record(other)], bob))
    for objects in (body.objects[:1], (body.objects[0], realm.record(ObjectId(b"\xff" * 16)))):
        with pytest.raises(DataError):
            verify_commit(
                encode(replace(body, objects=objects)),
                key=bob.key.verify_key,
                expected_context=realm.context,
            )
    with pytest.raises(SignatureError):
        verify_commit(encode(body), key=carol.key.verify_key, expected_context=realm.context)
    assert peek_commit(encode(body)).count == 2


def test_signed_head_names_the_state(people: tuple[HonestRealm, Person, Person]) -> None:
    realm, _, _ = people
    head = verify_head(
        realm.head(), head_key=realm.org.head_key.verify_key, expected_context=realm.context
    )
    assert (head.size, head.log_root) == (len(realm.leaves), realm.state.position.root())
    assert head.map_root == realm.log_state().map_root
    assert realm.org.log_state().size == realm.org.state.position.size


def test_a_role_counts_once_it_is_registered(people: tuple[HonestRealm, Person, Person]) -> None:
    """Rule 9: by as much of the org log as the leaf names, however much more a replica holds."""
    realm, bob, _ = people
    alice, content = realm.owner, Role(user=bob.user, role=READER)
    body = sign_certificate(
        content, header=realm.header(alice), replaces=role_value(realm, bob), key=alice.key
    )
    early = realm.leaf(CERTIFICATE, body)
    refuse(realm, early, TrustchainError)
    registered = RoleRegistered(certificate=signed_hash(body))
    realm.org.append(registered, alice.device, alice.key)
    refuse(realm, early, TrustchainError)
    take(realm, realm.leaf(CERTIFICATE, body))
    assert realm.state.role(bob.user) == READER


def test_a_role_that_was_registered_in_time_outlives_its_author(
    people: tuple[HonestRealm, Person, Person],
) -> None:
    """As the org log orders them, not the realm's; nothing is registered after a revocation."""
    realm, bob, carol = people
    realm.give(bob, OWNER)
    in_time = own_role(realm, bob, READER)
    end_user(realm, bob, realm.owner)
    with pytest.raises(RevokedError):
        realm.org.append(RoleRegistered(certificate=NO_HASH), bob.device, bob.key)
    verify_leaf(realm.state, in_time, org=realm.org.state, objects=realm.objects.get)
    late = realm.sign(Role(user=carol.user, role=OWNER), bob, replaces=role_value(realm, carol))
    leaf = realm.leaf(CERTIFICATE, late)
    leaf = replace(leaf, header=replace(leaf.header, org_size=in_time.header.org_size))
    with pytest.raises(TrustchainError, match="not registered"):
        verify_leaf(realm.state, leaf, org=realm.org.state, objects=realm.objects.get)

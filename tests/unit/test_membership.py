"""What may enter an org log, and what not, whoever signs it.

Data flow: an honest organization and one wrong record -> the error class that names the reason.
"""

from dataclasses import replace
from typing import Any

import pytest

from parsec_fs.protocol import membership
from parsec_fs.protocol.certificates import (
    ADMIN,
    READER,
    STANDARD,
    Content,
    DeviceRevoked,
    Genesis,
    RealmCreated,
    RealmRegistered,
    Role,
    RoleRegistered,
    UserRevoked,
    decode_content,
    sign_certificate,
)
from parsec_fs.protocol.codec import encode
from parsec_fs.protocol.errors import (
    DataError,
    OutdatedError,
    ProofError,
    SignatureError,
    TrustchainError,
)
from parsec_fs.protocol.hashing import EMPTY_MAP, body_hash, map_key, map_value
from parsec_fs.protocol.ids import NO_HASH, DeviceId, Hash, LogId, OrgId, RealmId, UserId
from parsec_fs.protocol.keys import SigningKey
from parsec_fs.protocol.log_state import (
    DeviceChain,
    DeviceChainError,
    NotAllowedError,
    ReplacedError,
    RevokedError,
)
from parsec_fs.protocol.records import CERTIFICATE, COMMIT, ROOT_DEVICE, DeviceHeader, Leaf
from tests.support.honest_logs import (
    Draw,
    HonestOrg,
    Person,
    header_for,
    next_leaf,
    seen_of,
    unseen,
)


def refuse(org: HonestOrg, content: Content, person: Person, error: type, **sign: Any) -> None:
    """The organization's next record would be this one: refused with exactly this class."""
    leaf = org.leaf(org.sign(content, person.device, person.key, **sign))
    with pytest.raises(error) as caught:
        membership.append(org.state, leaf)
    assert type(caught.value) is error


def test_users_and_devices_enter_in_order() -> None:
    org = HonestOrg()
    bob = org.add_person(profile=STANDARD)
    state = org.state
    assert (len(state.users), len(state.devices), state.position.size) == (2, 2, 5)
    assert state.device(bob.device).key == bob.key.verify_key
    assert state.device(bob.device).index == 4
    assert membership.org_of(state) == org.context.org
    with pytest.raises(TrustchainError):
        state.device(DeviceId(bytes(16)))


def test_second_device_of_a_user() -> None:
    org = HonestOrg()
    bob = org.add_person(profile=STANDARD)
    laptop = replace(org.new_person(), user=bob.user)
    org.append(org.device_of(laptop), bob.device, bob.key)
    assert org.state.device(laptop.device).device.user == bob.user


def test_root_key_signs_nothing_after_the_first_device() -> None:
    org = HonestOrg()
    root = Person(user=org.alice.user, device=ROOT_DEVICE, key=org.root_key)
    eve = org.new_person()
    refuse(org, org.user_of(eve, profile=ADMIN), root, TrustchainError)
    refuse(org, org.device_of(replace(eve, user=org.alice.user)), root, TrustchainError)
    refuse(org, RealmRegistered(realm=RealmId(bytes(32)), creation=NO_HASH), root, TrustchainError)


def test_only_administrators_add_people() -> None:
    org = HonestOrg()
    bob, eve = org.add_person(profile=STANDARD), org.new_person()
    refuse(org, org.user_of(eve, profile=STANDARD), bob, NotAllowedError)
    refuse(org, org.device_of(replace(eve, user=org.alice.user)), bob, NotAllowedError)


def test_devices_must_fit_their_user() -> None:
    org = HonestOrg()
    alice, eve = org.alice, org.new_person()
    device = org.device_of(replace(eve, user=alice.user))
    refuse(org, org.device_of(eve), alice, TrustchainError)
    refuse(org, replace(device, generation=2), alice, TrustchainError)
    refuse(org, replace(device, device=ROOT_DEVICE), alice, TrustchainError)
    refuse(org, replace(device, sign_key=bytes(32)), alice, DataError)


def test_known_device_is_never_replaced() -> None:
    org = HonestOrg()
    again = replace(org.device_of(org.alice), label=b"other")
    value = org.state.map.get(map_key(b"device", org.alice.device)) or NO_HASH
    refuse(org, again, org.alice, ReplacedError)
    refuse(org, again, org.alice, TrustchainError, replaces=value)


def test_user_keeps_the_box_key() -> None:
    """An administrator who could exchange it would read every realm that is shared later."""
    org = HonestOrg()
    bob = org.add_person(profile=STANDARD)
    value = org.state.map.get(map_key(b"user", bob.user)) or NO_HASH
    promoted = org.user_of(bob, profile=ADMIN)
    stolen = replace(promoted, box_key=org.user_of(org.alice, profile=ADMIN).box_key)
    refuse(org, stolen, org.alice, TrustchainError, replaces=value)
    refuse(org, replace(promoted, generation=2), org.alice, TrustchainError, replaces=value)
    refuse(org, promoted, org.alice, ReplacedError)
    leaf = org.leaf(org.sign(promoted, org.alice.device, org.alice.key, replaces=value))
    assert membership.append(org.state, leaf).users[bob.user].profile == ADMIN


def test_an_administrator_always_remains() -> None:
    """Who takes a profile keeps theirs, and whoever lost it takes none."""
    org = HonestOrg()
    bob = org.add_person(profile=ADMIN)
    own = org.user_of(org.alice, profile=STANDARD)
    refuse(org, own, org.alice, NotAllowedError, replaces=org.user_value(org.alice))
    demoted = org.user_of(bob, profile=STANDARD)
    org.append(demoted, org.alice.device, org.alice.key, replaces=org.user_value(bob))
    refuse(org, own, bob, NotAllowedError, replaces=org.user_value(org.alice))
    promoted = org.user_of(bob, profile=ADMIN)
    refuse(org, promoted, bob, NotAllowedError, replaces=org.user_value(bob))
    assert org.state.profile_at(bob.user, org.state.position.size - 1) == ADMIN
    assert org.state.profile_at(bob.user, org.state.position.size) == STANDARD


def test_users_begin_at_generation_one_with_a_known_profile() -> None:
    org = HonestOrg()
    user = org.user_of(org.new_person(), profile=STANDARD)
    refuse(org, replace(user, generation=2), org.alice, TrustchainError)
    refuse(org, replace(user, profile=4), org.alice, TrustchainError)


def value_of(org: HonestOrg, kind: bytes, subject: bytes) -> Hash:
    return org.state.map.get(map_key(kind, subject)) or NO_HASH


def end_device(org: HonestOrg, person: Person, by: Person) -> None:
    value = value_of(org, b"device", person.device)
    org.append(DeviceRevoked(device=person.device), by.device, by.key, replaces=value)


def end_user(org: HonestOrg, person: Person, by: Person) -> None:
    value = value_of(org, b"user", person.user)
    org.append(UserRevoked(user=person.user), by.device, by.key, replaces=value)


def second_device(org: HonestOrg, person: Person) -> Person:
    laptop = replace(org.new_person(), user=person.user)
    org.append(org.device_of(laptop), person.device, person.key)
    return laptop


def test_user_revokes_a_stolen_device() -> None:
    org = HonestOrg()
    bob = org.add_person(profile=STANDARD)
    laptop = second_device(org, bob)
    end_device(org, laptop, bob)
    index = org.state.position.size - 1
    entry = org.state.device(laptop.device)
    assert entry.check_at(index) is entry
    with pytest.raises(RevokedError, match=f"leaf {index}"):
        entry.check_at(index + 1)
    assert [one.device for one in org.state.devices_of(bob.user)] == [bob.device]
    realm = RealmRegistered(realm=RealmId(b"r" * 32), creation=NO_HASH)
    refuse(org, realm, laptop, RevokedError)
    org.renew(bob)
    org.append(realm, bob.device, bob.key)


def test_administrator_revokes_a_person_with_all_devices() -> None:
    org = HonestOrg()
    bob = org.add_person(profile=STANDARD)
    laptop = second_device(org, bob)
    end_user(org, bob, org.alice)
    assert not org.state.is_member(bob.user)
    assert org.state.is_member(org.alice.user)
    assert org.state.devices_of(bob.user) == ()
    realm = RealmRegistered(realm=RealmId(b"r" * 32), creation=NO_HASH)
    for device in (bob, laptop):
        refuse(org, realm, device, RevokedError)
    value = value_of(org, b"user", bob.user)
    refuse(org, UserRevoked(user=bob.user), org.alice, RevokedError, replaces=value)
    back = org.user_of(bob, profile=STANDARD)
    refuse(org, back, org.alice, RevokedError, replaces=value)
    refuse(org, org.device_of(replace(org.new_person(), user=bob.user)), org.alice, RevokedError)


def test_who_may_not_revoke() -> None:
    org = HonestOrg()
    bob, carol = org.add_person(profile=STANDARD), org.add_person(profile=STANDARD)
    carols = DeviceRevoked(device=carol.device)
    refuse(org, carols, bob, NotAllowedError, replaces=value_of(org, b"device", carol.device))
    refuse(org, UserRevoked(user=carol.user), bob, NotAllowedError)
    unknown = DeviceRevoked(device=DeviceId(b"u" * 16))
    refuse(org, unknown, bob, NotAllowedError)
    refuse(org, unknown, org.alice, TrustchainError)
    refuse(org, UserRevoked(user=UserId(b"u" * 16)), org.alice, TrustchainError)
    root = Person(user=org.alice.user, device=ROOT_DEVICE, key=org.root_key)
    refuse(org, carols, root, TrustchainError)


def test_nobody_ends_themselves_so_an_administrator_remains() -> None:
    org = HonestOrg()
    alice, other = org.alice, org.add_person(profile=ADMIN)
    for one in (alice, other):
        value = value_of(org, b"user", one.user)
        refuse(org, UserRevoked(user=one.user), one, NotAllowedError, replaces=value)
        value = value_of(org, b"device", one.device)
        refuse(org, DeviceRevoked(device=one.device), one, NotAllowedError, replaces=value)
    end_user(org, alice, other)
    value = value_of(org, b"user", other.user)
    refuse(org, UserRevoked(user=other.user), alice, RevokedError, replaces=value)


def test_revocation_is_not_repeated_and_shows_in_the_map() -> None:
    org = HonestOrg()
    bob = org.add_person(profile=STANDARD)
    before = value_of(org, b"device", bob.device)
    refuse(org, DeviceRevoked(device=bob.device), org.alice, ReplacedError)
    end_device(org, bob, org.alice)
    after = value_of(org, b"device", bob.device)
    assert after == map_value(encode(DeviceRevoked(device=bob.device))) != before
    refuse(org, DeviceRevoked(device=bob.device), org.alice, RevokedError, replaces=after)
    refuse(org, org.device_of(bob), org.alice, TrustchainError, replaces=after)


def test_realm_is_registered_once() -> None:
    org = HonestOrg()
    bob = org.add_person(profile=STANDARD)
    realm = RealmRegistered(realm=RealmId(b"r" * 32), creation=Hash(b"c" * 32))
    org.append(realm, bob.device, bob.key)
    value = org.state.map.get(map_key(b"realm", realm.realm)) or NO_HASH
    hijacked = replace(realm, creation=Hash(b"d" * 32))
    refuse(org, hijacked, org.alice, ReplacedError)
    refuse(org, hijacked, org.alice, TrustchainError, replaces=value)
    named_like_the_org = replace(realm, realm=RealmId(bytes(org.context.org)))
    refuse(org, named_like_the_org, org.alice, TrustchainError)


def test_organization_is_founded_once() -> None:
    org = HonestOrg()
    value = org.state.map.get(map_key(b"org", org.context.org)) or NO_HASH
    taken_over = replace(org.state.genesis, root_key=org.alice.key.verify_key.raw)
    refuse(org, taken_over, org.alice, TrustchainError, replaces=value)


def test_certificates_of_realms_do_not_belong_here() -> None:
    org = HonestOrg()
    for content in (
        RealmCreated(realm=RealmId(bytes(32)), owner=org.alice.user),
        Role(user=org.alice.user, role=READER),
    ):
        refuse(org, content, org.alice, TrustchainError)


def test_records_follow_their_device() -> None:
    org = HonestOrg()
    person = org.new_person()
    user = org.user_of(person, profile=STANDARD)
    for wrong in (
        DeviceChain(sequence=1),
        DeviceChain(last=Hash(b"x" * 32)),
    ):
        header = header_for(
            org.context, org.alice.device, wrong, Draw(b"wrong"), seen_of(org.state)
        )
        body = sign_certificate(user, header=header, replaces=NO_HASH, key=org.alice.key)
        with pytest.raises(DeviceChainError):
            membership.append(org.state, org.leaf(body))
    future = replace(seen_of(org.state), size=99)
    header = header_for(org.context, org.alice.device, DeviceChain(), Draw(b"future"), future)
    body = sign_certificate(user, header=header, replaces=NO_HASH, key=org.alice.key)
    with pytest.raises(TrustchainError):
        membership.append(org.state, org.leaf(body))


def test_leaf_must_hold_a_certificate_of_this_log() -> None:
    org = HonestOrg()
    content = org.user_of(org.new_person(), profile=STANDARD)
    body = org.sign(content, org.alice.device, org.alice.key)
    size, root = org.state.position.size, org.state.map.root()
    with pytest.raises(TrustchainError):
        membership.append(org.state, next_leaf(size, root, COMMIT, body, size))
    other = HonestOrg(b"other")
    foreign = sign_certificate(
        content,
        header=header_for(
            other.context, org.alice.device, DeviceChain(), Draw(b"foreign"), unseen()
        ),
        replaces=NO_HASH,
        key=org.alice.key,
    )
    with pytest.raises(SignatureError):
        membership.append(org.state, org.leaf(foreign))
    with pytest.raises(OutdatedError):
        decode_content(99, b"")


def genesis_leaf(**changes: Any) -> Leaf:
    """A genesis that is wrong in one way; `content` and `header` change the records."""
    org = HonestOrg()
    key: SigningKey = changes.get("key", org.root_key)
    content: Content = replace(org.state.genesis, **changes.get("content", {}))
    first = replace(org.context, genesis=NO_HASH)
    header: DeviceHeader = replace(
        header_for(first, ROOT_DEVICE, DeviceChain(), Draw(b"genesis"), unseen()),
        **changes.get("header", {}),
    )
    if "instead" in changes:
        content = changes["instead"]
    replaces = changes.get("replaces", NO_HASH)
    body = sign_certificate(content, header=header, replaces=replaces, key=key)
    leaf = next_leaf(changes.get("index", 0), EMPTY_MAP, changes.get("kind", CERTIFICATE), body, 0)
    return replace(leaf, header=replace(leaf.header, **changes.get("leaf", {})))


def test_genesis_founds() -> None:
    leaf = genesis_leaf()
    assert membership.found(leaf).position.size == 1
    assert isinstance(membership.found(leaf).genesis, Genesis)
    with pytest.raises(TrustchainError):
        membership.found(leaf, expected_genesis=Hash(bytes(32)))


OTHER = replace(HonestOrg().context, genesis=NO_HASH, log=LogId(bytes(32)))


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"index": 1}, ProofError),
        ({"kind": COMMIT}, TrustchainError),
        ({"leaf": {"body": body_hash(b"x")}}, ProofError),
        ({"leaf": {"map_root": NO_HASH}}, ProofError),
        ({"leaf": {"time_ms": 0}}, TrustchainError),
        ({"key": SigningKey(bytes(32))}, SignatureError),
        ({"header": {"context": OTHER}}, TrustchainError),
        ({"content": {"org": OrgId(bytes(32))}}, TrustchainError),
        ({"header": {"context": HonestOrg().context}}, TrustchainError),
        ({"replaces": Hash(b"x" * 32)}, TrustchainError),
        ({"header": {"device": DeviceId(b"x" * 16)}}, TrustchainError),
        ({"header": {"sequence": 1}}, TrustchainError),
        ({"header": {"previous": Hash(b"x" * 32)}}, TrustchainError),
        ({"content": {"suite": 2}}, TrustchainError),
        ({"content": {"root_key": bytes(32)}}, DataError),
        ({"content": {"head_key": bytes(32)}}, DataError),
        ({"instead": RealmRegistered(realm=RealmId(bytes(32)), creation=NO_HASH)}, DataError),
    ],
)
def test_wrong_genesis_is_refused(changes: dict[str, Any], error: type) -> None:
    with pytest.raises(error) as caught:
        membership.found(genesis_leaf(**changes))
    assert type(caught.value) is error


def test_a_role_is_registered_once_by_a_member() -> None:
    """Its hash names the workspace to nobody who does not see that log (rule 9)."""
    org = HonestOrg()
    role = Hash(b"h" * 32)
    content = RoleRegistered(certificate=role)
    root = Person(user=org.alice.user, device=ROOT_DEVICE, key=org.root_key)
    refuse(org, content, root, TrustchainError)
    size = org.state.position.size
    org.append(content, org.alice.device, org.alice.key)
    assert not org.state.is_registered_at(role, size)
    assert org.state.is_registered_at(role, size + 1)
    value = org.state.map.get(map_key(b"role", role))
    assert value == map_value(encode(content))
    refuse(org, content, org.alice, ReplacedError)
    refuse(org, content, org.alice, TrustchainError, replaces=value)

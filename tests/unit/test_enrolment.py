"""Builders against the verifiers: what a device signs is what every replica accepts."""

from dataclasses import replace

import pytest

from parsec_fs.enrolment import (
    add_device,
    create_realm,
    device_content,
    open_realm_name,
    open_user_key,
)
from parsec_fs.identity import Author, DeviceSecrets, Identity, label, new_secrets
from parsec_fs.protocol.certificates import ADMIN, OWNER, Device, Rotation, peek_certificate
from parsec_fs.protocol.codec import decode, encode
from parsec_fs.protocol.commands import BoxAnswer, CreateRealm
from parsec_fs.protocol.errors import (
    DecryptionError,
    InputError,
    ProofError,
    TrustchainError,
)
from parsec_fs.protocol.membership import OrgState, append, realm_context
from parsec_fs.protocol.realm_state import RealmState, verify_leaf
from parsec_fs.workspace.key_boxes import open_realm_key
from tests.support.identities import (
    CountingRandom,
    certificate_leaf,
    founded,
    replay_org,
    seen_of,
)


@pytest.fixture
def random() -> CountingRandom:
    return CountingRandom()


@pytest.fixture
def organization(random: CountingRandom) -> tuple[OrgState, Identity]:
    request, identity = founded(random)
    bodies = [request.genesis, request.user, request.device]
    return replay_org(bodies, expected_genesis=identity.anchor.genesis), identity


def author(identity: Identity, random: CountingRandom) -> Author:
    return Author(secrets=identity.secrets, incarnation=random(16), random=random)


def test_founded_organization_replays(organization: tuple[OrgState, Identity]) -> None:
    state, identity = organization
    entry = state.device(identity.secrets.device)
    assert entry.key == identity.secrets.signing_key().verify_key
    assert state.users[identity.secrets.user].profile == ADMIN
    assert state.context == identity.anchor.context()
    assert state.genesis.root_key == identity.anchor.root_key


def test_founding_hides_its_token() -> None:
    request, _ = founded()
    marked = replace(request, token=b"secret--" * 4)
    assert b"secret--" in encode(marked)
    assert "secret--" not in repr(marked)
    assert "token" not in repr(marked)


def test_another_genesis_is_refused(random: CountingRandom) -> None:
    request, identity = founded(random)
    other, _ = founded(random)
    with pytest.raises(TrustchainError):
        replay_org(
            [other.genesis, request.user, request.device],
            expected_genesis=identity.anchor.genesis,
        )


def created(
    organization: tuple[OrgState, Identity], random: CountingRandom
) -> tuple[CreateRealm, RealmState, OrgState]:
    """Both logs after the realm's creation, replayed leaf by leaf."""
    org, identity = organization
    request, _ = create_realm(
        name="research", org=org, seen=seen_of(org), author=author(identity, random)
    )
    size = org.position.size
    registered = certificate_leaf(
        request.registered, index=size, map_root=org.map.root(), org_size=size
    )
    org = append(org, registered)
    realm = RealmState(context=realm_context(org, request.realm))
    for index, body in enumerate([request.created, request.rotation]):
        leaf = certificate_leaf(
            body, index=index, map_root=realm.map.root(), org_size=org.position.size
        )
        realm = verify_leaf(realm, leaf, org=org, objects=lambda _: None).state
    return request, realm, org


def rotation_of(request: CreateRealm) -> Rotation:
    return decode(Rotation, peek_certificate(request.rotation).content)


def box_answer(request: CreateRealm) -> BoxAnswer:
    return BoxAnswer(box=request.boxes[0], position=0, count=1, proof=())


def test_created_realm_replays_and_opens(
    organization: tuple[OrgState, Identity], random: CountingRandom
) -> None:
    request, realm, org = created(organization, random)
    secrets = organization[1].secrets
    assert realm.role(secrets.user) == OWNER
    assert org.realms[request.realm]
    key = open_realm_key(
        box_answer(request), rotation_of(request), realm=request.realm, secrets=secrets
    )
    name = open_realm_name(rotation_of(request), key, realm=request.realm, secrets=secrets)
    assert name == b"research"


def test_key_box_of_another_rotation_is_refused(
    organization: tuple[OrgState, Identity], random: CountingRandom
) -> None:
    one, *_ = created(organization, random)
    other, *_ = created(organization, random)
    secrets = organization[1].secrets
    with pytest.raises(ProofError):
        open_realm_key(box_answer(other), rotation_of(one), realm=one.realm, secrets=secrets)


def test_realm_key_must_be_the_committed_one(
    organization: tuple[OrgState, Identity], random: CountingRandom
) -> None:
    request, *_ = created(organization, random)
    lie = replace(rotation_of(request), commitment=peek_certificate(request.created).replaces)
    with pytest.raises(DecryptionError, match="commits"):
        open_realm_key(
            box_answer(request), lie, realm=request.realm, secrets=organization[1].secrets
        )


def second_device(secrets: DeviceSecrets, random: CountingRandom) -> tuple[Device, DeviceSecrets]:
    own = new_secrets(org=secrets.org, user=secrets.user, user_keys=(), random=random)
    return device_content(own, b"desktop"), own


def test_added_device_replays_and_receives_the_user_key(
    organization: tuple[OrgState, Identity], random: CountingRandom
) -> None:
    org, identity = organization
    device, own = second_device(identity.secrets, random)
    user_key = identity.secrets.newest_user_key()
    body = add_device(
        device, org=org, seen=seen_of(org), author=author(identity, random), user_key=user_key
    )
    size = org.position.size
    org = append(org, certificate_leaf(body, index=size, map_root=org.map.root(), org_size=size))
    certified = org.device(own.device).device
    opened = open_user_key(certified, secrets_box=own.box_key(), org=own.org)
    assert opened == user_key
    with pytest.raises(DecryptionError, match="yet"):
        own.newest_user_key()


def test_user_key_does_not_open_on_another_device(
    organization: tuple[OrgState, Identity], random: CountingRandom
) -> None:
    org, identity = organization
    device, own = second_device(identity.secrets, random)
    body = add_device(
        device,
        org=org,
        seen=seen_of(org),
        author=author(identity, random),
        user_key=identity.secrets.newest_user_key(),
    )
    certified = decode(Device, peek_certificate(body).content)
    moved = replace(certified, device=identity.secrets.device)
    with pytest.raises(DecryptionError):
        open_user_key(moved, secrets_box=own.box_key(), org=own.org)


def test_identity_survives_its_encoding(organization: tuple[OrgState, Identity]) -> None:
    identity = organization[1]
    assert decode(Identity, encode(identity)) == identity


def test_secrets_are_not_shown(random: CountingRandom) -> None:
    _, identity = founded(random)
    shown = repr(identity)
    secrets = identity.secrets
    hidden = (secrets.sign_seed, secrets.box_seed, secrets.local_key, secrets.user_keys[0].seed)
    for secret in hidden:
        assert repr(secret) not in shown
        assert secret.hex() not in shown


@pytest.mark.parametrize("text", ["", "   ", "x" * 256])
def test_names_have_bounds(text: str) -> None:
    with pytest.raises(InputError):
        label(text)

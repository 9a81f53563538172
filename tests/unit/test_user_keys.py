"""Which generations of a user's key a device holds, from the verified log alone.

Data flow: an org log with generations, honest and spoilt -> `hold_user_keys` -> seeds, or none.
"""

from collections.abc import Callable
from dataclasses import replace

import pytest

from parsec_fs.enrolment import add_device, device_content
from parsec_fs.identity import Author, DeviceSecrets, Identity, new_secrets
from parsec_fs.protocol.certificates import UserKey, peek_certificate, sign_certificate
from parsec_fs.protocol.codec import decode, encode
from parsec_fs.protocol.errors import DataError, DecryptionError
from parsec_fs.protocol.membership import OrgState, append
from parsec_fs.protocol.sealing import (
    BOX_PUBLIC_SIZE,
    BoxKey,
    check_box_public,
    previous_user_key_info,
    seal_box,
    user_key_box_info,
)
from parsec_fs.user_keys import hold_user_keys, make_user_key, newest_user_key
from tests.support.identities import (
    CountingRandom,
    certificate_leaf,
    founded,
    replay_org,
    seen_of,
)
from tests.support.reference_boxes import open_box

Lie = Callable[[UserKey], UserKey]
LOST = b"\x00" * 1232


class World:
    """An organization of alice, whose devices come and renew her key."""

    def __init__(self) -> None:
        self.random = CountingRandom()
        request, identity = founded(self.random)
        bodies = [request.genesis, request.user, request.device]
        self.org: OrgState = replay_org(bodies, expected_genesis=identity.anchor.genesis)
        self.first: Identity = identity

    def author(self, secrets: DeviceSecrets) -> Author:
        return Author(secrets=secrets, incarnation=self.random(16), random=self.random)

    def append(self, body: bytes) -> None:
        size = self.org.position.size
        leaf = certificate_leaf(body, index=size, map_root=self.org.map.root(), org_size=size)
        self.org = append(self.org, leaf)

    def add(self, by: DeviceSecrets) -> DeviceSecrets:
        """A new device, which holds nothing but its own keys."""
        own = new_secrets(org=by.org, user=by.user, user_keys=(), random=self.random)
        device = device_content(own, b"desktop")
        key = newest_user_key(self.org, by)
        seen = seen_of(self.org)
        self.append(
            add_device(device, org=self.org, seen=seen, author=self.author(by), user_key=key)
        )
        return own

    def made(self, by: DeviceSecrets) -> bytes:
        return make_user_key(org=self.org, seen=seen_of(self.org), author=self.author(by))

    def renew(self, by: DeviceSecrets, lie: Lie = lambda content: content) -> None:
        """The next generation; `lie` changes it before it is signed."""
        certificate = peek_certificate(self.made(by))
        self.append(
            sign_certificate(
                lie(decode(UserKey, certificate.content)),
                header=certificate.header,
                replaces=certificate.replaces,
                key=by.signing_key(),
            )
        )

    def content(self, by: DeviceSecrets) -> UserKey:
        return decode(UserKey, peek_certificate(self.made(by)).content)

    def held(self, secrets: DeviceSecrets) -> list[int]:
        return [one.generation for one in hold_user_keys(self.org, secrets).user_keys]


@pytest.fixture
def world() -> World:
    return World()


def test_every_device_holds_every_generation(world: World) -> None:
    one = world.first.secrets
    two = world.add(one)
    world.renew(one)
    three = world.add(two)
    world.renew(three)
    for device in (one, two, three):
        assert world.held(device) == [1, 2, 3]
    keys = hold_user_keys(world.org, one).user_keys
    assert keys == hold_user_keys(world.org, three).user_keys
    assert newest_user_key(world.org, two) == keys[-1]
    known = world.org.generations[one.user]
    assert [BoxKey(key.seed).public for key in keys] == [step.box_key for step in known]
    assert world.org.users[one.user].box_key == known[-1].box_key


def test_boxes_open_by_the_reference(world: World) -> None:
    """By hand, with the info strings of docs/protocol.md, section 7."""
    one = world.first.secrets
    two = world.add(one)
    content, user = world.content(one), bytes(one.user)
    place = bytes(one.org) + user + b"\0\0\0\2"
    box = next(box.box for box in content.boxes if box.device == two.device)
    seed = open_box(two.box_seed, box, b"parsec-fs/1/user-key-box\0" + place + bytes(two.device))
    assert BoxKey(seed).public == content.box_key
    older = open_box(seed, content.previous, b"parsec-fs/1/previous-user-key\0" + place)
    assert older == one.user_keys[0].seed


def spoilt(victim: DeviceSecrets, box: bytes = LOST) -> Lie:
    """The victim's box holds something else."""

    def lie(content: UserKey) -> UserKey:
        boxes = tuple(
            replace(one, box=box) if one.device == victim.device else one for one in content.boxes
        )
        return replace(content, boxes=boxes)

    return lie


def test_box_that_does_not_open_costs_one_generation(world: World) -> None:
    """A stolen device renews and leaves the others out: they see it and renew again."""
    thief = world.first.secrets
    victim = world.add(thief)
    world.renew(thief, spoilt(victim))
    assert world.held(victim) == [1]
    with pytest.raises(DecryptionError, match="rotate-user-key"):
        newest_user_key(world.org, victim)
    world.renew(victim)
    # Generation 2 is the thief's alone: the victim handed down the newest that it held, the first.
    assert world.held(victim) == [1, 3]
    assert world.held(thief) == [1, 2, 3]
    assert newest_user_key(world.org, victim) == newest_user_key(world.org, thief)
    assert world.held(world.add(victim)) == [1, 3]


def test_another_seed_than_the_logs_key_is_not_taken(world: World) -> None:
    """It opens, but nobody else's boxes would: the key in the log is the one that counts."""
    thief = world.first.secrets
    victim = world.add(thief)
    info = user_key_box_info(victim.org, victim.user, 2, victim.device)
    other = seal_box(world.random(96), recipient=victim.box_key().public, info=info)
    world.renew(thief, spoilt(victim, other))
    assert world.held(victim) == [1]


def test_box_of_an_earlier_generation_does_not_open_again(world: World) -> None:
    one = world.first.secrets
    two = world.add(one)
    world.renew(one)
    old = world.org.generations[one.user][1].boxes[two.device]
    world.renew(one, spoilt(two, old))
    assert world.held(one) == [1, 2, 3]
    assert world.held(two) == [1, 2]


def test_hidden_older_key_stops_only_those_who_come_later(world: World) -> None:
    one = world.first.secrets
    world.renew(one, lambda content: replace(content, previous=LOST))
    later = world.add(one)
    assert (world.held(one), world.held(later)) == ([1, 2], [2])
    world.renew(one)
    assert world.held(later) == [2, 3]


def test_handed_down_key_leads_in_no_circle(world: World) -> None:
    """`previous` holds the very key that opens it."""
    one = world.first.secrets
    seed = world.random(96)
    key = BoxKey(seed)
    info = previous_user_key_info(one.org, one.user, 2)
    own = seal_box(seed, recipient=one.box_key().public, info=_place(one))
    loop = seal_box(seed, recipient=key.public, info=info)

    def lie(content: UserKey) -> UserKey:
        return spoilt(one, own)(replace(content, box_key=key.public, previous=loop))

    world.renew(one, lie)
    assert world.held(one) == [1, 2]
    assert world.held(world.add(one)) == [2]


def _place(one: DeviceSecrets) -> bytes:
    return user_key_box_info(one.org, one.user, 2, one.device)


def test_device_without_a_valid_key_does_not_keep_others_from_renewing(world: World) -> None:
    one = world.first.secrets
    two = world.add(one)
    entry = world.org.devices[two.device]
    broken = replace(entry, device=replace(entry.device, box_key=b"\xff" * BOX_PUBLIC_SIZE))
    world.org = replace(world.org, devices={**world.org.devices, two.device: broken})
    world.renew(one)
    assert (world.held(one), world.held(two)) == ([1, 2], [1])


def test_a_device_that_holds_nothing_does_not_renew(world: World) -> None:
    one = world.first.secrets
    two = world.add(one)
    entry = world.org.devices[two.device]
    lost = replace(entry, device=replace(entry.device, user_key_box=LOST))
    world.org = replace(world.org, devices={**world.org.devices, two.device: lost})
    with pytest.raises(DecryptionError):
        world.made(two)


def test_old_generations_survive_the_device_file(world: World) -> None:
    one = world.first.secrets
    world.renew(one)
    kept = replace(world.first, secrets=hold_user_keys(world.org, one))
    assert decode(Identity, encode(kept)) == kept


@pytest.mark.parametrize("place", [0, 1, 1150])
def test_public_box_keys_are_checked(place: int) -> None:
    good = BoxKey(bytes(96)).public
    assert check_box_public(good) == good
    bad = bytearray(good)
    bad[place : place + 2] = b"\xff\xff"
    with pytest.raises(DataError):
        check_box_public(bytes(bad))


@pytest.mark.parametrize(
    "point",
    [bytes(32), b"\x01" + bytes(31), b"\xec" + b"\xff" * 30 + b"\x7f", b"\xee" + b"\xff" * 31],
)
def test_points_of_small_order_are_no_box_keys(point: bytes) -> None:
    with pytest.raises(DataError):
        check_box_public(BoxKey(bytes(96)).public[:1184] + point)
    with pytest.raises(DataError):
        check_box_public(point)

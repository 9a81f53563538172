"""A user's key is exchanged by somebody else, or in a way that shuts a device of the user out.

Data flow: HonestServer takes an unlawful `UserKey` -> AuditedDevice -> word, evidence.

| attack                               | state     | errno | exit | evidence | epochs | check      |
|--------------------------------------|-----------|-------|------|----------|--------|------------|
| an administrator renews a user's key | convicted | EROFS | 30   | P4       | 0      | `org_leaf` |
| a generation skipped                 | convicted | EROFS | 30   | P4       | 0      | `org_leaf` |
| an old generation appended again     | convicted | EROFS | 30   | P4       | 0      | `org_leaf` |
| a device left without its box        | convicted | EROFS | 30   | P4       | 0      | `org_leaf` |
| an administrator's key in a user     | convicted | EROFS | 30   | P4       | 0      | `org_leaf` |

The author signs properly; it is the server that must not take it. Without the check the next realm
key would be sealed to a key that is not the user's.
"""

from collections.abc import Callable
from dataclasses import replace

import pytest

from parsec_fs.audit.checks import ALL_CHECKS, Checks
from parsec_fs.audit.verdict import Kind
from parsec_fs.protocol.certificates import User, UserKey, decode_content, peek_certificate
from parsec_fs.protocol.codec import decode, encode_trusted
from parsec_fs.protocol.errors import DataError, VerificationError
from parsec_fs.protocol.hashing import map_key, map_value
from parsec_fs.protocol.membership import OrgState
from parsec_fs.protocol.records import Leaf
from parsec_fs.protocol.sealing import BoxKey
from parsec_fs.user_keys import make_user_key
from tests.attack.test_history_attacks import Scene, weak_scene
from tests.support.history import Member

pytestmark = pytest.mark.allows_log("audit: ")

THEIRS = BoxKey(bytes(96)).public


def next_key(scene: Scene, member: Member) -> UserKey:
    """What the member's device would honestly sign."""
    server = scene.server
    body = make_user_key(org=server.org, seen=server.seen(server.org_log.log), author=member.author)
    return decode(UserKey, peek_certificate(body).content)


def signed(scene: Scene, member: Member, content: UserKey | User) -> bytes:
    return scene.server.certificate(member, scene.server.org_log.log, content)


def by_administrator(scene: Scene) -> bytes:
    """Everything in it is right: the boxes, the generation; but not bob made it."""
    return signed(scene, scene.server.alice, replace(next_key(scene, scene.bob), box_key=THEIRS))


def skipped(scene: Scene) -> bytes:
    return signed(scene, scene.bob, replace(next_key(scene, scene.bob), generation=3))


def again(scene: Scene) -> bytes:
    """The second generation comes back after the third, whose key bob's lost device lacks."""
    content = next_key(scene, scene.bob)
    scene.server.append_org(signed(scene, scene.bob, content))
    scene.server.append_org(signed(scene, scene.bob, next_key(scene, scene.bob)))
    return signed(scene, scene.bob, content)


def left_out(scene: Scene) -> bytes:
    """A box for another device instead of bob's."""
    content = next_key(scene, scene.bob)
    (box,) = content.boxes
    other = replace(box, device=scene.server.alice.secrets.device)
    return signed(scene, scene.bob, replace(content, boxes=(other,)))


def in_user_record(scene: Scene) -> bytes:
    user = scene.server.org.users[scene.bob.secrets.user]
    return signed(scene, scene.server.alice, replace(user, generation=2, box_key=THEIRS))


ATTACKS = [by_administrator, skipped, again, left_out, in_user_record]


async def take(scene: Scene, body: bytes) -> None:
    scene.server.take_org(body, believe(scene.server.org, body))
    try:
        await scene.device.pull()
    except VerificationError as error:
        await scene.device.auditor.report(error)


def believe(state: OrgState, body: bytes) -> OrgState:
    """The organization with whatever key a certificate names."""
    certificate = peek_certificate(body)
    content = decode_content(certificate.kind, certificate.content)
    assert isinstance(content, User | UserKey)
    user = replace(
        state.users[content.user], generation=content.generation, box_key=content.box_key
    )
    entry = (map_key(b"user", user.user), map_value(encode_trusted(user)))
    return replace(state, users={**state.users, user.user: user}, map=state.map.set(*entry))


def credulous(self: Checks, state: OrgState, leaf: Leaf) -> OrgState:
    try:
        return ALL_CHECKS.org_leaf(state, leaf)
    except (DataError, VerificationError):
        return replace(believe(state, leaf.body), position=state.position.after(leaf))


@pytest.mark.parametrize("attack", ATTACKS)
async def test_exchanged_user_key(attack: Callable[[Scene], bytes]) -> None:
    scene = Scene(ALL_CHECKS)
    await scene.start()
    body = attack(scene)
    await take(scene, body)
    scene.convicted_of(Kind.INVALID_LEAF)


@pytest.mark.parametrize("attack", ATTACKS)
async def test_exchanged_user_key_without_the_check(attack: Callable[[Scene], bytes]) -> None:
    scene = await weak_scene(org_leaf=credulous)
    body = attack(scene)
    await take(scene, body)
    scene.chain.publish(scene.server.cut())
    await scene.device.audit()
    scene.in_peace()
    named = peek_certificate(body)
    content = decode_content(named.kind, named.content)
    assert isinstance(content, User | UserKey)
    user = scene.device.org.org_states[-1].users[scene.bob.secrets.user]
    assert user.box_key == content.box_key


async def test_honest_generations_leave_everybody_in_peace() -> None:
    scene = Scene(ALL_CHECKS)
    await scene.start()
    for member in (scene.bob, scene.server.alice, scene.bob):
        scene.server.append_org(signed(scene, member, next_key(scene, member)))
        scene.server.commit(scene.bob)
        await scene.device.pull()
        scene.chain.publish(scene.server.cut())
        await scene.device.audit()
    scene.in_peace()
    assert scene.device.org.org_states[-1].users[scene.bob.secrets.user].generation == 3

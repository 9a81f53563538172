"""The keys of a realm: the newest from the own box, the older ones by walking back.

Data flow: rotations, boxes -> RealmKeys with a store in memory -> keys, or what stays closed.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import pytest

from parsec_fs.identity import DeviceSecrets, UserKeySeed, new_secrets
from parsec_fs.protocol.certificates import KeyBox, Rotation
from parsec_fs.protocol.commands import BoxAnswer
from parsec_fs.protocol.errors import DecryptionError
from parsec_fs.protocol.hashing import realm_key_commitment
from parsec_fs.protocol.ids import Hash, OrgId, RealmId, UserId
from parsec_fs.protocol.merkle import tree_root
from parsec_fs.protocol.sealing import RealmKey, realm_key_box_info, realm_key_context, seal_box
from parsec_fs.workspace.realm_keys import RealmKeys, seal_previous_key

ORG, REALM = OrgId(b"o" * 32), RealmId(b"r" * 32)
FIRST, SECOND = RealmKey(1, b"1" * 32), RealmKey(2, b"2" * 32)


@dataclass(slots=True)
class Facts:
    """The part of a realm's store that keeps boxes."""

    kept: dict[str, bytes] = field(default_factory=dict)

    def fact(self, name: str) -> bytes | None:
        return self.kept.get(name)

    @asynccontextmanager
    async def writing(self) -> AsyncIterator["Writing"]:
        yield Writing(self.kept)


@dataclass(slots=True)
class Writing:
    kept: dict[str, bytes]

    def fact(self, name: str, value: bytes) -> None:
        self.kept[name] = value


@dataclass(slots=True)
class Boxes:
    """A server that has one box."""

    answer: BoxAnswer

    async def read_box(self, realm: RealmId, index: int, user: UserId) -> BoxAnswer:
        return self.answer


def rotation(key: RealmKey, secrets: DeviceSecrets, previous: bytes) -> tuple[Rotation, BoxAnswer]:
    """A rotation with the box of its only member."""
    info = realm_key_box_info(ORG, REALM, key.index, secrets.user, 1)
    sealed = seal_box(key.secret(), recipient=secrets.user_key(1).public, info=info)
    box = KeyBox(user=secrets.user, generation=1, box=sealed)
    made = Rotation(
        index=key.index,
        commitment=realm_key_commitment(key.secret(), realm_key_context(ORG, REALM, key.index)),
        previous=previous,
        boxes_root=tree_root([box.leaf()]),
        name=b"sealed name",
    )
    return made, BoxAnswer(box=box, position=0, count=1, proof=())


@pytest.fixture
def secrets() -> DeviceSecrets:
    seed = UserKeySeed(generation=1, seed=os.urandom(96))
    return new_secrets(org=ORG, user=UserId(b"u" * 16), user_keys=(seed,), random=os.urandom)


async def test_older_keys_come_with_the_newest(secrets: DeviceSecrets) -> None:
    first, _ = rotation(FIRST, secrets, b"")
    previous = seal_previous_key(FIRST, SECOND, org=ORG, realm=REALM, salt=bytes(32))
    second, answer = rotation(SECOND, secrets, previous)
    facts = Facts()
    keys = RealmKeys(facts, REALM, secrets)  # type: ignore[arg-type]
    await keys.ensure((first, second), Boxes(answer))  # type: ignore[arg-type]
    assert keys.newest().index == 2
    again = RealmKeys(facts, REALM, secrets)  # type: ignore[arg-type]
    again.open_stored((first, second))
    assert (again.key(1).secret(), again.key(2).secret()) == (b"1" * 32, b"2" * 32)


@pytest.mark.parametrize("lie", ["rubbish", "too short", "another key"])
@pytest.mark.expects_log("rotation 2 hides the key before it")
async def test_who_hides_the_key_before_shuts_nobody_out(secrets: DeviceSecrets, lie: str) -> None:
    """Any contributor may rotate: what later members cannot open is older, never the workspace, and
    the box is kept, so that it is the same after a restart."""
    other = seal_previous_key(RealmKey(1, b"x" * 32), SECOND, org=ORG, realm=REALM, salt=bytes(32))
    previous = {"rubbish": b"x" * 92, "too short": b"x", "another key": other}[lie]
    first, _ = rotation(FIRST, secrets, b"")
    second, answer = rotation(SECOND, secrets, previous)
    facts = Facts()
    keys = RealmKeys(facts, REALM, secrets)  # type: ignore[arg-type]
    await keys.ensure((first, second), Boxes(answer))  # type: ignore[arg-type]
    again = RealmKeys(facts, REALM, secrets)  # type: ignore[arg-type]
    again.open_stored((first, second))
    for one in (keys, again):
        assert one.newest().secret() == SECOND.secret()
        with pytest.raises(DecryptionError):
            one.key(1)


async def test_a_box_with_another_key_is_refused(secrets: DeviceSecrets) -> None:
    """A15: all members hold the committed key, or the difference shows at once."""
    first, answer = rotation(FIRST, secrets, b"")
    keys = RealmKeys(Facts(), REALM, secrets)  # type: ignore[arg-type]
    false = replace(first, commitment=Hash(b"c" * 32))
    with pytest.raises(DecryptionError):
        await keys.ensure((false,), Boxes(answer))  # type: ignore[arg-type]

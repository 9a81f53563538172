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
from parsec_fs.protocol.errors import DecryptionError, ProofError, RefusedError
from parsec_fs.protocol.hashing import realm_key_commitment
from parsec_fs.protocol.ids import Hash, OrgId, RealmId, UserId
from parsec_fs.protocol.merkle import tree_root
from parsec_fs.protocol.sealing import (
    BOX_SIZE,
    RealmKey,
    realm_key_box_info,
    realm_key_context,
    seal_box,
)
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
    """A server that has the boxes of some rotations."""

    answers: dict[int, BoxAnswer]

    async def read_box(self, realm: RealmId, index: int, user: UserId) -> BoxAnswer:
        if index not in self.answers:
            raise RefusedError("NOT_FOUND")
        return self.answers[index]


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
    await keys.ensure((first, second), Boxes({2: answer}))  # type: ignore[arg-type]
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
    await keys.ensure((first, second), Boxes({2: answer}))  # type: ignore[arg-type]
    again = RealmKeys(facts, REALM, secrets)  # type: ignore[arg-type]
    again.open_stored((first, second))
    for one in (keys, again):
        assert one.newest().secret() == SECOND.secret()
        with pytest.raises(DecryptionError):
            one.key(1)


@pytest.mark.expects_log("the key of rotation 2 is missing")
@pytest.mark.parametrize("lie", ["another key", "rubbish"])
async def test_a_spoilt_box_costs_its_own_key(secrets: DeviceSecrets, lie: str) -> None:
    """A15: all members hold the committed key, or the difference shows at once, and stops nobody;
    after a restart it is the same, and the next key hands down the one before the gap."""
    first, answer = rotation(FIRST, secrets, b"")
    second, spoilt = rotation(SECOND, secrets, b"x" * 92)
    if lie == "another key":
        second = replace(second, commitment=Hash(b"c" * 32))
    else:
        box = replace(spoilt.box, box=b"x" * BOX_SIZE)
        spoilt = replace(spoilt, box=box)
        second = replace(second, boxes_root=tree_root([box.leaf()]))
    third_key = RealmKey(3, b"3" * 32)
    previous = seal_previous_key(FIRST, third_key, org=ORG, realm=REALM, salt=bytes(32))
    third, newest = rotation(third_key, secrets, previous)
    facts, server = Facts(), Boxes({1: answer, 2: spoilt, 3: newest})
    keys = RealmKeys(facts, REALM, secrets)  # type: ignore[arg-type]
    await keys.ensure((first, second), server)  # type: ignore[arg-type]
    assert (keys.newest().index, keys.holds(1), keys.holds(2)) == (1, True, False)
    again = RealmKeys(facts, REALM, secrets)  # type: ignore[arg-type]
    again.open_stored((first, second))
    assert (again.newest().index, again.holds(2)) == (1, False)
    late = RealmKeys(Facts(), REALM, secrets)  # type: ignore[arg-type]
    await late.ensure((first, second, third), Boxes({2: spoilt, 3: newest}))  # type: ignore[arg-type]
    assert [late.holds(index) for index in (1, 2, 3)] == [True, False, True]


async def test_a_box_that_is_not_in_the_rotation_is_the_fault_of_the_server(
    secrets: DeviceSecrets,
) -> None:
    first, answer = rotation(FIRST, secrets, b"")
    other = replace(answer, box=replace(answer.box, box=b"x" * BOX_SIZE))
    keys = RealmKeys(Facts(), REALM, secrets)  # type: ignore[arg-type]
    with pytest.raises(ProofError):
        await keys.ensure((first,), Boxes({1: other}))  # type: ignore[arg-type]

"""Keys that somebody else chose: the server's own, others for some members, many to learn from.

Data flow: lying line, dishonest owner, copied device -> real devices -> refused or harmless;
believed without the one check.

| attack                                      | must end as                | check       |
|---------------------------------------------|----------------------------|-------------|
| the server hands out a key of its own (A01) | refused, nothing is sent   | `realm_key` |
| a thousand false boxes to learn from (A13)  | one answer to all of them  | `realm_key` |
| an owner seals another key to one (A15)     | nothing is sealed under it | `realm_key` |
| a copied device seals again (A12)           | other keys for other bytes | random salt |
"""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from parsec_fs.identity import DeviceSecrets, Identity
from parsec_fs.protocol.certificates import CONTRIBUTOR, KeyBox, Rotation
from parsec_fs.protocol.codec import encode
from parsec_fs.protocol.commands import Answer, BoxAnswer
from parsec_fs.protocol.errors import ParsecFSError, ProofError, StaleError
from parsec_fs.protocol.ids import ROOT_OBJECT, RealmId
from parsec_fs.protocol.sealing import (
    BOX_SIZE,
    ManifestContext,
    RealmKey,
    open_manifest,
    realm_key_box_info,
    seal_box,
)
from parsec_fs.workspace.opener import Opener
from parsec_fs.workspace.replica_checks import REPLICA_CHECKS, ReplicaChecks
from tests.support.identities import CountingRandom
from tests.support.laptops import (
    Laptop,
    Place,
    alone,
    found,
    give_role,
    laptop,
    place_of,
    second_user,
)
from tests.support.members import spoil, two_users, user
from tests.support.server import in_process

PLAN = b"the plan of the year"


class AnyBox(ReplicaChecks):
    """The check left out."""

    def realm_key(
        self, unverified: BoxAnswer, rotation: Rotation, *, realm: RealmId, secrets: DeviceSecrets
    ) -> RealmKey:
        """Whatever is in a box that opens."""
        box = unverified.box
        info = realm_key_box_info(secrets.org, realm, rotation.index, box.user, box.generation)
        return RealmKey(rotation.index, secrets.user_key(box.generation).open(box.box, info=info))


def false_box(key: RealmKey, reader: Identity, realm: RealmId) -> BoxAnswer:
    """What anybody can make who knows the member's public key, which stands in the log."""
    secrets = reader.secrets
    info = realm_key_box_info(secrets.org, realm, key.index, secrets.user, 1)
    sealed = seal_box(key.secret(), recipient=secrets.user_key(1).public, info=info)
    box = KeyBox(user=secrets.user, generation=1, box=sealed)
    return BoxAnswer(box=box, position=0, count=1, proof=())


class LyingLine(httpx.AsyncBaseTransport):
    """Puts another box into the server's answers."""

    def __init__(self, inner: httpx.AsyncBaseTransport, box: BoxAnswer) -> None:
        self._inner = inner
        self._lie = encode(Answer(outcome=0, body=encode(box)))

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        answer = await self._inner.handle_async_request(request)
        if request.url.path != "/v1/realm/box":
            return answer
        await answer.aclose()
        return httpx.Response(200, stream=httpx.ByteStream(self._lie))


def lying(place: Place, box: BoxAnswer) -> Place:
    """A server that hands out this box."""
    return replace(place, line=lambda: LyingLine(place.line(), box))


@pytest.mark.expects_log("rotation 2 hides the key before it|the key of rotation 1 is missing")
async def test_a_key_of_the_servers_is_not_used(tmp_path: Path) -> None:
    """Bob is new in a workspace where nothing was written yet. What he writes first would be under
    the server's key, and lie open to it."""
    async with in_process(tmp_path / "server") as server:
        place = place_of(server)
        async with laptop(place, await found(place), tmp_path / "one") as alice:
            realm = await alice.create_realm()
            await alice.open(realm)
            bob = await second_user(alice)
            await give_role(alice, bob.secrets.user, CONTRIBUTOR)
        servers = RealmKey(2, os.urandom(32))
        crooked = lying(place, false_box(servers, bob, realm))
        async with laptop(crooked, bob, tmp_path / "bob") as victim:
            with pytest.raises(ProofError):
                await victim.open(realm)
            assert victim.wire.count("/v1/realm/commit") == 0

        async with laptop(crooked, bob, tmp_path / "weak") as weak:
            weak.checks = AnyBox()
            await weak.open(realm)
            weak.make("plan", PLAN)
            await weak.push()
            assert PLAN in read_as_the_server(weak, "plan", servers)


def read_as_the_server(victim: Laptop, path: str, key: RealmKey) -> bytes:
    """From what the server has of a file: its sealed manifest, and where it belongs."""
    secrets, store = victim.identity.secrets, victim.workspace.store
    row = store.object(victim.node(path).id)
    assert row is not None
    assert row.sealed is not None
    place = ManifestContext(
        org=secrets.org,
        realm=RealmId(store.log),
        object=row.id,
        version=row.state.version,
        author=row.author,
    )
    return open_manifest(row.sealed, key=key, expected_context=place)


def outcome(
    checks: ReplicaChecks, box: BoxAnswer, rotation: Rotation, realm: RealmId, reader: Identity
) -> str:
    """All that could be seen of how a box was met: which error, and in which words."""
    try:
        checks.realm_key(box, rotation, realm=realm, secrets=reader.secrets)
    except ParsecFSError as error:
        return repr(error)
    return "opened"


async def test_false_boxes_teach_nothing(tmp_path: Path) -> None:
    """Half of them rubbish, half sealed as they should be; both are met before anything is
    opened."""
    async with alone(tmp_path) as (_, alice, realm):
        rotation = alice.workspace.replica.state.rotations[0]
        place = (rotation, realm, alice.identity)
    sealed = false_box(RealmKey(1, os.urandom(32)), alice.identity, realm)
    boxes = [sealed] + [
        replace(sealed, box=replace(sealed.box, box=os.urandom(BOX_SIZE))) for _ in range(1_000)
    ]
    assert len({outcome(REPLICA_CHECKS, one, *place) for one in boxes}) == 1
    assert {outcome(AnyBox(), one, *place) for one in boxes[:20]} > {"opened"}


def another_key(reader: Identity, realm: RealmId, index: int) -> Callable[[KeyBox], KeyBox]:
    """A box that opens, with a key that nobody else has."""
    key = RealmKey(index, os.urandom(32))
    return lambda box: false_box(key, reader, realm).box


@pytest.mark.parametrize("checks", [REPLICA_CHECKS, AnyBox()], ids=["checked", "without"])
@pytest.mark.allows_log(
    "is missing|no key|another key|hides the key|object .* of device|commitment"
)
async def test_no_member_is_given_another_key(tmp_path: Path, checks: ReplicaChecks) -> None:
    """Without the check bob writes what nobody else can read, and reads nothing of theirs."""
    async with two_users(tmp_path) as (alice, bob):
        bob.checks = checks
        await bob.restart()
        realm = RealmId(bob.workspace.replica.log)
        await spoil(alice, user(bob), instead=another_key(bob.identity, realm, 3))
        await bob.pull()
        assert bob.workspace.keys.holds(3) is (checks is not REPLICA_CHECKS)
        bob.make("of bob", PLAN)
        if checks is REPLICA_CHECKS:
            with pytest.raises(StaleError, match="does not open here"):
                await bob.push()
            return
        await bob.push()
        await alice.pull()
        assert "of bob" not in await alice.walk()


def xor(one: bytes, other: bytes) -> bytes:
    """Byte by byte."""
    return bytes(a ^ b for a, b in zip(one, other, strict=True))


def one_stream(sealed: list[bytes], contents: list[bytes]) -> bool:
    """Do two ciphertexts differ exactly as their contents do? Then one key and nonce sealed both,
    and whoever guesses one content has the other."""
    return xor(*contents) in xor(*sealed)


async def test_a_copied_device_uses_no_key_twice(tmp_path: Path) -> None:
    """Restored from a backup, it seals the same version of the same file once more. There is no
    counter that could have gone back; only with its source of randomness restored too would it."""
    contents = [os.urandom(4000), os.urandom(4000)]
    async with alone(tmp_path) as (_, alice, realm):
        keys, secrets = alice.workspace.keys, alice.identity.secrets
        sealed = dict[str, list[bytes]](fresh=[], restored=[])
        for content in contents:
            for name, random in (("fresh", os.urandom), ("restored", CountingRandom())):
                opener = Opener(keys, realm, secrets, random=random)
                sealed[name].append(opener.seal(content, ROOT_OBJECT, 7))
    assert not one_stream(sealed["fresh"], contents)
    assert one_stream(sealed["restored"], contents)

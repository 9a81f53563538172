"""A server lies in the snapshot that it gives to a joining device (rule 34).

Data flow: real server -> `Liar` changes one answer, properly encoded -> verification refuses it.

Nothing of it is signed by the server, so nothing convicts: the device replays the log instead.
Without the check, which compares with the roots that an own device has signed, all of it is
believed.
"""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from parsec_fs.protocol.certificates import CONTRIBUTOR, MANAGER, NO_ROLE
from parsec_fs.protocol.codec import decode, encode
from parsec_fs.protocol.commands import Answer, Outcome
from parsec_fs.protocol.errors import ProofError, SignatureError, TrustchainError
from parsec_fs.protocol.hashing import object_record_hash, payload_hash
from parsec_fs.protocol.ids import RealmId
from parsec_fs.protocol.realm_state import RealmState
from parsec_fs.protocol.snapshots import (
    Snapshot,
    SnapshotItem,
    SnapshotPage,
    SnapshotStart,
    voucher_header,
)
from parsec_fs.workspace.replica_checks import REPLICA_CHECKS, ReplicaChecks
from tests.support.devices import RawDevice, new_object, new_org
from tests.support.server import InProcess, in_process
from tests.support.snapshot_reader import take

Change = Callable[[Any], Any]


class AnySnapshot(ReplicaChecks):
    """The check left out."""

    def snapshot(self, found: Snapshot) -> RealmState:
        """As if the voucher named the map to which this leads."""
        vouched = replace(found.seen, map_root=found.map.root())
        return replace(found, objects=found.count, seen=vouched).finish()


class Liar(httpx.AsyncBaseTransport):
    """Stands between a device and the server; changes the answers of one command."""

    def __init__(self, server: InProcess) -> None:
        self._inner = httpx.ASGITransport(app=server.server.app, raise_app_exceptions=True)
        self._lies: dict[str, tuple[type, Change]] = {}

    def lie(self, command: str, cls: type, change: Change) -> None:
        """From now on this command's answer is another."""
        self._lies = {f"/v1/{command}": (cls, change)}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Ask the server, answer as told."""
        response = await self._inner.handle_async_request(request)
        found = self._lies.get(request.url.path)
        if found is None:
            return response
        cls, change = found
        answer = decode(Answer, await response.aread())
        assert answer.outcome == Outcome.OK
        told = encode(change(decode(cls, answer.body)))
        return httpx.Response(200, stream=httpx.ByteStream(encode(replace(answer, body=told))))


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Alice has shared a realm with bob and mallory; her new device joins."""

    liar: Liar
    alice: RawDevice
    bob: RawDevice
    mallory: RawDevice
    realm: RealmId

    async def join(
        self, checks: ReplicaChecks = REPLICA_CHECKS
    ) -> tuple[RealmState, tuple[SnapshotItem, ...]]:
        """Ask for the word of alice's own device."""
        return await take(self.alice, self.realm, [self.alice.id], most=3, checks=checks)

    async def refused(self, reason: str) -> None:
        """The honest answer is believed, this one is not."""
        with pytest.raises(ProofError, match=reason):
            await self.join()


BOTH: list[ReplicaChecks] = [REPLICA_CHECKS, AnySnapshot()]
IDS = ["checked", "without"]


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    """Everybody has written: eight objects."""
    async with in_process(tmp_path) as server:
        liar = Liar(server)
        async with httpx.AsyncClient(transport=liar, base_url="http://server.test") as http:
            alice = await new_org(http, server.identity.registration)
            bob, mallory = await alice.add_user(http), await alice.add_user(http)
            realm = await alice.create_realm()
            for one in (bob, mallory):
                await alice.give(realm, one.secrets.user, CONTRIBUTOR)
            for one in (bob, mallory, alice):
                await one.pull(realm)
                await one.write(realm, *(new_object() for _ in range(3)))
            scene = Scene(liar=liar, alice=alice, bob=bob, mallory=mallory, realm=realm)
            await scene.join()
            yield scene


async def test_forged_content_is_refused(scene: Scene) -> None:
    """Another payload in the record, with and without a write hash that fits it."""

    def forge(page: SnapshotPage, *, consistent: bool) -> SnapshotPage:
        one = page.items[1]
        record = replace(one.record, payload=payload_hash(b"forged"))
        write = object_record_hash(one.commit, encode(record)) if consistent else one.state.write
        forged = replace(one, record=record, state=replace(one.state, write=write))
        return replace(page, items=(page.items[0], forged, *page.items[2:]))

    scene.liar.lie("realm/objects", SnapshotPage, lambda page: forge(page, consistent=False))
    await scene.refused("last write")
    scene.liar.lie("realm/objects", SnapshotPage, lambda page: forge(page, consistent=True))
    await scene.refused("map root")


async def test_hidden_object_is_refused(scene: Scene) -> None:
    """Left out of a page, which then is one short; and with fewer objects announced as well."""
    hidden = (await take(scene.alice, scene.realm, [scene.alice.id], most=9))[1][-1].object

    def hide(page: SnapshotPage) -> SnapshotPage:
        return replace(page, items=tuple(one for one in page.items if one.object != hidden))

    scene.liar.lie("realm/objects", SnapshotPage, hide)
    await scene.refused("not as many")
    scene.liar.lie(
        "realm/snapshot", SnapshotStart, lambda told: replace(told, objects=told.objects - 3)
    )
    await scene.refused("not as many")


@pytest.mark.parametrize("checks", BOTH, ids=IDS)
async def test_invented_role_is_refused(scene: Scene, checks: ReplicaChecks) -> None:
    """Mallory as a manager; bob without any role."""
    mallory, bob = scene.mallory.secrets.user, scene.bob.secrets.user

    def promote(told: SnapshotStart) -> SnapshotStart:
        roles = (replace(one, role=MANAGER) if one.user == mallory else one for one in told.roles)
        return replace(told, roles=tuple(roles))

    def drop(told: SnapshotStart) -> SnapshotStart:
        return replace(told, roles=tuple(one for one in told.roles if one.user != bob))

    for change, user, role in ((promote, mallory, MANAGER), (drop, bob, NO_ROLE)):
        scene.liar.lie("realm/snapshot", SnapshotStart, change)
        if checks is REPLICA_CHECKS:
            await scene.refused("map root")
        else:
            assert (await scene.join(checks))[0].role(user) == role


@pytest.mark.parametrize("checks", BOTH, ids=IDS)
async def test_old_objects_under_a_new_voucher_are_refused(
    scene: Scene, checks: ReplicaChecks
) -> None:
    """The server answers a page of an older size: rolled back content (the version before)."""
    target = sorted(scene.alice.realms[scene.realm].objects)[0]
    (old, *_) = (await scene.alice.server.read_snapshot_page(scene.realm, 7, (), 1)).items
    assert old.object == target
    await scene.alice.pull(scene.realm)
    await scene.alice.write(scene.realm, target)
    await scene.alice.write(scene.realm, new_object())
    await scene.join()

    def roll_back(page: SnapshotPage) -> SnapshotPage:
        return replace(
            page, items=tuple(old if one.object == target else one for one in page.items)
        )

    scene.liar.lie("realm/objects", SnapshotPage, roll_back)
    if checks is REPLICA_CHECKS:
        await scene.refused("map root")
        return
    state, items = await scene.join(checks)
    assert state.position.size > old.state.write_index + 1
    assert [one for one in items if one.object == target] == [old]


async def test_word_of_another_device_is_refused(scene: Scene) -> None:
    """A true snapshot, but mallory vouches for it; and alice's word under mallory's name."""
    told = await scene.alice.server.read_snapshot(scene.realm, (scene.mallory.id,))
    scene.liar.lie("realm/snapshot", SnapshotStart, lambda _: told)
    with pytest.raises(TrustchainError, match="not asked"):
        await scene.join()
    both = sorted((scene.alice.id, scene.mallory.id))
    await take(scene.alice, scene.realm, both, most=3)


async def test_word_that_was_changed_is_refused(scene: Scene) -> None:
    """One bit in the map root that alice has signed."""
    told = await scene.alice.server.read_snapshot(scene.realm, (scene.alice.id,))
    changed = bytearray(told.voucher)
    changed[told.voucher.index(voucher_header(told.voucher).seen.map_root)] ^= 1
    lie = replace(told, voucher=bytes(changed))
    scene.liar.lie("realm/snapshot", SnapshotStart, lambda _: lie)
    with pytest.raises(SignatureError):
        await scene.join()


async def test_word_for_another_realm_is_refused(scene: Scene) -> None:
    """Alice's own word, about another realm of hers."""
    other = await scene.alice.create_realm()
    await scene.alice.write(other, new_object())
    told = await scene.alice.server.read_snapshot(other, (scene.alice.id,))
    scene.liar.lie("realm/snapshot", SnapshotStart, lambda _: told)
    with pytest.raises(SignatureError):
        await scene.join()

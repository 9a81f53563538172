"""Every command of the server over HTTP, as devices use it.

Data flow: RawDevice -> ASGI -> real server over SQLite -> replayed and compared with signed heads.
"""

from collections.abc import AsyncIterator, Awaitable
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
import trio

from parsec_fs.enrolment import create_realm
from parsec_fs.identity import UNSEEN
from parsec_fs.protocol.block_batches import PutBlocks, SealedBlock
from parsec_fs.protocol.certificates import (
    AUDITOR,
    CONTRIBUTOR,
    NO_ROLE,
    OUTSIDER,
    READER,
    RealmRegistered,
)
from parsec_fs.protocol.codec import encode_trusted
from parsec_fs.protocol.commands import Outcome, PutMail, ReadMail
from parsec_fs.protocol.commits import DELETED, Precondition
from parsec_fs.protocol.errors import RefusedError
from parsec_fs.protocol.hashing import map_key, payload_hash, read_stamp, sha256
from parsec_fs.protocol.ids import ROOT_OBJECT, BlockId, Hash, LogId, RealmId
from parsec_fs.remote.blocks import BlockClient
from tests.support.block_batches import put_many
from tests.support.devices import PAYLOAD, RawDevice, founding, new_object, new_org
from tests.support.server import InProcess, in_process


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[InProcess]:
    async with in_process(tmp_path) as running:
        yield running


@pytest.fixture
async def http(server: InProcess) -> AsyncIterator[httpx.AsyncClient]:
    async with server.http() as client:
        yield client


@pytest.fixture
async def alice(http: httpx.AsyncClient, server: InProcess) -> RawDevice:
    return await new_org(http, server.identity.registration)


async def test_info_names_the_server(alice: RawDevice, server: InProcess) -> None:
    info = await alice.public.info()
    assert info.registration == server.identity.registration


async def test_commit_is_logged_and_replayed(alice: RawDevice) -> None:
    realm = await alice.create_realm()
    objects = [new_object() for _ in range(3)]
    report = await alice.write(realm, *objects)
    assert report.fates[0].index == 2
    assert set(alice.realms[realm].objects) == set(objects)
    (found,) = await alice.server.read_payloads(realm, (payload_hash(PAYLOAD),))
    assert found == PAYLOAD


def put(blocks: BlockClient, block: BlockId, sealed: bytes) -> Awaitable[None]:
    """A block with its own digest."""
    return blocks.put(block, sealed, digest=sha256(sealed))


async def refused(outcome: Outcome, call: object) -> None:
    """The call is answered with this outcome."""
    with pytest.raises(RefusedError) as error:
        await call  # type: ignore[misc]
    assert error.value.outcome == outcome.name


async def test_org_is_founded_once(
    http: httpx.AsyncClient, server: InProcess, alice: RawDevice
) -> None:
    request, anchor, secrets = founding(server.identity.registration)
    first = await alice.public.create_org(request)
    again = await alice.public.create_org(request)
    assert first.record != b"" != again.record
    other, _, _ = founding(server.identity.registration)
    mixed = replace(other, genesis=request.genesis)
    await refused(Outcome.INVALID, alice.public.create_org(mixed))
    assert (await RawDevice(http, anchor, secrets).pull_org()).size == 3


async def test_users_and_devices_enter_the_org_log(
    http: httpx.AsyncClient, alice: RawDevice
) -> None:
    bob = await alice.add_user(http)
    assert bob.org_state().position.size == 5
    await bob.pull_org()
    with pytest.raises(RefusedError, match="NOT_ALLOWED"):
        await bob.add_user(http)  # only administrators do


async def test_identical_certificate_gets_the_same_answer(alice: RawDevice) -> None:
    realm = await alice.create_realm()
    body, boxes = alice.rotation(realm)
    first = await alice.server.append_certificate(LogId(realm), body, boxes)
    again = await alice.server.append_certificate(LogId(realm), body, boxes)
    assert (first.head.size, first.head.log_root) == (again.head.size, again.head.log_root)


async def test_rotation_must_serve_every_member(http: httpx.AsyncClient, alice: RawDevice) -> None:
    bob = await alice.add_user(http)
    realm = await alice.create_realm()
    body, boxes = alice.rotation(realm)
    await alice.give(realm, bob.secrets.user, READER)
    lacking, lacking_boxes = alice.rotation(realm)
    await refused(Outcome.BAD_CHAIN, alice.server.append_certificate(LogId(realm), body, boxes))
    await refused(
        Outcome.INVALID,
        alice.server.append_certificate(LogId(realm), lacking, lacking_boxes[:1]),
    )
    await alice.server.append_certificate(LogId(realm), lacking, lacking_boxes)
    answer = await bob.server.read_box(realm, 2, bob.secrets.user)
    assert answer.box.user == bob.secrets.user
    assert (await bob.server.list_realms()) == (realm,)


async def test_outsiders_learn_nothing(http: httpx.AsyncClient, alice: RawDevice) -> None:
    """A54: a realm without a role for the caller answers as one that does not exist."""
    bob = await alice.add_user(http)
    realm, nowhere = await alice.create_realm(), RealmId(bytes(32))
    commit = alice.sign(realm, alice.record(realm, new_object()))
    for asked in (realm, nowhere):
        await refused(Outcome.NOT_ALLOWED, bob.server.read_leaves(LogId(asked), 0, 1))
        await refused(Outcome.NOT_ALLOWED, bob.server.read_payloads(asked, (Hash(bytes(32)),)))
        await refused(Outcome.NOT_ALLOWED, bob.server.observe(asked, read_stamp(b"x")))
        await refused(Outcome.NOT_ALLOWED, bob.server.read_box(asked, 1, bob.secrets.user))
        await refused(Outcome.NOT_ALLOWED, bob.server.read_epochs(0, 1, (LogId(asked),)))
        await refused(Outcome.NOT_ALLOWED, bob.server.append_certificate(LogId(asked), b"x"))
        await refused(
            Outcome.NOT_ALLOWED, bob.server.commit(asked, [(commit.body, commit.hash)], [PAYLOAD])
        )
        blocks = BlockClient(bob.signer, asked)
        await refused(Outcome.NOT_ALLOWED, blocks.get(BlockId(bytes(16))))
        await refused(Outcome.NOT_ALLOWED, put(blocks, BlockId(bytes(16)), b"x"))
        await refused(Outcome.NOT_ALLOWED, put_many(bob, asked, {BlockId(bytes(16)): b"x"}))
    assert await bob.server.list_realms() == ()


async def test_auditors_read_the_log_and_nothing_that_is_sealed(
    http: httpx.AsyncClient, alice: RawDevice
) -> None:
    """A key is made without them, and what they could not open anyhow is not given to them."""
    bob = await alice.add_user(http, profile=OUTSIDER)
    realm = await alice.create_realm()
    log, block = LogId(realm), BlockId(sha256(b"id")[:16])
    await alice.write(realm, new_object())
    await put(BlockClient(alice.signer, realm), block, b"sealed")
    await alice.give(realm, bob.secrets.user, AUDITOR)
    body, boxes = alice.rotation(realm)
    assert bob.secrets.user not in {one.user for one in boxes}
    await alice.server.append_certificate(log, body, boxes)
    head = await alice.pull(realm)

    assert (await bob.pull(realm)).map_root == head.map_root
    assert await bob.server.list_realms() == (realm,)
    assert (await bob.server.read_proof(log, 0, 1)).root
    assert (await bob.server.read_opening(log, map_key(b"key", b""))).value
    await bob.server.read_epochs(0, 1, (log,))
    for refusing in (
        bob.server.read_payloads(realm, (payload_hash(PAYLOAD),)),
        bob.server.read_box(realm, 2, bob.secrets.user),
        bob.server.read_box(realm, 2, alice.secrets.user),
        bob.server.read_snapshot(realm, (alice.id,)),
        bob.server.read_snapshot_page(realm, 1, (), 10),
        bob.server.observe(realm, read_stamp(b"x")),
        BlockClient(bob.signer, realm).get(block),
        put(BlockClient(bob.signer, realm), BlockId(bytes(16)), b"x"),
        put_many(bob, realm, {BlockId(bytes(16)): b"x"}),
    ):
        await refused(Outcome.NOT_ALLOWED, refusing)
    commit = bob.sign(realm, bob.record(realm, new_object()))
    refusal = (await bob.send(realm, commit)).fates[0].refusal
    assert refusal is not None
    assert refusal.outcome == Outcome.NOT_ALLOWED


async def test_readers_are_refused_for_ever(http: httpx.AsyncClient, alice: RawDevice) -> None:
    """Rule 15: a refusal is final. Becoming a contributor later does not revive the commit."""
    bob = await alice.add_user(http)
    realm = await alice.create_realm()
    await alice.give(realm, bob.secrets.user, READER)
    await bob.pull(realm)
    commit = bob.sign(realm, bob.record(realm, new_object()))
    first = (await bob.send(realm, commit)).fates[0]
    assert first.refusal is not None
    assert first.refusal.outcome == Outcome.NOT_ALLOWED
    await alice.give(realm, bob.secrets.user, CONTRIBUTOR)
    again = (await bob.send(realm, commit)).fates[0]
    assert again.raw == first.raw


async def test_conflicts_are_all_listed_and_repeated(alice: RawDevice) -> None:
    realm = await alice.create_realm()
    one, other, third = sorted(new_object() for _ in range(3))
    stale = [alice.record(realm, object_id) for object_id in (one, other, third)]
    chain = alice.realms[realm].chain
    await alice.write(realm, one, other)
    moved = alice.realms[realm].objects
    alice.realms[realm].chain = alice.realms[realm].state.chains[alice.id]
    assert chain != alice.realms[realm].chain
    commit = alice.sign(realm, *stale)
    later = alice.sign(realm, alice.record(realm, new_object()))
    last = alice.sign(realm, alice.record(realm, new_object()))
    report = await alice.send(realm, commit, later)
    refusals = [fate.refusal for fate in report.fates]
    assert refusals[0] is not None
    assert refusals[1] is not None
    assert refusals[0].outcome == Outcome.CONFLICT
    found = {conflict.object: conflict.state for conflict in refusals[0].conflicts}
    assert found == {one: (moved[one],), other: (moved[other],)}
    assert refusals[1].outcome == Outcome.AFTER_REFUSED
    # In a later request too, and with the very bytes.
    again = await alice.send(realm, commit, later, last)
    assert [fate.raw for fate in again.fates[:2]] == [fate.raw for fate in report.fates]
    assert again.fates[2].refusal is not None
    assert again.fates[2].refusal.outcome == Outcome.AFTER_REFUSED


async def test_rebased_commit_takes_the_place_of_a_refused_one(alice: RawDevice) -> None:
    realm = await alice.create_realm()
    target = new_object()
    stale = alice.record(realm, target)
    await alice.write(realm, target)
    known = alice.realms[realm]
    before = known.chain
    await alice.send(realm, alice.sign(realm, stale))
    known.chain = before
    report = await alice.write(realm, target)
    assert report.fates[0].index is not None
    assert known.objects[target].version == 2


async def test_preconditions_hold(alice: RawDevice) -> None:
    realm = await alice.create_realm()
    parent, child = new_object(), new_object()
    await alice.write(realm, parent)
    state = alice.realms[realm].objects[parent]
    old = Precondition(object=parent, version=state.version, write=state.write)
    await alice.write(realm, parent)
    commit = alice.sign(realm, alice.record(realm, child), preconditions=(old,))
    fate = (await alice.send(realm, commit)).fates[0]
    assert fate.refusal is not None
    assert [conflict.object for conflict in fate.refusal.conflicts] == [parent]


async def test_old_key_and_broken_chain_are_refused(alice: RawDevice) -> None:
    realm = await alice.create_realm()
    known = alice.realms[realm]
    before = known.chain
    stale = alice.sign(realm, alice.record(realm, new_object()), key_index=9)
    fate = (await alice.send(realm, stale)).fates[0]
    assert fate.refusal is not None
    assert fate.refusal.outcome == Outcome.STALE_KEY
    known.chain = before
    alice.sign(realm, alice.record(realm, new_object()))  # never sent
    skipping = alice.sign(realm, alice.record(realm, new_object()))
    fate = (await alice.send(realm, skipping)).fates[0]
    assert fate.refusal is not None
    assert fate.refusal.outcome == Outcome.BAD_CHAIN


async def test_repeated_batch_is_answered_alike(alice: RawDevice) -> None:
    realm = await alice.create_realm()
    commits = [alice.sign(realm, alice.record(realm, new_object())) for _ in range(5)]
    first = await alice.send(realm, *commits[:3])
    again = await alice.send(realm, *commits)
    assert [fate.index for fate in again.fates] == [2, 3, 4, 5, 6]
    assert [fate.index for fate in first.fates] == [2, 3, 4]
    assert (await alice.pull(realm)).size == 7


async def test_same_commit_twice_in_a_batch_is_one(alice: RawDevice) -> None:
    realm = await alice.create_realm()
    commit = alice.sign(realm, alice.record(realm, new_object()))
    report = await alice.send(realm, commit, commit)
    assert [fate.index for fate in report.fates] == [2, 2]
    stale = alice.sign(realm, alice.record(realm, new_object()), key_index=9)
    report = await alice.send(realm, stale, stale)
    assert report.fates[0].raw == report.fates[1].raw


async def test_missing_payload_settles_nothing(alice: RawDevice) -> None:
    realm = await alice.create_realm()
    commit = alice.sign(realm, alice.record(realm, new_object(), payload=b"other"), payloads=())
    await refused(Outcome.MISSING_PAYLOAD, alice.send(realm, commit))
    await refused(Outcome.NOT_FOUND, alice.server.read_payloads(realm, (payload_hash(b"other"),)))
    full = type(commit)(body=commit.body, hash=commit.hash, payloads=(b"other",))
    assert (await alice.send(realm, full)).fates[0].index == 2


async def test_foreign_and_forged_commits_are_malformed(
    http: httpx.AsyncClient, alice: RawDevice
) -> None:
    bob = await alice.add_user(http)
    realm, elsewhere = await alice.create_realm(), await alice.create_realm()
    await alice.give(realm, bob.secrets.user, CONTRIBUTOR)
    commit = alice.sign(realm, alice.record(realm, new_object()))
    await refused(Outcome.BAD_REQUEST, alice.send(elsewhere, commit))
    await refused(Outcome.BAD_REQUEST, bob.send(realm, commit))  # not the caller's own
    bent = commit.body[:-1] + bytes([commit.body[-1] ^ 1])
    await refused(Outcome.BAD_REQUEST, alice.server.commit(realm, [(bent, commit.hash)], [PAYLOAD]))


async def test_deletion_is_a_tombstone(alice: RawDevice) -> None:
    realm = await alice.create_realm()
    target = new_object()
    await alice.write(realm, target)
    gone = alice.sign(realm, alice.record(realm, target, delete=True), payloads=())
    assert (await alice.send(realm, gone)).fates[0].index == 3
    await alice.pull(realm)
    state = alice.realms[realm].objects[target]
    assert (state.version, state.flags) == (2, DELETED)
    for delete in (False, True):
        again = alice.sign(
            realm,
            alice.record(realm, target, delete=delete),
            payloads=() if delete else (PAYLOAD,),
        )
        refusal = (await alice.send(realm, again)).fates[0].refusal
        assert refusal is not None
        assert refusal.outcome == Outcome.INVALID
        await alice.pull(realm)
        assert alice.realms[realm].objects[target] == state


async def test_the_root_is_never_deleted(alice: RawDevice) -> None:
    realm = await alice.create_realm()
    await alice.write(realm, ROOT_OBJECT)
    gone = alice.sign(realm, alice.record(realm, ROOT_OBJECT, delete=True), payloads=())
    refusal = (await alice.send(realm, gone)).fates[0].refusal
    assert refusal is not None
    assert refusal.outcome == Outcome.INVALID


async def test_stamps_of_a_window_share_a_leaf(http: httpx.AsyncClient, alice: RawDevice) -> None:
    bob = await alice.add_user(http)
    realm = await alice.create_realm()
    await alice.give(realm, bob.secrets.user, READER)
    reports = []

    async def observe(device: RawDevice, secret: bytes) -> None:
        reports.append(await device.server.observe(realm, read_stamp(secret)))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(observe, alice, b"a")
        nursery.start_soon(observe, bob, b"b")
    assert reports[0].index == reports[1].index
    assert all(report.head.head.size == report.index + 1 for report in reports)
    await alice.pull(realm)


async def test_blocks_are_created_once(http: httpx.AsyncClient, alice: RawDevice) -> None:
    bob = await alice.add_user(http)
    realm = await alice.create_realm()
    await alice.give(realm, bob.secrets.user, READER)
    mine, reader = BlockClient(alice.signer, realm), BlockClient(bob.signer, realm)
    block = BlockId(sha256(b"id")[:16])
    await refused(Outcome.NOT_FOUND, reader.get(block))
    sealed = b"sealed" * 20_000  # large enough to be hashed in a thread
    false = mine.put(block, b"other" * 24_000, digest=sha256(sealed))
    await refused(Outcome.NOT_AUTHENTICATED, false)
    await put(mine, block, sealed)
    await put(mine, block, sealed)
    await refused(Outcome.EXISTS, put(mine, block, b"other"))
    await refused(Outcome.NOT_ALLOWED, put(reader, BlockId(bytes(16)), b"x"))
    await refused(Outcome.TOO_LARGE, put(mine, BlockId(bytes(16)), bytes(2**20 + 17)))
    await refused(Outcome.BAD_REQUEST, put(mine, BlockId(bytes(16)), b""))
    assert await reader.get(block) == sealed


async def test_blocks_of_a_request_are_each_for_itself(
    http: httpx.AsyncClient, alice: RawDevice
) -> None:
    bob = await alice.add_user(http)
    realm = await alice.create_realm()
    await alice.give(realm, bob.secrets.user, READER)
    mine = BlockClient(alice.signer, realm)
    known, false, *new = [BlockId(bytes((number,)) * 16) for number in range(9)]
    await put(mine, known, b"first")
    blocks = dict.fromkeys(new, b"sealed" * 4000) | {known: b"other", false: b"sealed"}
    found = await put_many(alice, realm, blocks, digests={false: sha256(b"unsealed")})
    assert found == ["EXISTS", "BAD_REQUEST"] + ["OK"] * 7
    assert await mine.get(known) == b"first"
    await refused(Outcome.NOT_FOUND, mine.get(false))
    for block in new:
        assert await mine.get(block) == b"sealed" * 4000
    again = await put_many(alice, realm, dict.fromkeys(new, b"sealed" * 4000))
    assert again == ["OK"] * 7
    await refused(Outcome.NOT_ALLOWED, put_many(bob, realm, {false: b"x"}))


async def test_a_request_of_blocks_is_bounded(alice: RawDevice) -> None:
    realm = await alice.create_realm()
    for count, size in ((0, 1), (65, 1), (1, 0), (1, 2**18 + 17), (17, 2**18)):
        blocks = {BlockId(bytes((number,)) * 16): bytes(size) for number in range(count)}
        outcome = Outcome.TOO_LARGE if count * size > 2**22 else Outcome.BAD_REQUEST
        await refused(outcome, put_many(alice, realm, blocks))


async def test_a_block_comes_once_in_a_request(alice: RawDevice) -> None:
    """Which of the two would count?"""
    realm, block = await alice.create_realm(), BlockId(bytes(16))
    two = tuple(
        SealedBlock(id=block, digest=sha256(data), sealed=data) for data in (b"one", b"other")
    )
    body = encode_trusted(PutBlocks(realm=realm, blocks=two))
    client = BlockClient(alice.signer, realm)
    await refused(Outcome.BAD_REQUEST, client.put_many(body, 2, digest=sha256(body)))


async def test_removed_members_are_outsiders(http: httpx.AsyncClient, alice: RawDevice) -> None:
    bob = await alice.add_user(http)
    realm = await alice.create_realm()
    await alice.give(realm, bob.secrets.user, CONTRIBUTOR)
    await bob.pull(realm)
    await alice.give(realm, bob.secrets.user, NO_ROLE)
    await refused(
        Outcome.NOT_ALLOWED, bob.send(realm, bob.sign(realm, bob.record(realm, new_object())))
    )
    assert await bob.server.list_realms() == ()


async def test_realm_is_created_once(http: httpx.AsyncClient, alice: RawDevice) -> None:
    await alice.pull_org()
    request, _ = create_realm(name="work", org=alice.org_state(), seen=UNSEEN, author=alice.author)
    first = await alice.server.create_realm(request)
    again = await alice.server.create_realm(request)
    assert first.head.log_root == again.head.log_root
    bob = await alice.add_user(http)
    await bob.pull_org()
    stolen, _ = create_realm(name="x", org=bob.org_state(), seen=UNSEEN, author=bob.author)
    body = bob.certificate(
        LogId(bob.anchor.org), RealmRegistered(realm=request.realm, creation=Hash(bytes(32)))
    )
    await refused(
        Outcome.EXISTS,
        bob.server.create_realm(replace(stolen, realm=request.realm, registered=body)),
    )
    # Alone in the org log it would be a realm without a log.
    await refused(
        Outcome.NOT_ALLOWED, alice.server.append_certificate(LogId(alice.anchor.org), body)
    )


async def test_mail_is_kept_once(alice: RawDevice) -> None:
    address = sha256(b"code")
    await refused(Outcome.NOT_FOUND, alice.public.read_mail(ReadMail(address=address, slot=1)))
    await alice.public.put_mail(PutMail(address=address, slot=1, data=b"hello"))
    await alice.public.put_mail(PutMail(address=address, slot=1, data=b"hello"))
    await refused(
        Outcome.EXISTS, alice.public.put_mail(PutMail(address=address, slot=1, data=b"other"))
    )
    assert await alice.public.read_mail(ReadMail(address=address, slot=1)) == b"hello"


async def test_history_survives_a_restart(tmp_path: Path) -> None:
    folder = tmp_path / "again"
    async with in_process(folder) as running, running.http() as http:
        alice = await new_org(http, running.identity.registration)
        realm = await alice.create_realm()
        await alice.write(realm, new_object(), new_object())
        stale = alice.sign(realm, alice.record(realm, new_object()), key_index=9)
        before = (await alice.send(realm, stale)).fates[0]
        head = await alice.pull(realm)
    async with in_process(folder) as running, running.http() as http:
        again = RawDevice(http, alice.anchor, alice.secrets)
        found = await again.pull(realm)
        assert (found.size, found.log_root, found.map_root) == (
            head.size,
            head.log_root,
            head.map_root,
        )
        assert found.time_ms >= head.time_ms
        assert (await again.send(realm, stale)).fates[0].raw == before.raw
        await again.write(realm, *again.realms[realm].objects)

"""Founding, creating workspaces and joining against the real server, with lies in between."""

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
import trio

from parsec_fs.audit.audit_store import DeviceAuditStore
from parsec_fs.audit.headers import trust_anchor
from parsec_fs.audit.ports import AuditRecord
from parsec_fs.audit.trusted_state import fresh_state
from parsec_fs.config import Home
from parsec_fs.connection import Connection, connect
from parsec_fs.device_file import DeviceFile
from parsec_fs.device_joining import Mailbox, certify, invite, join
from parsec_fs.directory import known_workspaces
from parsec_fs.discovery import create_workspace, find_workspaces
from parsec_fs.enrolment import found_org
from parsec_fs.identity import Identity
from parsec_fs.joining import (
    ADMISSION,
    INVITATION,
    REQUEST,
    Admission,
    Invitation,
    JoinCode,
    JoinRequest,
    format_code,
    invitation_digest,
    open_mail,
    parse_code,
)
from parsec_fs.key_renewal import renew_if_due, renew_user_key
from parsec_fs.protocol.certificates import DeviceRevoked
from parsec_fs.protocol.codec import encode
from parsec_fs.protocol.errors import (
    DecryptionError,
    InputError,
    RefusedError,
    TrustchainError,
    VerificationError,
)
from parsec_fs.protocol.hashing import sha256
from parsec_fs.protocol.ids import DeviceId, LogId
from parsec_fs.remote.server_client import PublicClient
from parsec_fs.remote.transport import Transport
from parsec_fs.revocation import revocation
from parsec_fs.user_keys import user_key_due
from tests.support.identities import chain_anchor
from tests.support.permits import token_for
from tests.support.server import BASE_URL, InProcess, in_process
from tests.support.waiting import until

Clients = Callable[[], httpx.AsyncClient]


class World:
    """A server with one organization, founded by the device at `home`."""

    def __init__(self, running: InProcess, folder: Path, identity: Identity) -> None:
        self.clients: Clients = running.http
        self.folder = folder
        self.identity = identity
        self.home = Home(root=folder / "laptop")

    @asynccontextmanager
    async def connected(self, identity: Identity, home: Home) -> AsyncIterator[Connection]:
        async with connect(home, identity, clients=self.clients) as connection:
            yield connection


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with in_process(tmp_path / "server") as running:
        request, identity = found_org(
            token=token_for(running.identity.registration),
            name="acme",
            user_name="alice",
            email="alice@acme.example",
            device_label="laptop",
            chain=chain_anchor(),
            server=running.identity.registration,
            server_url=BASE_URL,
            rpc_urls=("http://chain.test",),
            random=os.urandom,
        )
        async with running.http() as http:
            await PublicClient(Transport(http, BASE_URL)).create_org(request)
        world = World(running, tmp_path, identity)
        DeviceFile(world.home.device).create(identity, random=os.urandom)
        yield world


async def test_workspaces_are_found_by_name_also_offline(world: World) -> None:
    async with world.connected(world.identity, world.home) as connection:
        created = await create_workspace(connection, "research")
        await create_workspace(connection, "drafts")
        found = await find_workspaces(connection)
        assert [one.title for one in found] == ["drafts", "research"]
        known = known_workspaces(connection.store, world.identity.secrets)
    assert created in known
    stored = b"".join(path.read_bytes() for path in world.home.device.glob("org.db*"))
    assert b"research" not in stored


async def invite_and_join(
    world: World, home: Home, *, confirm: bool = True, change: Callable[[str], str] = str
) -> Identity:
    """Both sides at once, as two people at two machines."""
    joined: list[Identity] = []
    shown: list[JoinRequest] = []
    codes, received = trio.open_memory_channel[str](1)

    async def answer(request: JoinRequest) -> bool:
        assert request.label == b"desktop"
        await until(lambda: len(shown) == 1)
        assert shown == [request]
        return confirm

    async def inviting() -> None:
        async with world.connected(world.identity, world.home) as connection:
            await invite(
                connection,
                states=(),
                show_code=codes.send_nowait,
                confirm=answer,
                clients=world.clients,
            )

    async with trio.open_nursery() as nursery:
        nursery.start_soon(inviting)
        code = parse_code(change(await received.receive()))
        identity = await join(
            home, code, "desktop", show_request=shown.append, clients=world.clients
        )
        joined.append(identity)
    return joined[0]


async def test_joined_device_has_the_users_key_and_its_workspaces(world: World) -> None:
    async with world.connected(world.identity, world.home) as connection:
        await create_workspace(connection, "research")
    home = Home(root=world.folder / "desktop")
    identity = await invite_and_join(world, home)
    assert DeviceFile(home.device).load() == identity
    assert identity.anchor == world.identity.anchor
    assert identity.secrets.user_keys == world.identity.secrets.user_keys
    assert identity.secrets.sign_seed != world.identity.secrets.sign_seed
    async with world.connected(identity, home) as connection:
        assert [one.title for one in await find_workspaces(connection)] == ["research"]


async def test_device_that_joins_after_a_new_user_key_holds_the_old_ones(world: World) -> None:
    async with world.connected(world.identity, world.home) as connection:
        await create_workspace(connection, "before")
        generation, devices = await renew_user_key(connection)
        assert (generation, len(devices)) == (2, 1)
        await create_workspace(connection, "after")
    home = Home(root=world.folder / "desktop")
    identity = await invite_and_join(world, home)
    assert [one.generation for one in identity.secrets.user_keys] == [1, 2]
    assert identity.secrets.user_keys[0] == world.identity.secrets.user_keys[0]
    for own, place in ((identity, home), (world.identity, world.home)):
        async with world.connected(own, place) as connection:
            found = await find_workspaces(connection)
        assert [one.title for one in found] == ["after", "before"]


@pytest.mark.expects_log("was not renewed: see status")
@pytest.mark.parametrize("reason", ["restored", "convicted"])
async def test_a_device_that_signs_nothing_renews_no_user_key(world: World, reason: str) -> None:
    """Rule 26 also for what is signed beside another command; an honest device does it then."""
    desktop = Home(root=world.folder / "desktop")
    identity = await invite_and_join(world, desktop)
    stolen = await invite_and_join(world, Home(root=world.folder / "stolen"))
    own = world.identity.secrets
    async with world.connected(world.identity, world.home) as connection:
        org = await connection.org.pull()
        ended = DeviceRevoked(device=stolen.secrets.device)
        body = revocation(ended, org=org, seen=connection.org.seen(), author=connection.author)
        await connection.server.append_certificate(connection.org.log, body)
        await connection.org.pull()
        if reason == "restored":
            await connection.org.restored()
        else:
            log = LogId(bytes(32))
            state = fresh_state((log,), chain=trust_anchor(world.identity.anchor.chain))
            record = encode(AuditRecord(state=state, convictions=(b"P1",)))
            await DeviceAuditStore(connection.store, log, world.folder).save(record)
        assert not await renew_if_due(connection)
        assert user_key_due(await connection.org.pull(), own.user)
    async with world.connected(identity, desktop) as connection:
        await connection.org.pull()
        assert await renew_if_due(connection)


async def test_declined_device_gets_nothing(world: World) -> None:
    home = Home(root=world.folder / "desktop")
    with pytest.raises(ExceptionGroup) as caught:
        await invite_and_join(world, home, confirm=False)
    assert caught.group_contains(InputError, match="was not added")
    assert not DeviceFile(home.device).exists()
    async with world.connected(world.identity, world.home) as connection:
        assert len((await connection.org.pull()).devices) == 1


async def test_whoever_answers_first_is_seen(world: World) -> None:
    """A stranger read the code: the person sees another fingerprint, and the device says why."""
    home = Home(root=world.folder / "desktop")
    codes, received = trio.open_memory_channel[str](1)
    asked: list[JoinRequest] = []
    late = trio.Event()

    async def answer(request: JoinRequest) -> bool:
        asked.append(request)
        await late.wait()
        return False

    async def inviting() -> None:
        async with world.connected(world.identity, world.home) as connection:
            with pytest.raises(InputError, match="was not added"):
                await invite(
                    connection,
                    states=(),
                    show_code=codes.send_nowait,
                    confirm=answer,
                    clients=world.clients,
                )

    async with world.clients() as http, trio.open_nursery() as nursery:
        nursery.start_soon(inviting)
        code = parse_code(await received.receive())
        request = JoinRequest(
            device=DeviceId(os.urandom(16)),
            label=b"desktop",
            sign_key=world.identity.secrets.signing_key().verify_key.raw,
            box_key=world.identity.secrets.box_key().public,
        )
        await Mailbox(PublicClient(Transport(http, BASE_URL)), code.secret).put(request, REQUEST)
        shown: list[JoinRequest] = []
        with pytest.raises(InputError, match="somebody has answered this code already"):
            await join(home, code, "desktop", show_request=shown.append, clients=world.clients)
        late.set()
    assert asked == [request]
    assert shown == []
    assert not DeviceFile(home.device).exists()
    async with world.connected(world.identity, world.home) as connection:
        assert len((await connection.org.pull()).devices) == 1


class Inviter:
    """An inviter that says what a test wants, but knows a real code."""

    def __init__(self, world: World, http: httpx.AsyncClient, org_size: int = 3) -> None:
        self.world = world
        self.secret = os.urandom(16)
        self.mailbox = Mailbox(PublicClient(Transport(http, BASE_URL)), self.secret)
        self.org_size = org_size

    async def invitation(self) -> Invitation:
        async with self.world.connected(self.world.identity, self.world.home) as connection:
            await connection.org.pull()
            state = connection.org.roots_at(3)
        return Invitation(
            anchor=self.world.identity.anchor,
            user=self.world.identity.secrets.user,
            inviter=self.world.identity.secrets.device,
            org_state=state,
            label=b"laptop",
        )

    def code(self, invitation: Invitation) -> JoinCode:
        digest = invitation_digest(encode(invitation))
        text = format_code(JoinCode(secret=self.secret, invitation=digest, server_url=BASE_URL))
        return parse_code(text)

    async def request(self) -> JoinRequest:
        sealed = await self.mailbox.wait(REQUEST)
        return open_mail(sealed, JoinRequest, slot=REQUEST, secret=self.secret)


async def join_expecting(world: World, code: JoinCode, error: type[Exception]) -> None:
    home = Home(root=world.folder / "desktop")
    with pytest.raises(error):
        await join(home, code, "desktop", show_request=lambda _: None, clients=world.clients)
    assert not DeviceFile(home.device).exists()
    assert not home.org_database.exists()


async def test_exchanged_invitation_is_refused(world: World) -> None:
    async with world.clients() as http:
        inviter = Inviter(world, http)
        invitation = await inviter.invitation()
        other = replace(invitation, anchor=replace(invitation.anchor, rpc_urls=(b"http://evil",)))
        await inviter.mailbox.put(other, INVITATION)
        await join_expecting(world, inviter.code(invitation), DecryptionError)


async def answer_with(inviter: Inviter, admission: Callable[[Invitation], Admission]) -> JoinCode:
    invitation = await inviter.invitation()
    await inviter.mailbox.put(invitation, INVITATION)
    await inviter.mailbox.put(admission(invitation), ADMISSION)
    return inviter.code(invitation)


async def test_admission_without_a_certificate_is_refused(world: World) -> None:
    async with world.clients() as http:
        code = await answer_with(
            Inviter(world, http), lambda seen: Admission(index=3, states=(seen.org_state,))
        )
        # The server does not know the device: it cannot even ask for the log.
        await join_expecting(world, code, RefusedError)


async def test_history_must_pass_through_what_the_inviter_saw(world: World) -> None:
    async with world.clients() as http:
        inviter = Inviter(world, http)
        invitation = await inviter.invitation()
        other = replace(invitation.org_state, log_root=sha256(b"another history"))
        invitation = replace(invitation, org_state=other)
        await inviter.mailbox.put(invitation, INVITATION)
        await expect_after_certificate(world, inviter, invitation, VerificationError, pinned=3)


async def test_hidden_end_of_the_log_is_noticed(world: World) -> None:
    async with world.clients() as http:
        inviter = Inviter(world, http)
        invitation = await inviter.invitation()
        await inviter.mailbox.put(invitation, INVITATION)
        await expect_after_certificate(world, inviter, invitation, TrustchainError, pinned=50)


async def expect_after_certificate(
    world: World,
    inviter: Inviter,
    invitation: Invitation,
    error: type[Exception],
    *,
    pinned: int,
) -> None:
    """The device is certified properly, but told about another state of the log."""

    async def admit() -> None:
        request = await inviter.request()
        async with world.connected(world.identity, world.home) as connection:
            index = await certify(connection, request)
        state = replace(invitation.org_state, size=pinned)
        await inviter.mailbox.put(Admission(index=index, states=(state,)), ADMISSION)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(admit)
        await join_expecting(world, inviter.code(invitation), error)

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
from parsec_fs.conversation import MailSlots
from parsec_fs.device_file import DeviceFile
from parsec_fs.device_joining import (
    accept_device,
    device_request_of,
    greet_device,
    new_device_greeting,
    new_device_joining,
)
from parsec_fs.directory import known_workspaces
from parsec_fs.discovery import create_workspace, find_workspaces
from parsec_fs.enrolling import certify
from parsec_fs.enrolment import found_org
from parsec_fs.greeting import INVITATION
from parsec_fs.identity import Identity
from parsec_fs.joining import Admission
from parsec_fs.key_renewal import renew_if_due, renew_user_key
from parsec_fs.pending import Greeting, GreetingFiles, Joining, JoiningFile
from parsec_fs.protocol.certificates import DeviceRevoked
from parsec_fs.protocol.codec import encode
from parsec_fs.protocol.errors import (
    DecryptionError,
    RefusedError,
    TrustchainError,
    VerificationError,
)
from parsec_fs.protocol.hashing import sha256
from parsec_fs.protocol.ids import LogId
from parsec_fs.remote.server_client import PublicClient
from parsec_fs.remote.transport import Transport
from parsec_fs.revocation import revocation
from parsec_fs.user_keys import user_key_due
from tests.support.greetings import Voice, admitted, on_the_phone, until_request, with_terms
from tests.support.identities import chain_anchor
from tests.support.permits import token_for
from tests.support.server import BASE_URL, InProcess, in_process

Clients = Callable[[], httpx.AsyncClient]


class World:
    """A server with one organization, founded by the device at `home`."""

    def __init__(self, running: InProcess, folder: Path, identity: Identity) -> None:
        self.clients: Clients = running.http
        self.folder = folder
        self.identity = identity
        self.home = Home(root=folder / "laptop")
        self.files = GreetingFiles(self.home.invitations, identity.secrets.local_key)

    async def invite(self, connection: Connection) -> Greeting:
        """A new link for a device."""
        greeting = new_device_greeting(connection, await connection.org.pull())
        self.files.save(greeting)
        return greeting

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


async def invite_and_join(world: World, home: Home) -> Identity:
    """Both sides at once, as one person at two screens."""
    joined: list[Identity] = []
    here, there = on_the_phone()
    async with world.connected(world.identity, world.home) as connection:
        greeting = await world.invite(connection)

        async def joining() -> None:
            file = JoiningFile(home.device)
            file.save(new_device_joining(greeting.link(), "desktop"))
            joined.append(
                await accept_device(
                    home,
                    file=file,
                    person=there,
                    invited=lambda terms: None,
                    clients=world.clients,
                )
            )

        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(joining)
                request = await greet_device(
                    connection,
                    greeting,
                    states=(),
                    files=world.files,
                    person=here,
                    clients=world.clients,
                )
    assert request.label == b"desktop"
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


async def accept_on(world: World, home: Home) -> Identity:
    """What was begun there goes on."""
    return await accept_device(
        home,
        file=JoiningFile(home.device),
        person=Voice(),
        invited=lambda terms: None,
        clients=world.clients,
    )


async def join_expecting(
    world: World,
    greeting: Greeting,
    joining: Joining,
    admission: Admission,
    error: type[Exception],
) -> None:
    """The new device was recognized, and is told this."""
    home = Home(root=world.folder / "desktop")
    file = JoiningFile(home.device)
    known, joining = until_request(greeting, joining)
    file.save(admitted(known, joining, admission))
    with pytest.raises(error):
        await accept_on(world, home)
    assert not DeviceFile(home.device).exists()
    assert not home.org_database.exists()
    assert file.load() is not None, "its keys were sent, and may be in the log"


async def test_exchanged_invitation_is_refused(world: World) -> None:
    """Whoever knows the secret puts another one into the mailbox: the link pins the true one."""
    home = Home(root=world.folder / "desktop")
    async with world.connected(world.identity, world.home) as connection:
        greeting = await world.invite(connection)
    terms = greeting.device_terms()
    other = replace(terms, anchor=replace(terms.anchor, rpc_urls=(b"http://evil",)))
    async with world.clients() as http:
        slots = MailSlots(PublicClient(Transport(http, BASE_URL)), greeting.secret)
        await slots.put(INVITATION, with_terms(greeting, other).mails[INVITATION], taken="")
        file = JoiningFile(home.device)
        file.save(new_device_joining(greeting.link(), "desktop"))
        with pytest.raises(DecryptionError, match="not the one that the link names"):
            await accept_on(world, home)
    assert file.load() is None
    assert not DeviceFile(home.device).exists()


async def test_admission_without_a_certificate_is_refused(world: World) -> None:
    async with world.connected(world.identity, world.home) as connection:
        greeting = await world.invite(connection)
    told = Admission(index=3, states=(greeting.device_terms().org_state,))
    joining = new_device_joining(greeting.link(), "desktop")
    # The server does not know the device: it cannot even ask for the log.
    await join_expecting(world, greeting, joining, told, RefusedError)


@pytest.mark.parametrize("pinned", [3, 50])
async def test_log_must_be_the_one_that_the_inviter_saw(world: World, pinned: int) -> None:
    """The device is certified properly, but another history, or one that goes on, was vouched for:
    the server shows neither."""
    async with world.connected(world.identity, world.home) as connection:
        greeting = await world.invite(connection)
        terms = greeting.device_terms()
        other = replace(terms.org_state, log_root=sha256(b"another history"))
        if pinned == 3:
            greeting = with_terms(greeting, replace(terms, org_state=other))
        joining = new_device_joining(greeting.link(), "desktop")
        index = await certify(connection, device_request_of(joining))
    state = replace(greeting.device_terms().org_state, size=pinned)
    told = Admission(index=index, states=(state,))
    error = VerificationError if pinned == 3 else TrustchainError
    await join_expecting(world, greeting, joining, told, error)

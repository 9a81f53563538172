"""A person is invited and joins, against the real server: interrupted, expired, cancelled, twice.

Data flow: `greet` and `accept` with two people on the telephone -> org log, device files.
"""

import os
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import trio

from parsec_fs.config import Home
from parsec_fs.connection import Connection, connect
from parsec_fs.conversation import wall_ms
from parsec_fs.device_file import DeviceFile
from parsec_fs.discovery import create_workspace
from parsec_fs.greeting import INVITATION, Link, format_link, parse_link
from parsec_fs.identity import Identity
from parsec_fs.joining import invitation_digest, seal_mail
from parsec_fs.pending import Greeting, GreetingFiles, JoiningFile
from parsec_fs.person_joining import accept, greet, new_greeting, new_joining
from parsec_fs.protocol.certificates import ADMIN, OUTSIDER, STANDARD
from parsec_fs.protocol.codec import encode
from parsec_fs.protocol.errors import ForbiddenError, InputError, RefusedError, TrustchainError
from tests.support.greetings import Voice, on_the_phone
from tests.support.laptops import found
from tests.support.server import InProcess, in_process


@dataclass(kw_only=True)
class World:
    """A server, its organization, and the founder's open connection."""

    server: InProcess
    folder: Path
    alice: Connection
    files: GreetingFiles

    async def invite(self, name: str = "bob", profile: int = STANDARD) -> Greeting:
        """A new link."""
        org = await self.alice.org.pull()
        greeting = new_greeting(
            self.alice,
            org,
            name=name,
            email=f"{name}@acme.example",
            profile=profile,
            valid_s=3600,
        )
        self.files.save(greeting)
        return greeting

    async def greet(self, greeting: Greeting, person: Voice) -> None:
        """Alice's side."""
        await greet(self.alice, greeting, files=self.files, person=person, clients=self.server.http)

    def home(self, name: str = "bob") -> Home:
        """Where the person's device is."""
        return Home(root=self.folder / name)

    async def accept(self, link: Link, person: Voice, name: str = "bob") -> Identity:
        """The person's side; goes on where it stopped."""
        file = JoiningFile(self.home(name).device)
        joining = file.load() or new_joining(link, "tablet")
        file.save(joining)
        return await accept(
            self.home(name),
            joining,
            file=file,
            person=person,
            invited=lambda terms: None,
            clients=self.server.http,
        )

    async def both(self, greeting: Greeting, name: str = "bob") -> Identity:
        """At once, to the end."""
        alice, bob = on_the_phone()
        joined: list[Identity] = []

        async def join() -> None:
            link = parse_link(format_link(greeting.link()))
            joined.append(await self.accept(link, bob, name))

        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(join)
                nursery.start_soon(self.greet, greeting, alice)
        return joined[0]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with in_process(tmp_path / "server") as server:
        identity = await found(server)
        home = Home(root=tmp_path / "alice")
        DeviceFile(home.device).create(identity, random=os.urandom)
        async with connect(home, identity, clients=server.http) as alice:
            files = GreetingFiles(home.invitations, identity.secrets.local_key)
            yield World(server=server, folder=tmp_path, alice=alice, files=files)


async def test_invited_person_is_in_the_organization(world: World) -> None:
    identity = await world.both(await world.invite())
    assert DeviceFile(world.home().device).load() == identity
    org = await world.alice.org.pull()
    user = org.users[identity.secrets.user]
    assert (user.name, user.email, user.profile) == (b"bob", b"bob@acme.example", STANDARD)
    assert [one.label for one in org.devices_of(user.user)] == [b"tablet"]
    assert identity.anchor == world.alice.identity.anchor
    assert {pin.size for pin in identity.pins} == {3, 5}
    assert JoiningFile(world.home().device).load() is None
    async with connect(world.home(), identity, clients=world.server.http) as bob:
        await create_workspace(bob, "bobs")
        with pytest.raises(ForbiddenError, match="only an administrator"):
            new_greeting(
                bob,
                bob.org.state,
                name="eve",
                email="eve@acme.example",
                profile=ADMIN,
                valid_s=1,
            )


async def test_outsider_creates_no_workspace(world: World) -> None:
    identity = await world.both(await world.invite("carol", OUTSIDER), "carol")
    async with connect(world.home("carol"), identity, clients=world.server.http) as carol:
        with pytest.raises(RefusedError, match="NOT_ALLOWED"):
            await create_workspace(carol, "hers")


async def test_both_sides_go_on_after_an_interruption_at_every_question(world: World) -> None:
    """Each side is stopped whenever its person is asked or told something, and started again."""
    greeting = await world.invite()
    alice, bob = on_the_phone()
    stops: dict[str, int] = {"alice": 0, "bob": 0}
    joined: list[Identity] = []

    async def interrupted(name: str, voice: Voice, scope: trio.CancelScope) -> None:
        if stops[name] < 2:
            stops[name] += 1
            scope.cancel()
            await trio.lowlevel.checkpoint()

    async def greeting_side() -> None:
        over = False
        while not over:
            (known,) = world.files.all(wall_ms())
            with trio.CancelScope() as scope:
                alice.hook = lambda: interrupted("alice", alice, scope)
                await world.greet(known, alice)
                over = True

    async def joining_side() -> None:
        while not joined:
            with trio.CancelScope() as scope:
                bob.hook = lambda: interrupted("bob", bob, scope)
                joined.append(await world.accept(greeting.link(), bob))

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(greeting_side)
            nursery.start_soon(joining_side)
    assert stops == {"alice": 2, "bob": 2}
    assert len(set(alice.said)) == len(set(bob.said)) == 1
    org = await world.alice.org.pull()
    assert len(org.users) == 2
    assert joined[0].secrets.device in org.devices


async def test_a_link_is_used_once(world: World) -> None:
    greeting = await world.invite()
    await world.both(greeting)
    with pytest.raises(InputError, match="somebody else has used this link"):
        await world.accept(greeting.link(), Voice(), "eve")
    assert not DeviceFile(world.home("eve").device).exists()
    (known,) = world.files.all(wall_ms())
    assert known.is_over()
    with pytest.raises(InputError, match="is in this organization already"):
        await world.invite()


async def test_an_unheard_code_adds_nobody(world: World) -> None:
    """Whoever answers first is not the one at the telephone: the person there reads another."""
    greeting = await world.invite()
    alice, stranger = Voice(), Voice()
    alice.other, stranger.other = Voice(), alice
    alice.other.said.append("XXXX")

    async def refused() -> None:
        with pytest.raises(InputError, match="did not recognize your code"):
            await world.accept(greeting.link(), stranger, "eve")

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(refused)
            with pytest.raises(InputError, match="Nobody was added"):
                await world.greet(greeting, alice)
    assert world.files.all(wall_ms()) == []
    assert len((await world.alice.org.pull()).users) == 1


async def test_an_expired_link_is_refused(world: World) -> None:
    fresh = await world.invite()
    terms = replace(fresh.terms(), expires_ms=wall_ms() - 1)
    old = replace(
        fresh,
        invitation=invitation_digest(encode(terms)),
        mails=(seal_mail(terms, slot=INVITATION, secret=fresh.secret, salt=os.urandom(32)),),
    )
    with pytest.raises(TimeoutError, match="expired"):
        await world.greet(old, Voice())
    with pytest.raises(InputError, match="expired"):
        await world.accept(old.link(), Voice())
    world.files.save(old)
    assert [one.invitation for one in world.files.all(wall_ms())] == [fresh.invitation]


async def test_an_inviter_who_adds_somebody_else_is_noticed(world: World) -> None:
    """The link said who the person would be: another profile in the log is not taken."""
    greeting = await world.invite()
    other = replace(greeting.terms(), profile=ADMIN)

    class Lying(Greeting):
        __slots__ = ()

        def terms(self) -> object:  # type: ignore[override]
            return other

    fields = ("secret", "invitation", "server_url", "shared", "nonce", "mails")
    lying = Lying(**{name: getattr(greeting, name) for name in fields})
    alice, bob = on_the_phone()

    async def inviting() -> None:
        await world.greet(lying, alice)

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(inviting)
            with pytest.raises(TrustchainError, match="as somebody else"):
                await world.accept(greeting.link(), bob)
    assert not DeviceFile(world.home().device).exists()

"""A person or a device is invited and joins: interrupted, expired, cancelled, twice.

Data flow: `greet` and `accept` with two people on the telephone -> org log, device files.
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from parsec_fs.cli.exit_codes import ExitCode, exit_code
from parsec_fs.connection import connect
from parsec_fs.conversation import MailSlots, wall_ms
from parsec_fs.device_file import DeviceFile
from parsec_fs.discovery import create_workspace
from parsec_fs.greeting import ADMISSION, ANSWER, CANCELLED, DEVICE, HELLO, INVITATION, PERSON
from parsec_fs.greeting_sides import cancel, tell_again
from parsec_fs.identity import Identity
from parsec_fs.lockfile import LockedError
from parsec_fs.pending import Greeting, GreetingFiles, JoiningFile
from parsec_fs.people import find_user
from parsec_fs.person_joining import new_greeting, new_joining
from parsec_fs.protocol.certificates import ADMIN, OUTSIDER, STANDARD
from parsec_fs.protocol.errors import (
    DataError,
    ForbiddenError,
    InputError,
    RefusedError,
    TakenBackError,
    TrustchainError,
)
from parsec_fs.remote.server_client import PublicClient
from parsec_fs.remote.transport import Transport
from parsec_fs.revocation import revoke_user
from tests.support.greeting_world import World, greeting_world
from tests.support.greetings import (
    Voice,
    new_joining_for,
    on_the_phone,
    until_request,
    with_terms,
)
from tests.support.server import BASE_URL, in_process

KINDS = (PERSON, DEVICE)


def expired(greeting: Greeting) -> Greeting:
    """The same, made longer ago."""
    terms = greeting.device_terms() if greeting.kind == DEVICE else greeting.terms()
    return with_terms(greeting, replace(terms, expires_ms=wall_ms() - 1))


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with greeting_world(tmp_path) as world:
        yield world


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


@pytest.mark.parametrize("kind", KINDS)
async def test_both_sides_go_on_after_an_interruption_at_every_question(
    world: World, kind: int
) -> None:
    """Each side is stopped whenever its person is asked or told something, and started again."""
    greeting = await world.invite_kind(kind)
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
    assert (len(org.users), len(org.devices)) == (2 if kind == PERSON else 1, 2)
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
    await revoke_user(world.alice, find_user(await world.alice.org.pull(), "bob"))
    await world.invite()


@pytest.mark.parametrize("kind", KINDS)
async def test_whoever_waits_hears_that_it_was_taken_back(world: World, kind: int) -> None:
    """Before the codes nothing is left of it; after the keys were sent they are kept."""
    for sent in (False, True):
        greeting = await world.invite_kind(kind)
        file, joining = JoiningFile(world.home().device), new_joining_for(greeting)
        if sent:
            greeting, joining = until_request(greeting, joining)
            world.files.save(greeting)
        file.save(joining)
        said = "after your keys were sent" if sent else "none of your keys were sent"
        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(taken_back, world, greeting, said)
                assert await cancel(greeting, files=world.files, clients=world.server.http) == (
                    greeting,
                    True,
                )
        left = file.load()
        assert (left is not None and left.secrets == joining.secrets) == sent
        assert world.files.all(wall_ms()) == []


async def taken_back(world: World, greeting: Greeting, said: str) -> None:
    with pytest.raises(TakenBackError, match=said) as told:
        await world.accept(greeting.link(), Voice())
    assert exit_code(told.value) == ExitCode.NOT_FOUND


async def test_nobody_without_the_link_ends_the_waiting(world: World) -> None:
    """The server knows the address of the mailbox, and what it puts there opens for nobody."""
    greeting = await world.invite()
    async with world.server.http() as http:
        slots = MailSlots(PublicClient(Transport(http, BASE_URL)), greeting.secret)
        await slots.put(CANCELLED, b"taken back, says the server", taken="")
    assert (await world.both(greeting)).secrets.user in (await world.alice.org.pull()).users


@pytest.mark.parametrize("kind", KINDS)
async def test_an_unheard_code_adds_nobody(world: World, kind: int) -> None:
    """Whoever answers first is not the one at the telephone: the person there reads another."""
    greeting = await world.invite_kind(kind)
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
    org = await world.alice.org.pull()
    assert (len(org.users), len(org.devices)) == (1, 1)


@pytest.mark.parametrize("kind", KINDS)
async def test_an_expired_link_is_refused(world: World, kind: int) -> None:
    fresh = await world.invite_kind(kind)
    old = expired(fresh)
    world.files.save(old)
    with pytest.raises(TimeoutError, match="expired"):
        await world.greet(old, Voice())
    with pytest.raises(InputError, match="expired"):
        await world.accept(old.link(), Voice())
    assert [one.invitation for one in world.files.all(wall_ms())] == [fresh.invitation]


async def test_an_inviter_who_adds_somebody_else_is_noticed(world: World) -> None:
    """The link said who the person would be: another profile in the log is not taken."""
    greeting = await world.invite()
    other = replace(greeting.terms(), profile=ADMIN)

    class Lying(Greeting):
        __slots__ = ()

        def terms(self) -> object:  # type: ignore[override]
            return other

    class LyingFiles(GreetingFiles):
        @contextmanager
        def using(self, greeting: Greeting) -> Iterator[Greeting]:
            fields = ("kind", "secret", "invitation", "server_url", "shared", "nonce", "mails")
            with super().using(greeting) as now:
                yield Lying(**{name: getattr(now, name) for name in fields})

    local_key = world.alice.identity.secrets.local_key
    world.files = LyingFiles(world.folder / "alice/device/invitations", local_key)
    alice, bob = on_the_phone()

    async def inviting() -> None:
        await world.greet(greeting, alice)

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(inviting)
            with pytest.raises(TrustchainError, match="as somebody else"):
                await world.accept(greeting.link(), bob)
    assert not DeviceFile(world.home().device).exists()


async def test_a_device_whose_join_stopped_after_its_request_becomes_one(world: World) -> None:
    """It is added while nobody waits there: typed again, `join` is the same device, and no other
    one is in the log. A server that has forgotten the answer is given it again."""
    fresh = await world.invite_device()
    greeting, joining = until_request(fresh, new_joining_for(fresh))
    world.files.save(greeting)
    JoiningFile(world.home().device).save(joining)
    await world.greet(greeting, Voice())
    (over,) = world.files.all(wall_ms(), kind=DEVICE)
    assert over.is_over()
    assert world.files.all(wall_ms(), kind=PERSON) == []
    async with in_process(world.folder / "forgetful") as forgetful, forgetful.http() as http:
        await tell_again(over, clients=forgetful.http)
        slots = MailSlots(PublicClient(Transport(http, BASE_URL)), over.secret)
        assert await slots.read(ADMISSION) == over.mails[ADMISSION]
    identity = await world.accept(greeting.link(), Voice())
    org = await world.alice.org.pull()
    assert set(org.devices) == {world.alice.identity.secrets.device, joining.secrets.device}
    assert identity.secrets.device == joining.secrets.device
    assert identity.secrets.user_keys == world.alice.identity.secrets.user_keys
    assert DeviceFile(world.home().device).load() == identity


async def test_keys_that_were_sent_outlive_the_link(world: World) -> None:
    """It expires between the person's request and the answer: neither side forgets the other."""
    old = expired(await world.invite())
    file = JoiningFile(world.home().device)
    greeting, joining = until_request(old, new_joining(old.link(), "tablet"))
    world.files.save(greeting)
    file.save(joining)
    assert greeting in world.files.all(wall_ms())
    identity = await world.both(greeting)
    assert identity.secrets.device == joining.secrets.device
    assert identity.secrets.user in (await world.alice.org.pull()).users
    assert [one.is_over() for one in world.files.all(wall_ms()) if one.has_request()] == [True]


async def test_keys_that_were_sent_outlive_mail_of_strangers(world: World) -> None:
    """The server forgets mail; whoever has read the link puts other mail in its place."""
    greeting = await world.invite()
    file = JoiningFile(world.home().device)
    known, joining = until_request(greeting, new_joining(greeting.link(), "tablet"))
    world.files.save(known)
    file.save(joining)
    async with world.server.http() as http:
        slots = MailSlots(PublicClient(Transport(http, BASE_URL)), greeting.secret)
        await slots.put(INVITATION, greeting.mails[INVITATION], taken="")
        await slots.put(HELLO, b"not of bob", taken="")
        await slots.put(ANSWER, b"not of alice", taken="")
    with pytest.raises(InputError, match="somebody else has used this link"):
        await world.greet(known, Voice())
    with pytest.raises(InputError, match="somebody else has used this link"):
        await world.accept(greeting.link(), Voice())
    assert world.files.all(wall_ms()) == [known]
    assert file.load() == joining


async def test_one_invitation_has_one_process_at_each_side(world: World) -> None:
    """A second one would answer with the same nonce; and nobody takes it away meanwhile."""
    greeting = await world.invite()
    alice, bob = on_the_phone()

    async def again() -> None:
        with pytest.raises(LockedError, match=r"process \d+.*Nothing was changed"):
            await world.greet(greeting, Voice())
        with pytest.raises(LockedError), world.files.using(greeting):
            raise AssertionError("cancelled beside a running greeting")
        with pytest.raises(LockedError, match="joining from here is in use already"):
            await world.accept(greeting.link(), Voice())

    alice.hook = again
    joined: list[Identity] = []

    async def join() -> None:
        joined.append(await world.accept(greeting.link(), bob))

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(join)
            await world.greet(greeting, alice)
    assert alice.asked
    assert joined[0].secrets.user in (await world.alice.org.pull()).users


async def test_what_another_process_did_counts(world: World) -> None:
    """The greeting is read when it is locked: one that was taken back meanwhile is over."""
    greeting = await world.invite()
    with world.files.using(greeting) as now:
        world.files.remove(now)
    with pytest.raises(InputError, match="this invitation is over"):
        await world.greet(greeting, Voice())
    assert list((world.folder / "alice/device/invitations").iterdir()) == []


async def test_a_profile_that_does_not_exist_is_refused(world: World) -> None:
    fresh = await world.invite()
    odd = with_terms(fresh, replace(fresh.terms(), profile=77))
    async with world.server.http() as http:
        slots = MailSlots(PublicClient(Transport(http, BASE_URL)), odd.secret)
        await slots.put(INVITATION, odd.mails[INVITATION], taken="")
    with trio.fail_after(20), pytest.raises(DataError, match="profile that does not exist: 77"):
        await world.accept(odd.link(), Voice())
    assert JoiningFile(world.home().device).load() is None

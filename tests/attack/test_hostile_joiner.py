"""Whoever was invited, or has read the link, asks to be more than that.

Data flow: mail of a hostile joiner -> `greet` -> org log.

Codes are compared honestly: the inviter did recognize the voice, or did not. Each attack is refused
by one check and succeeds without it.
"""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from parsec_fs.admission import ADMISSION_CHECKS, AdmissionChecks
from parsec_fs.conversation import MailSlots, wall_ms
from parsec_fs.greeting import REQUEST, VERDICT, PersonRequest, Verdict
from parsec_fs.joining import join_request
from parsec_fs.pending import Greeting
from parsec_fs.person_joining import new_joining, request_of
from parsec_fs.protocol.errors import InputError, OfflineError
from parsec_fs.protocol.membership import OrgState
from parsec_fs.remote.server_client import PublicClient
from parsec_fs.remote.transport import Transport
from tests.support.greeting_world import World, greeting_world
from tests.support.greetings import Voice, new_joining_for, until_request
from tests.support.laptops import Wire, place_of
from tests.support.server import BASE_URL


class AnyNewcomer(AdmissionChecks):
    """The check left out."""

    def newcomer(self, org: OrgState, user: object, request: object) -> None:
        """Whoever they say they are."""

    def new_device(self, org: OrgState, user: object, request: object, *, since: int) -> None:
        """Whatever they say it is."""


class ForgetfulVerdict(AdmissionChecks):
    """The check left out."""

    def verdict(self, said: Verdict, now: bool) -> bool:
        """As if nothing had been said."""
        return now


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with greeting_world(tmp_path) as world:
        yield world


def wanted(greeting: Greeting) -> PersonRequest:
    """Fresh keys, as an honest joiner sends them."""
    return request_of(new_joining(greeting.link(), "tablet"))


def asked(greeting: Greeting, request: PersonRequest) -> Greeting:
    """The joiner's code was recognized, and then they asked for `request`."""
    return until_request(greeting, new_joining(greeting.link(), "tablet"), request)[0]


async def greet(
    world: World, known: Greeting, checks: AdmissionChecks = ADMISSION_CHECKS
) -> OrgState:
    """The inviter answers; the organization then."""
    world.files.save(known)
    await world.greet(known, Voice(), checks=checks)
    return await world.alice.org.pull()


async def test_nobody_takes_a_device_that_is_here(world: World) -> None:
    """The founder's own device, shown as the new person's: without the check that is believed."""
    greeting, founder = await world.invite(), world.alice.identity.secrets
    request = wanted(greeting)
    stolen = replace(request, device=replace(request.device, device=founder.device))
    known = asked(greeting, stolen)
    before = await world.alice.org.pull()
    with pytest.raises(InputError, match="somebody who is here already: nobody was added"):
        await greet(world, known)
    assert await world.alice.org.pull() == before
    assert world.files.all(wall_ms()) == []

    org = await greet(world, known, AnyNewcomer())
    assert stolen.user in org.users
    assert [one.is_over() for one in world.files.all(wall_ms())] == [True]


async def test_nobody_becomes_somebody_who_is_here(world: World) -> None:
    """Bob was sent two links; he has joined by one. Who has read the other one asks for a device in
    bob's name, with the public key that every member knows: it would get every key of bob's."""
    first, second = await world.invite(), await world.invite()
    bob = wanted(first)
    before = await greet(world, asked(first, bob))
    eve = replace(wanted(second), user=bob.user, box_key=bob.box_key)
    known = asked(second, eve)
    with pytest.raises(InputError, match="somebody who is here already: nobody was added"):
        await greet(world, known)
    assert await world.alice.org.pull() == before

    org = await greet(world, known, AnyNewcomer())
    assert eve.device.device in [one.device for one in org.devices_of(bob.user)]


async def test_no_device_joins_that_is_here(world: World) -> None:
    """Whoever was given a device's link shows one that exists, with the keys that all know: alice
    would believe that hers has joined. Without the check she does."""
    org, founder = await world.alice.org.pull(), world.alice.identity.secrets
    own = org.device(founder.device).device
    request = join_request(founder, own.label)
    for asks in (request, replace(request, sign_key=bytes(32))):
        greeting = await world.invite_device()
        known = until_request(greeting, new_joining_for(greeting), asks)[0]
        with pytest.raises(InputError, match="a device that is here already: nothing was added"):
            await greet(world, known)
        assert world.files.all(wall_ms()) == []
    assert await greet(world, known, AnyNewcomer()) == org
    assert [one.is_over() for one in world.files.all(wall_ms())] == [True]


async def test_two_links_add_one_person(world: World) -> None:
    """An address that was free when the second link was made is not any more."""
    first = await world.invite()
    second = await world.invite("bobby", email="bob@acme.example")
    before = await greet(world, asked(first, wanted(first)))
    known = asked(second, wanted(second))
    with pytest.raises(InputError, match="is in this organization already"):
        await greet(world, known)
    assert await world.alice.org.pull() == before

    org = await greet(world, known, AnyNewcomer())
    assert [one.email for one in org.users.values()].count(b"bob@acme.example") == 2


@pytest.mark.parametrize("checks", [ADMISSION_CHECKS, ForgetfulVerdict()])
async def test_a_no_that_did_not_arrive_stays_a_no(world: World, checks: AdmissionChecks) -> None:
    """The server drops the verdict, the inviter tries again, and the keys are there already."""
    greeting, alice = await world.invite(), Voice()
    alice.other = Voice()
    alice.other.reads_out("NONE")
    wire = Wire(place_of(world.server))

    async def cut() -> None:
        wire.cut = True

    alice.hook = cut
    known = asked(greeting, wanted(greeting))
    world.files.save(replace(known, mails=known.mails[:VERDICT]))
    with pytest.raises(OfflineError):
        await world.greet(
            known, alice, clients=lambda: httpx.AsyncClient(transport=wire, base_url=BASE_URL)
        )
    async with world.server.http() as http:
        slots = MailSlots(PublicClient(Transport(http, BASE_URL)), greeting.secret)
        await slots.put(REQUEST, known.mails[REQUEST], taken="")
    if checks is ADMISSION_CHECKS:
        with pytest.raises(InputError, match="Nobody was added"):
            await world.greet(known, alice, checks=checks)
    else:
        await world.greet(known, alice, checks=checks)
    assert len(alice.asked) == 1
    added = len((await world.alice.org.pull()).users) - 1
    assert added == (0 if checks is ADMISSION_CHECKS else 1)
    assert len(world.files.all(wall_ms())) == added

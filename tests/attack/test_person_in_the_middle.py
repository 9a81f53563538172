"""Somebody who has read the link of a person or a device stands between the two, with the server.

Data flow: inviter <-> attacker <-> joiner, each believing to talk with the other.

The attacker may choose every message freely, in every order that the protocol allows. Codes of one
symbol (5 bits) make chance measurable; real ones have four (20 bits), and the formula is the same.
"""

import math
import os
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import trio

from parsec_fs.conversation import Talk
from parsec_fs.device_file import DeviceFile
from parsec_fs.greeting import (
    ANSWER,
    DEVICE,
    GREETING_CHECKS,
    HELLO,
    INVITATION,
    PERSON,
    REVEAL,
    VERDICT,
    WORDS,
    Answer,
    Codes,
    GreetingChecks,
    Hello,
    Invitation,
    Link,
    Reveal,
    Verdict,
    answer,
    codes,
    open_answer,
    say_hello,
)
from parsec_fs.pending import JoiningFile
from parsec_fs.protocol.errors import DecryptionError, InputError
from parsec_fs.protocol.sealing import BoxKey
from parsec_fs.remote.server_client import PublicClient
from parsec_fs.remote.transport import Transport
from tests.support.greeting_world import greeting_world
from tests.support.greetings import FAR_MS, on_the_phone
from tests.support.identities import CountingRandom
from tests.support.server import BASE_URL, in_process

LINK = Link(secret=b"s" * 16, invitation=b"i" * 32, server_url="https://files.acme.example")
TRIALS = 640


class NoCommitment(GreetingChecks):
    """The check left out."""

    def commitment(self, hello: Hello, reveal: Reveal) -> Reveal:
        """Whatever the other side says now."""
        return reveal


@dataclass(frozen=True, kw_only=True)
class Between:
    """What both honest sides end with: their messages, as the attacker relayed or made them."""

    inviter_shared: bytes
    hello_here: Hello
    answer_here: Answer
    joiner: Codes
    reveal: Reveal
    key: BoxKey

    def inviter(self, reveal: Reveal, checks: GreetingChecks, symbols: int) -> Codes:
        """Codes of the inviter, who was told this nonce."""
        return codes(
            self.hello_here,
            self.answer_here,
            reveal,
            link=LINK,
            shared=self.inviter_shared,
            checks=checks,
            symbols=symbols,
        )


def stand_between(draw: CountingRandom, symbols: int) -> Between:
    """The joiner's greeting is over before the inviter hears the attacker's nonce: the order that
    leaves the attacker most to choose."""
    joiner_key, joiner_nonce = BoxKey(draw(96)), draw(32)
    key, nonce, there = BoxKey(draw(96)), draw(32), draw(32)
    hello_here = say_hello(key, nonce)
    inviter_shared = draw(32)
    answer_here = answer(hello_here, link=LINK, shared=inviter_shared, nonce=draw(32))
    hello_there = say_hello(joiner_key, joiner_nonce)
    answer_there = answer(hello_there, link=LINK, shared=there, nonce=answer_here.nonce)
    joiner = codes(
        hello_there,
        answer_there,
        Reveal(nonce=joiner_nonce),
        link=LINK,
        shared=open_answer(answer_there, joiner_key, LINK),
        symbols=symbols,
    )
    return Between(
        inviter_shared=inviter_shared,
        hello_here=hello_here,
        answer_here=answer_here,
        joiner=joiner,
        reveal=Reveal(nonce=nonce),
        key=key,
    )


def test_is_caught_but_for_chance() -> None:
    """2^-5 per code with one symbol: within five standard deviations over 640 attempts, and both
    codes never but for the product of the two."""
    draw, first, second = CountingRandom(), 0, 0
    for _ in range(TRIALS):
        between = stand_between(draw, 1)
        inviter = between.inviter(between.reveal, GREETING_CHECKS, 1)
        first += inviter.joiner == between.joiner.joiner
        second += inviter.inviter == between.joiner.inviter
    expected = TRIALS / 32
    spread = 5 * math.sqrt(expected * (1 - 1 / 32))
    assert abs(first - expected) < spread
    assert abs(second - expected) < spread


def test_real_codes_differ() -> None:
    draw = CountingRandom()
    for _ in range(100):
        between = stand_between(draw, 4)
        inviter = between.inviter(between.reveal, GREETING_CHECKS, 4)
        assert inviter.joiner != between.joiner.joiner
        assert inviter.inviter != between.joiner.inviter


def search(between: Between, checks: GreetingChecks, symbols: int, most: int) -> Codes | None:
    """Nonces, until the inviter's code is the one that the joiner will read out."""
    for number in range(most):
        reveal = Reveal(nonce=number.to_bytes(32, "big"))
        found = between.inviter(reveal, checks, symbols)
        if found.joiner == between.joiner.joiner:
            return found
    return None


def test_cannot_search_for_a_nonce_that_fits() -> None:
    """With the check every other nonce is refused; without it a few thousand tries are enough for
    two symbols, and a thousand times as many for four: minutes on one core."""
    between = stand_between(CountingRandom(), 2)
    with pytest.raises(DecryptionError, match="changed its nonce"):
        search(between, GREETING_CHECKS, 2, 1)
    assert search(between, NoCommitment(), 2, 20_000) is not None


class Attacker:
    """Between two mailboxes: all that is told to one side is made here."""

    def __init__(self, inviter: PublicClient, joiner: PublicClient, secret: bytes) -> None:
        self.to_inviter = self._talk(inviter, secret)
        self.to_joiner = self._talk(joiner, secret)
        self.key, self.nonce = BoxKey(os.urandom(96)), os.urandom(32)

    def _talk(self, client: PublicClient, secret: bytes) -> Talk:
        words = WORDS[PERSON]
        return Talk(client, secret, (), keep=lambda mails: None, expires_ms=FAR_MS, words=words)

    async def relay(self, terms: Invitation) -> None:
        """The invitation as it is (the link pins it), everything else its own."""
        sealed = await self.to_inviter.wait(INVITATION)
        self.to_inviter.mails = self.to_joiner.mails = (sealed,)
        await self.to_joiner.say(INVITATION, type(terms), lambda: terms)

    async def to_both(self, link: Link) -> None:
        """Until the inviter has been told a nonce."""
        await self.to_inviter.say(HELLO, Hello, lambda: say_hello(self.key, self.nonce))
        shared = os.urandom(32)
        hello = await self.to_joiner.hear(HELLO, Hello)
        await self.to_joiner.say(
            ANSWER, Answer, lambda: answer(hello, link=link, shared=shared, nonce=os.urandom(32))
        )
        await self.to_inviter.hear(ANSWER, Answer)
        reveal = await self.to_joiner.hear(REVEAL, Reveal)
        reply = await self.to_joiner.hear(ANSWER, Answer)
        both = codes(hello, reply, reveal, link=link, shared=shared)
        await self.to_inviter.say(REVEAL, Reveal, lambda: Reveal(nonce=self.nonce))
        await self.to_joiner.say(VERDICT, Verdict, lambda: Verdict(same=1), both.session)


@pytest.mark.parametrize("kind", [PERSON, DEVICE])
async def test_nobody_is_added_and_no_keys_are_sent(tmp_path: Path, kind: int) -> None:
    """The whole product's both sides, each with a mailbox of its own, the attacker between."""
    async with (
        in_process(tmp_path / "other") as there,
        greeting_world(tmp_path) as world,
        world.server.http() as to_inviter,
        there.http() as to_joiner,
    ):
        alice, bob = on_the_phone()
        greeting = await world.invite_kind(kind)
        file = JoiningFile(world.home().device)
        attacker = Attacker(
            PublicClient(Transport(to_inviter, BASE_URL)),
            PublicClient(Transport(to_joiner, BASE_URL)),
            greeting.secret,
        )

        async def inviting() -> None:
            with pytest.raises(InputError, match="Nobody was added"):
                await world.greet(greeting, alice)

        async def joining() -> None:
            with pytest.raises(InputError, match="None of your keys were sent"):
                await replace(world, server=there).accept(greeting.link(), bob)

        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(inviting)
                await attacker.relay(
                    greeting.device_terms() if kind == DEVICE else greeting.terms()
                )
                nursery.start_soon(joining)
                await attacker.to_both(greeting.link())
                # Alice says nothing yet; whatever Bob believes to hear, it is another code.
                alice.said.append("NONE")
        assert world.files.all(0) == []
        assert file.load() is None
        assert not DeviceFile(world.home().device).exists()
        org = await world.alice.org.pull()
        assert (len(org.users), len(org.devices)) == (1, 1)

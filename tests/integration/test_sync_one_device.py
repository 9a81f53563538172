"""One device logs what it changed; another replica of the same log shows it."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from parsec_fs.protocol.certificates import (
    NO_ROLE,
    READER,
    STANDARD,
    Role,
    User,
    sign_certificate,
)
from parsec_fs.protocol.errors import ProofError, StaleError
from parsec_fs.protocol.hashing import map_key
from parsec_fs.protocol.ids import NO_HASH, UserId
from parsec_fs.protocol.sealing import BoxKey
from parsec_fs.workspace.sharing import registration
from tests.support.laptops import Laptop, found, laptop, second_device
from tests.support.server import in_process


async def test_a_file_reaches_another_device(tmp_path: Path) -> None:
    async with in_process(tmp_path / "server") as server:
        alice = await found(server)
        async with laptop(server, alice, tmp_path / "one") as one:
            realm = await one.create_realm()
            await one.open(realm)
            one.make("hello.txt", b"hello")
            one.mkdir("folder")
            one.make("folder/big.bin", bytes(range(256)) * 8192)
            await one.push()
            other = await second_device(one)
            async with laptop(server, other, tmp_path / "two") as two:
                await two.open(realm)
                assert await two.walk() == await one.walk()
                assert (await two.walk())["hello.txt"] == b"hello"


async def test_a_file_that_somebody_goes_on_appending_to_is_logged_at_each_push(
    tmp_path: Path,
) -> None:
    """Its last block is sealed anew each time, and needs a digest before it can be captured."""
    async with in_process(tmp_path / "server") as server:
        alice = await found(server)
        async with laptop(server, alice, tmp_path / "one") as one:
            await one.open(await one.create_realm())
            one.make("app.log", os.urandom(40_000))
            for number in range(3):
                one.append("app.log", b"line %d\n" % number)
                await one.workspace.sync.push_once()
                assert not one.pending()


async def test_nothing_is_sealed_after_a_removal(tmp_path: Path) -> None:
    """Rule 10: until the key is rotated, who was removed could still open it."""
    async with in_process(tmp_path / "server") as server:
        alice = await found(server)
        async with laptop(server, alice, tmp_path / "one") as one:
            realm = await one.create_realm()
            await one.open(realm)
            await one.push()
            bob = await _add_user(one)
            for role in (READER, NO_ROLE):
                await _set_role(one, bob, role)
                await one.pull()
            one.make("secret", b"1")
            with pytest.raises(StaleError):
                await one.push()
            assert one.pending()


async def test_a_head_that_nothing_leads_to_does_not_keep_us_busy(tmp_path: Path) -> None:
    """A server signs a head of more leaves than it gives when it is asked next."""
    async with in_process(tmp_path / "server") as server:
        alice = await found(server)
        async with laptop(server, alice, tmp_path / "one") as one:
            await one.open(await one.create_realm())
            await one.push()
            replica = one.workspace.replica
            known = replica.newest_head()
            assert known is not None
            promised = replace(known[0], size=known[0].size + 1)
            with trio.fail_after(20), pytest.raises(ProofError) as caught:
                await replica.reach((promised, known[1]), known_size=known[0].size)
            assert len(caught.value.evidence) == 2


async def _add_user(one: Laptop) -> UserId:
    user = UserId(os.urandom(16))
    content = User(
        user=user,
        name=b"bob",
        email=b"bob@acme.example",
        profile=STANDARD,
        generation=1,
        box_key=BoxKey(os.urandom(96)).public,
    )
    org = await one.org.pull()
    chain = org.chains[one.author.secrets.device]
    header = one.author.header(org.context, chain, one.org.seen())
    await one.client.append_certificate(one.org.log, one.author.sign(content, header=header))
    await one.org.pull()
    return user


async def _set_role(one: Laptop, user: UserId, role: int) -> None:
    replica = one.workspace.replica
    chain = replica.state.chains[one.author.secrets.device]
    header = one.author.header(replica.state.context, chain, replica.seen())
    body = sign_certificate(
        Role(user=user, role=role),
        header=header,
        replaces=replica.state.map.get(map_key(b"role", user)) or NO_HASH,
        key=one.author.secrets.signing_key(),
    )
    org = await one.org.pull()
    registered = registration(body, org=org, seen=one.org.seen(), author=one.author)
    await one.client.append_certificate(one.org.log, registered)
    await one.client.append_certificate(replica.log, body)

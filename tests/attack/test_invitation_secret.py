"""The secret of an invitation's link, and of a new device's code, in what the server is sent (A05).

Data flow: both sides of an invitation -> every request of theirs, recorded -> search.

The link's secret is behind `#`, so that no program sends it anywhere, and it is worth an attempt to
be greeted, and every message of the greeting. A device's code is worth an attempt to become that
device. The server has all messages; with the secret it would read them.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import httpx
import trio

from parsec_fs.config import Home
from parsec_fs.device_joining import invite, join
from parsec_fs.greeting import INVITATION, PersonInvitation
from parsec_fs.joining import (
    Invitation,
    JoinCode,
    JoinRequest,
    mailbox_address,
    open_mail,
    parse_code,
)
from parsec_fs.protocol.codec import decode
from parsec_fs.protocol.commands import PutMail
from tests.support.encodings import encodings, in_base32
from tests.support.greeting_world import World, greeting_world
from tests.support.server import BASE_URL, InProcess


class Recorded(httpx.AsyncBaseTransport):
    """A line that somebody listens to at the server's end."""

    def __init__(self, server: InProcess, sent: list[bytes]) -> None:
        self._inner = httpx.ASGITransport(app=server.server.app)
        self._sent = sent

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        headers = b"\n".join(name + b": " + value for name, value in request.headers.raw)
        body = await request.aread()
        self._sent.append(b"\n".join((str(request.url).encode(), headers, b"", body)))
        return await self._inner.handle_async_request(request)


def watched(server: InProcess, sent: list[bytes]) -> InProcess:
    """The same server; all that is sent to it is kept."""

    class Watched(InProcess):
        def http(self) -> httpx.AsyncClient:
            return httpx.AsyncClient(transport=Recorded(server, sent), base_url=BASE_URL)

    return Watched(server=server.server, identity=server.identity, config=server.config)


def holding(sent: list[bytes], secret: bytes) -> Iterator[bytes]:
    """Requests in which it is found, in whatever encoding."""
    patterns = {*encodings(secret), *in_base32(secret)}
    return (one for one in sent if any(pattern in one for pattern in patterns))


T = TypeVar("T")


def opened(sent: list[bytes], cls: type[T], *, slot: int, secret: bytes) -> T:
    """What whoever has the secret reads in the requests: so the search would find it, and it would
    be worth finding."""
    first = next(one for one in holding(sent, mailbox_address(secret)) if b"/mailbox/put" in one)
    put = decode(PutMail, first.partition(b"\n\n")[2])
    return open_mail(put.data, cls, slot=slot, secret=secret)


async def test_no_request_holds_the_secret(tmp_path: Path) -> None:
    sent = list[bytes]()
    async with greeting_world(tmp_path, lambda server: watched(server, sent)) as world:
        greeting = await world.invite()
        await world.both(greeting)
    assert len(sent) > 10
    assert not list(holding(sent, greeting.secret))
    found = opened(sent, PersonInvitation, slot=INVITATION, secret=greeting.secret)
    assert found.email == b"bob@acme.example"


async def add_device(world: World) -> JoinCode:
    """Two devices of one person side by side; the code that went from one to the other."""
    codes, received = trio.open_memory_channel[str](1)
    used: list[JoinCode] = []

    async def yes(request: JoinRequest) -> bool:
        return True

    async def joining() -> None:
        code = parse_code(await received.receive())
        used.append(code)
        await join(
            Home(root=world.folder / "desktop"),
            code,
            "desktop",
            show_request=lambda request: None,
            clients=world.server.http,
        )

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(joining)
            await invite(
                world.alice,
                states=(),
                show_code=codes.send_nowait,
                confirm=yes,
                clients=world.server.http,
            )
    return used[0]


async def test_no_request_holds_the_secret_of_a_device_code(tmp_path: Path) -> None:
    sent = list[bytes]()
    async with greeting_world(tmp_path, lambda server: watched(server, sent)) as world:
        code = await add_device(world)
    assert len(sent) > 10
    assert not list(holding(sent, code.secret))
    found = opened(sent, Invitation, slot=INVITATION, secret=code.secret)
    assert found.label == b"first"

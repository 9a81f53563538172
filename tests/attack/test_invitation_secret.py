"""The secret of an invitation's link, of a person or of a device, in what the server is sent (A05).

Data flow: both sides of an invitation -> every request of theirs, recorded -> search.

The link's secret is behind `#`, so that no program sends it anywhere, and it is worth an attempt to
be greeted, and every message of the greeting. The server has all messages; with the secret it
would read them.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import httpx

from parsec_fs.greeting import INVITATION, DeviceInvitation, PersonInvitation
from parsec_fs.joining import mailbox_address, open_mail
from parsec_fs.protocol.codec import decode
from parsec_fs.protocol.commands import PutMail
from tests.support.encodings import encodings, in_base32
from tests.support.greeting_world import greeting_world
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


async def test_no_request_holds_the_secret_of_a_device_link(tmp_path: Path) -> None:
    sent = list[bytes]()
    async with greeting_world(tmp_path, lambda server: watched(server, sent)) as world:
        greeting = await world.invite_device()
        await world.both(greeting)
    assert len(sent) > 10
    assert not list(holding(sent, greeting.secret))
    found = opened(sent, DeviceInvitation, slot=INVITATION, secret=greeting.secret)
    assert found.inviter_name == b"first"

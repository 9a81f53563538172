"""Where a server may send a device for a block: never further inside than it is itself.

Data flow: redirect, peer, names -> `targets` -> addresses to connect to, or OfflineError.
"""

from collections.abc import Sequence
from functools import partial

import httpx
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from parsec_fs.protocol.errors import OfflineError
from parsec_fs.remote.redirects import Reach, Target, reach, targets
from parsec_fs.remote.transport import Transport, http_client

PUBLIC, PRIVATE, HERE = "93.184.216.34", "10.1.2.3", "127.0.0.1"


async def asked(
    location: str,
    peer: str | None = PUBLIC,
    base: str = "http://server.example",
    **names: Sequence[str],
) -> list[Target]:
    async def resolve(host: str, port: int) -> Sequence[str]:
        if host.partition(".")[0] not in names:
            raise OSError("no such host")
        return names[host.partition(".")[0]]

    return await targets(location, base_url=base, peer=peer, resolve=resolve)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        (PUBLIC, Reach.ANYWHERE),
        ("2606:4700::1111", Reach.ANYWHERE),
        (PRIVATE, Reach.NETWORK),
        ("192.168.1.1", Reach.NETWORK),
        ("100.64.0.1", Reach.NETWORK),
        ("fd00::1", Reach.NETWORK),
        (HERE, Reach.MACHINE),
        ("127.8.9.10", Reach.MACHINE),
        ("::1", Reach.MACHINE),
        ("::ffff:127.0.0.1", Reach.MACHINE),
        ("64:ff9b::10.0.0.1", Reach.NETWORK),
        ("2002:7f00:1::", Reach.MACHINE),
        ("169.254.169.254", Reach.NOWHERE),
        ("::ffff:169.254.169.254", Reach.NOWHERE),
        ("fe80::1%eth0", Reach.NOWHERE),
        ("0.0.0.0", Reach.NOWHERE),
        ("::", Reach.NOWHERE),
        ("224.0.0.1", Reach.NOWHERE),
        ("255.255.255.255", Reach.NOWHERE),
    ],
)
def test_from_where_an_address_is_reached(address: str, expected: Reach) -> None:
    assert reach(address) is expected


async def test_storage_of_the_internet() -> None:
    (found,) = await asked("https://s3.example/b/1?sig=a%2Fb", s3=[PUBLIC])
    assert found == Target(
        url=f"https://{PUBLIC}:443/b/1?sig=a%2Fb", host="s3.example", name="s3.example"
    )


@pytest.mark.parametrize("peer", [PUBLIC, PRIVATE, HERE, None])
@pytest.mark.parametrize("inside", [PRIVATE, HERE, "169.254.169.254", "::1", "fe80::1", "0.0.0.0"])
async def test_nobody_is_sent_further_inside(peer: str | None, inside: str) -> None:
    """By address or by a name that leads there; what only the server of this machine may name is
    this machine, and nobody may name what is link-local."""
    host = f"[{inside}]" if ":" in inside else inside
    lawful = peer is not None and reach(inside) <= reach(peer) < Reach.NOWHERE
    for location in (f"http://{host}:8333/b/1", "http://s3.example:8333/b/1"):
        if lawful:
            (found,) = await asked(location, peer, s3=[inside])
            assert found.url == f"http://{host}:8333/b/1"
        else:
            with pytest.raises(OfflineError, match="not its to name"):
                await asked(location, peer, s3=[inside])


async def test_of_several_addresses_the_lawful_ones_count() -> None:
    """A name that is in the internet and here at once (rebinding) is connected to out there."""
    found = await asked("http://s3.example/b/1", s3=[HERE, PUBLIC, "fe80::1"])
    assert [one.url for one in found] == [f"http://{PUBLIC}:80/b/1"]


async def test_the_server_itself_may_store_blocks() -> None:
    (found,) = await asked("http://169.254.1.1:9000/b", peer="169.254.1.1")
    assert found.url == "http://169.254.1.1:9000/b"


@pytest.mark.parametrize(
    "location",
    [
        "",
        "/v1/blocks",
        "//s3.example/b",
        "file:///etc/passwd",
        "gopher://s3.example/b",
        "http://",
        "http:///b",
        "http://user:word@s3.example/b",
        "http://s3.example@127.0.0.1/b",
        "http://s3.example\\@127.0.0.1/b",
        "http://s3.example /b",
        "http://s3.example/b\r\nX: y",
        "http://[::1/b",
        "http://s3.example:99999/b",
        "http://s3.example:port/b",
        "http://unknown.example/b",
    ],
)
async def test_redirects_to_nowhere(location: str) -> None:
    with pytest.raises(OfflineError):
        await asked(location, s3=[PUBLIC])


async def test_never_from_https_to_http() -> None:
    with pytest.raises(OfflineError, match="https to http"):
        await asked("http://s3.example/b", base="https://server.example", s3=[PUBLIC])


@given(st.text(), st.sampled_from([PUBLIC, PRIVATE, HERE, None]))
async def test_any_text_is_refused_or_leads_out(text: str, peer: str | None) -> None:
    inside = Reach.ANYWHERE if peer is None else reach(peer)
    for location in (text, f"http://{text}", f"http://{text}/b"):
        try:
            found = await asked(location, peer, s3=[PUBLIC])
        except OfflineError:
            continue
        for one in found:
            url = httpx.URL(one.url)
            assert reach(url.host) <= inside


async def test_presigned_urls_stay_out_of_errors() -> None:
    async def fail(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    async with httpx.AsyncClient(transport=httpx.MockTransport(fail)) as client:
        transport = Transport(client, "http://server.example")
        with pytest.raises(OfflineError) as caught:
            await transport.send("GET", "https://s3.example/b?sig=secret", b"", {})
        assert "secret" not in str(caught.value)
        with pytest.raises(OfflineError) as caught:
            await transport.send("POST", "/v1/server/info", b"", {})
    assert str(caught.value) == "the server at http://server.example cannot be reached: refused"


async def test_the_address_of_an_answer_is_known(nursery: trio.Nursery) -> None:
    """Over a real socket, which the server closes at once."""

    async def serve(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nbytes")
        await stream.aclose()

    listeners = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
    port = listeners[0].socket.getsockname()[1]
    async with http_client() as client:
        answer = await Transport(client, f"http://127.0.0.1:{port}").send("GET", "/", b"", {})
    assert (answer.body, answer.peer) == (b"bytes", "127.0.0.1")

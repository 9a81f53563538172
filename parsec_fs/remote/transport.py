"""The device's door to the server: httpx, timeouts, size caps, error mapping.

Data flow: server_client, blocks, events -> this -> HTTP -> server/http.

Bytes in, bytes out: nothing is believed here. Everything that keeps an answer from arriving whole
is an OfflineError, so that callers know one reaction: keep the work, try again later.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Final

import httpx

from parsec_fs.plain_text import plain
from parsec_fs.protocol.errors import OfflineError
from parsec_fs.protocol.limits import BATCH_MAX_SIZE, KIB
from parsec_fs.remote.bounded import PLAIN, body_of, lines_of

ANSWER_MAX_SIZE: Final = BATCH_MAX_SIZE + 64 * KIB
"""A batch and what frames it; a longer answer is cut off (exhaustion)."""

TIMEOUT: Final = httpx.Timeout(30.0, connect=5.0)
_STREAM_TIMEOUT: Final = httpx.Timeout(60.0, connect=5.0)
_LIMITS: Final = httpx.Limits(max_connections=16, max_keepalive_connections=8)


class HttpAnswer:
    """Status, headers and whole body of an answer. `peer`: the address that it came from, if it
    came over a socket."""

    __slots__ = ("body", "headers", "peer", "status")

    def __init__(
        self, status: int, headers: httpx.Headers, body: bytes, peer: str | None = None
    ) -> None:
        self.status = status
        self.headers = headers
        self.body = body
        self.peer = peer


class Transport:
    """HTTP to one base URL. The client is shared and closed by its owner."""

    def __init__(self, client: httpx.AsyncClient, base_url: str) -> None:
        self._client = client
        self.base_url = base_url.rstrip("/")

    async def send(
        self,
        method: str,
        path: str,
        body: bytes,
        headers: dict[str, str],
        *,
        max_size: int = ANSWER_MAX_SIZE,
        tls_name: str | None = None,
    ) -> HttpAnswer:
        """One request. `path` starts with / or is a whole URL; if that names an address, `tls_name`
        is whose certificate is expected there. Raises OfflineError."""
        url = self.base_url + path if path.startswith("/") else path
        extensions = {} if tls_name is None else {"sni_hostname": tls_name}
        try:
            async with self._client.stream(
                method,
                url,
                content=body,
                headers=headers | PLAIN,
                timeout=TIMEOUT,
                extensions=extensions,
            ) as answer:
                peer = _peer(answer)  # Before the end of the body, which may close the socket.
                data = await body_of(answer, max_size)
                return HttpAnswer(answer.status_code, answer.headers, data, peer)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise OfflineError(self._unreachable(path, error)) from error

    @asynccontextmanager
    async def lines(self, path: str, headers: dict[str, str]) -> AsyncIterator[AsyncIterator[str]]:
        """Lines of an endless answer (events). Raises OfflineError, also between lines."""
        try:
            async with self._client.stream(
                "GET", self.base_url + path, headers=headers | PLAIN, timeout=_STREAM_TIMEOUT
            ) as answer:
                if answer.status_code != httpx.codes.OK:
                    raise OfflineError(f"GET {path}: status {answer.status_code}")
                async with aclosing(lines_of(answer)) as lines:
                    yield lines
        except httpx.HTTPError as error:
            raise OfflineError(self._unreachable(path, error)) from error

    def _unreachable(self, path: str, error: Exception) -> str:
        """For people. Behind the question mark of a presigned URL is what it takes to use it."""
        place = f"the server at {self.base_url}" if path.startswith("/") else path.partition("?")[0]
        why = str(error) or type(error).__name__
        return plain(f"{place} cannot be reached: {why}")


def _peer(answer: httpx.Response) -> str | None:
    stream = answer.extensions.get("network_stream")
    try:
        address = None if stream is None else stream.get_extra_info("server_addr")
    except OSError:
        return None
    return None if address is None else str(address[0])


HttpClients = Callable[[], httpx.AsyncClient]
"""Makes the client of a program; tests make one that goes straight into a server."""


def http_client() -> httpx.AsyncClient:
    """A client as the daemon uses it: no proxies from the environment, no redirects followed."""
    return httpx.AsyncClient(timeout=TIMEOUT, limits=_LIMITS, trust_env=False)

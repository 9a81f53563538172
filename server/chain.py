"""One CometBFT node over HTTP: the server's only door to the chain, and its only use of httpx.

Data flow: publisher -> JSON-RPC request -> node -> raw bytes -> `chain_rpc` parsers.
"""

from typing import Final, Protocol

import httpx

from parsec_fs.protocol.chain_rpc import ANSWER_MAX_SIZE, Params, encode_request
from parsec_fs.protocol.errors import OfflineError

TIMEOUT_S: Final = 10.0


class ChainNode(Protocol):
    """What the publisher needs of a node."""

    @property
    def name(self) -> str:
        """For messages."""

    async def call(self, method: str, params: Params) -> bytes:
        """Raw JSON, error answers included. Raises OfflineError."""


class HttpChainNode:
    """A node at a URL. The client is shared and closed by its owner."""

    def __init__(self, url: str, client: httpx.AsyncClient) -> None:
        self._url = url
        self._client = client

    @property
    def name(self) -> str:
        """The URL."""
        return self._url

    async def call(self, method: str, params: Params) -> bytes:
        """See `ChainNode.call`."""
        headers = {"Content-Type": "application/json"}
        body = encode_request(method, params)
        try:
            async with self._client.stream(
                "POST", self._url, content=body, headers=headers
            ) as response:
                return await _bounded(response)
        except httpx.HTTPError as error:
            raise OfflineError(f"chain node {self._url}: {error!r}") from error


def new_client() -> httpx.AsyncClient:
    """A client for `HttpChainNode`; proxies of the environment are not for the chain."""
    return httpx.AsyncClient(timeout=TIMEOUT_S, trust_env=False)


async def _bounded(response: httpx.Response) -> bytes:
    body = bytearray()
    async for part in response.aiter_bytes():
        body += part
        if len(body) > ANSWER_MAX_SIZE:
            raise OfflineError("chain node answers without end")
    return bytes(body)

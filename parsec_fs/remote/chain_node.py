"""One chain node over HTTP.

Data flow: light client -> JSON-RPC request -> node -> raw bytes -> `chain_rpc` parsers.

Bytes in, bytes out: nothing is believed here. The answer is cut off at the size that the parsers
accept, so that a node cannot fill memory.
"""

import httpx

from parsec_fs.protocol.chain_rpc import ANSWER_MAX_SIZE, Params, encode_request
from parsec_fs.protocol.errors import OfflineError


class HttpChainNode:
    """Door to one CometBFT node. The client is shared and closed by its owner."""

    def __init__(self, url: str, client: httpx.AsyncClient) -> None:
        self._url = url
        self._client = client

    @property
    def name(self) -> str:
        """The URL."""
        return self._url

    async def call(self, method: str, params: Params) -> bytes:
        """Raw JSON, error answers included. Raises OfflineError."""
        headers = {"Content-Type": "application/json"}
        body = encode_request(method, params)
        try:
            async with self._client.stream(
                "POST", self._url, content=body, headers=headers
            ) as answer:
                return await _bounded(answer)
        except httpx.HTTPError as error:
            raise OfflineError(f"chain node {self._url}: {error!r}") from error


async def _bounded(answer: httpx.Response) -> bytes:
    body = bytearray()
    async for part in answer.aiter_bytes():
        body += part
        if len(body) > ANSWER_MAX_SIZE:
            raise OfflineError("chain node answers without end")
    return bytes(body)

"""One chain node over HTTP.

Data flow: light client -> JSON-RPC request -> node -> raw bytes -> `chain_rpc` parsers.

Bytes in, bytes out: nothing is believed here. The answer is cut off at the size that the parsers
accept, so that a node cannot fill memory.
"""

import httpx

from parsec_fs.protocol.chain_rpc import ANSWER_MAX_SIZE, Params, encode_request
from parsec_fs.protocol.errors import OfflineError
from parsec_fs.remote.bounded import PLAIN, body_of


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
        headers = PLAIN | {"Content-Type": "application/json"}
        body = encode_request(method, params)
        try:
            async with self._client.stream(
                "POST", self._url, content=body, headers=headers
            ) as answer:
                return await body_of(answer, ANSWER_MAX_SIZE)
        except httpx.HTTPError as error:
            raise OfflineError(f"chain node {self._url}: {error!r}") from error

"""The metadata server as the audit asks it.

Data flow: auditor -> this -> remote/server_client.
"""

from typing import Final

from parsec_fs.protocol.commands import Epochs
from parsec_fs.protocol.ids import LogId
from parsec_fs.protocol.records import LeafHeader
from parsec_fs.remote.server_client import ServerClient

_MOST: Final = 1000


class ServerDoor:
    """See `ports.EpochServer`. Nothing that comes through is verified, except heads."""

    def __init__(self, client: ServerClient) -> None:
        self._client = client

    async def read_epochs(self, start: int, most: int, logs: tuple[LogId, ...]) -> Epochs:
        """Openings of consecutive epochs."""
        return await self._client.read_epochs(start, most, logs)

    async def read_headers(self, log: LogId, size: int) -> list[LeafHeader]:
        """The first `size` leaf headers, as many as the server shows."""
        headers: list[LeafHeader] = []
        while len(headers) < size:
            answer = await self._client.read_leaves(log, len(headers), _MOST)
            if not answer.leaves:
                break
            headers += [leaf.header for leaf in answer.leaves]
        return headers[:size]

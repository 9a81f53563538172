"""Which logs have grown: the server's event stream, reconnected for ever (rules 28, 33).

Data flow: server/http/events -> this -> sync pulls. A hint and nothing more: a server that keeps
silent delays, until the next regular pull; it cannot make a device believe anything.
"""

import logging
from collections.abc import Callable
from typing import Final

import trio

from parsec_fs.protocol.errors import DataError, ParsecFSError
from parsec_fs.protocol.ids import LogId
from parsec_fs.remote.sessions import Signer

log = logging.getLogger(__name__)

PATH: Final = "/v1/events"
_FIRST_DELAY_S: Final = 0.25
_LONGEST_DELAY_S: Final = 30.0
_ID_SIZE: Final = 32


class EventStream:
    """Events of all logs that this device may read."""

    def __init__(self, signer: Signer) -> None:
        self._signer = signer
        self.connected = False

    async def follow(self, on_event: Callable[[LogId | None], None]) -> None:
        """Call `on_event` for every log that has grown, and with None after each (re)connection:
        what happened before it is not announced. Ends only by cancellation."""
        delay = _FIRST_DELAY_S
        while True:
            try:
                await self._follow_once(on_event)
                delay = _FIRST_DELAY_S
            except ParsecFSError as error:
                log.info("events: %s; again in %.1f s", error, delay)
                delay = _FIRST_DELAY_S if self.connected else min(2 * delay, _LONGEST_DELAY_S)
            finally:
                self.connected = False
            await trio.sleep(delay)

    async def _follow_once(self, on_event: Callable[[LogId | None], None]) -> None:
        headers = await self._signer.headers("GET", PATH)
        async with self._signer.transport.lines(PATH, headers) as lines:
            async for line in lines:
                if not self.connected:
                    # The first line: from now on the server remembers us.
                    self.connected = True
                    on_event(None)
                if line.startswith("data:"):
                    on_event(_log_id(line))


def _log_id(line: str) -> LogId:
    try:
        raw = bytes.fromhex(line.removeprefix("data:").strip())
    except ValueError as error:
        raise DataError("event without a log id") from error
    if len(raw) != _ID_SIZE:
        raise DataError("event without a log id")
    return LogId(raw)

"""`GET /v1/events`: a stream of the ids of logs that have grown (rules 28, 33).

Server-sent events: each is one `data:` line with a log id in hex. A stream begins
with the comment `: open`, so that a device knows from when on it misses nothing.
"""

from collections.abc import AsyncIterator

import anyio
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route

from parsec_fs.protocol.commands import Outcome
from server.http.endpoint import authenticate, route
from server.http.services import Services
from server.log.sequencer import Caller


def routes(services: Services) -> list[Route]:
    """Data flow: announcer -> logs that the device may read -> stream."""

    async def events(request: Request) -> object:
        caller = authenticate(services, request, b"")
        if isinstance(caller, Outcome):
            return caller
        if services.announcer.streams(caller) >= services.config.quotas.streams_per_device:
            return Outcome.QUOTA
        return StreamingResponse(
            _stream(services, caller),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-store"},
        )

    return [route(services, "/v1/events", "GET", events)]


async def _stream(services: Services, caller: Caller) -> AsyncIterator[bytes]:
    timing = services.config.timing
    subscription = services.announcer.subscribe(caller)
    try:
        yield b": open\n\n"
        deadline = anyio.current_time() + timing.stream_s
        while anyio.current_time() < deadline:
            grown = []
            with anyio.move_on_after(timing.keep_alive_s):
                grown = await subscription.take()
            if not grown:
                yield b": alive\n\n"
            for log in grown:
                if await services.reader.may_read(caller, log) is Outcome.OK:
                    yield f"data: {log.hex()}\n\n".encode()
    finally:
        services.announcer.unsubscribe(subscription)

"""`GET /v1/events`: a stream of the ids of logs that have grown (rules 28, 33).

Data flow: sequencer -> announcer -> this -> remote/events of every listening device.

Whoever loses the right to read a log is told of it once more, by the leaf that took it: the
device then asks, is refused, and says so. Server-sent events: each is one `data:` line with a log
id in hex. A stream begins with the comment `: open`, so that a device knows from when on it misses
nothing.
"""

from collections.abc import AsyncIterator

import anyio
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route

from parsec_fs.protocol.commands import Outcome
from parsec_fs.protocol.hashing import sha256
from parsec_fs.protocol.ids import LogId
from server.announcer import Subscription
from server.http.endpoint import authenticate, route
from server.http.services import Services
from server.log.sequencer import Caller


def routes(services: Services) -> list[Route]:
    """Data flow: announcer -> logs that the device may read -> stream."""

    async def events(request: Request) -> object:
        caller = await authenticate(services, request, sha256(b""))
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
        subscription.readable |= await _readable(services, caller)
        yield b": open\n\n"
        deadline = anyio.current_time() + timing.stream_s
        while anyio.current_time() < deadline and not services.announcer.closed:
            yield await _next(services, subscription)
    finally:
        services.announcer.unsubscribe(subscription)


async def _next(services: Services, subscription: Subscription) -> bytes:
    """Events of the logs that have grown, or a sign of life; the device may read them all, or
    could until now."""
    grown = list[LogId]()
    with anyio.move_on_after(services.config.timing.keep_alive_s):
        grown = await subscription.take()
    told = [log for log in grown if await _concerns(services, subscription, log)]
    return b"".join(b"data: %s\n\n" % log.hex().encode() for log in told) or b": alive\n\n"


async def _readable(services: Services, caller: Caller) -> set[LogId]:
    realms = await services.reader.realms(caller)
    if isinstance(realms, Outcome):
        return set()
    return {LogId(caller.org), *map(LogId, realms.realms)}


async def _concerns(services: Services, subscription: Subscription, log: LogId) -> bool:
    could = log in subscription.readable
    subscription.readable.discard(log)
    can = await services.reader.may_read(subscription.caller, log) is Outcome.OK
    if can:
        subscription.readable.add(log)
    return can or could

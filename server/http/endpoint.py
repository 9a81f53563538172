"""From HTTP to a decided command and back: limits, authentication, decoding, one outcome table.

Data flow: request -> bounded body -> `Caller` -> record -> handler -> `Answer` with a status.

A handler returns the answer's record or an Outcome. Whatever else happens is logged here and
answered UNAVAILABLE without details: no traceback ever leaves the server.
"""

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import anyio
import anyio.to_thread
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from parsec_fs.protocol.codec import decode
from parsec_fs.protocol.commands import AUTH_HEADER, Outcome, ok, refused
from parsec_fs.protocol.errors import DataError
from parsec_fs.protocol.hashing import sha256
from parsec_fs.protocol.ids import Hash
from parsec_fs.protocol.limits import BATCH_MAX_SIZE, KIB
from server.http.services import Services
from server.log.sequencer import Caller

T = TypeVar("T")
Handler = Callable[[Caller, T], Awaitable[object]]
OpenHandler = Callable[[T], Awaitable[object]]

log = logging.getLogger(__name__)
requests: Final = logging.getLogger("server.requests")
"""A line per request for operators who ask for it: what was asked, never by whom."""

SMALL: Final = 64 * KIB
MEDIUM: Final = 4096 * KIB
LARGE: Final = BATCH_MAX_SIZE
"""Limits of request bodies."""
BODY_TIMEOUT_S: Final = 60
MEDIA_TYPE: Final = "application/msgpack"

STATUS: Final[dict[Outcome, int]] = {
    Outcome.OK: 200,
    Outcome.BAD_REQUEST: 400,
    Outcome.NOT_AUTHENTICATED: 401,
    Outcome.NOT_ALLOWED: 403,
    Outcome.NOT_FOUND: 404,
    Outcome.EXISTS: 409,
    Outcome.CONFLICT: 409,
    Outcome.STALE_KEY: 409,
    Outcome.BAD_CHAIN: 409,
    Outcome.AFTER_REFUSED: 409,
    Outcome.INVALID: 422,
    Outcome.TOO_LARGE: 413,
    Outcome.QUOTA: 429,
    Outcome.UNAVAILABLE: 503,
    Outcome.MISSING_PAYLOAD: 422,
    Outcome.REVOKED: 403,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A refusal with a status of its own."""

    outcome: Outcome
    status: int


def answer(result: object) -> Response:
    """HTTP response of a handler's result."""
    if isinstance(result, Response):
        return result
    if isinstance(result, Outcome):
        return Response(refused(result), STATUS[result], media_type=MEDIA_TYPE)
    if isinstance(result, Refused):
        return Response(refused(result.outcome), result.status, media_type=MEDIA_TYPE)
    return Response(ok(result), media_type=MEDIA_TYPE)


def command(
    services: Services, path: str, cls: type[T], handler: Handler[T], *, limit: int = SMALL
) -> Route:
    """Route of a signed command."""

    async def run(request: Request) -> object:
        body = await read_body(request, limit)
        if isinstance(body, Outcome):
            return body
        digest = await hash_of(services, request, body)
        if isinstance(digest, Outcome):
            return digest
        caller = await authenticate(services, request, digest)
        if isinstance(caller, Outcome):
            return caller
        return await handler(caller, await _decode(cls, body))

    return route(services, path, "POST", run)


def open_command(
    services: Services, path: str, cls: type[T], handler: OpenHandler[T], *, limit: int = SMALL
) -> Route:
    """Route of a command that nobody signs; limited per client address."""

    async def run(request: Request) -> object:
        address = request.client.host if request.client else ""
        if services.unsigned_limits.take(address) is None:
            return Outcome.QUOTA
        body = await read_body(request, limit)
        if isinstance(body, Outcome):
            return body
        return await handler(await _decode(cls, body))

    return route(services, path, "POST", run)


def route(
    services: Services, path: str, method: str, run: Callable[[Request], Awaitable[object]]
) -> Route:
    """A route that answers whatever happens; closed until the server is known to be the newest."""

    async def endpoint(request: Request) -> Response:
        requests.debug("event=request method=%s path=%s", method, path)
        try:
            if not services.is_open():
                return answer(Outcome.UNAVAILABLE)
            return answer(await run(request))
        except DataError:
            return answer(Outcome.BAD_REQUEST)
        except ClientDisconnect:
            return answer(Outcome.BAD_REQUEST)  # nobody reads it
        except Exception:
            log.exception("%s %s failed", method, path)
            return answer(Outcome.UNAVAILABLE)

    return Route(path, endpoint, methods=[method])


async def authenticate(services: Services, request: Request, body_hash: Hash) -> Caller | Outcome:
    """The device that signed this request over this body; REVOKED if it was revoked since it
    exists, so that it can say so; QUOTA if it sends too many."""
    caller = services.sessions.authenticate(
        request.headers.get(AUTH_HEADER),
        method=request.method,
        path=request.url.path,
        body_hash=body_hash,
    )
    if isinstance(caller, Caller) and services.request_limits.take(caller) is None:
        return Outcome.QUOTA
    if isinstance(caller, Caller) and await services.reader.is_revoked(caller):
        return Outcome.REVOKED
    return caller


async def read_body(request: Request, limit: int) -> bytes | Outcome:
    """The body, at most `limit` bytes, whatever its headers say."""
    declared = request.headers.get("content-length", "0")
    if not declared.isdecimal() or int(declared) > limit:
        return Outcome.TOO_LARGE
    with anyio.move_on_after(BODY_TIMEOUT_S):
        async with aclosing(_bounded(request, limit)) as parts:
            body = b"".join([part async for part in parts])
            return body if len(body) <= limit else Outcome.TOO_LARGE
    return Outcome.BAD_REQUEST


async def _bounded(request: Request, limit: int) -> AsyncGenerator[bytes, None]:
    """Parts of the body, until there are more bytes than allowed."""
    size = 0
    async with aclosing(request.stream()) as parts:
        async for part in parts:
            yield part
            size += len(part)
            if size > limit:
                return


async def hash_of(services: Services, request: Request, body: bytes) -> Hash | Outcome:
    """SHA-256 of a body, for `authenticate`: only of one that names an open session, so that no
    stranger makes the server hash 16 MiB. Of a block it takes a millisecond: not on the event
    loop."""
    if not services.sessions.is_open(request.headers.get(AUTH_HEADER)):
        return Outcome.NOT_AUTHENTICATED
    if len(body) <= SMALL:
        return sha256(body)
    return await anyio.to_thread.run_sync(sha256, body)


async def _decode(cls: type[T], body: bytes) -> T:
    """Large bodies take milliseconds: not on the event loop."""
    if len(body) <= SMALL:
        return decode(cls, body)
    return await anyio.to_thread.run_sync(_decode_now, cls, body)


def _decode_now(cls: Any, body: bytes) -> Any:
    return decode(cls, body)

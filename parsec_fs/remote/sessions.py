"""Signed requests: sessions with the server, one request at a time in each (rule 33).

Data flow: server_client, blocks -> `Signer.send` -> transport.

A session's counter must arrive in growing order, and parallel requests overtake each other: so a
request borrows a session for itself, and there are as many sessions as requests run in parallel.
A session that the server no longer knows is replaced, and the request sent once more.
"""

import time
from collections.abc import Callable
from typing import Final

import trio

from parsec_fs.protocol.codec import decode, encode, encode_trusted
from parsec_fs.protocol.commands import (
    AUTH_HEADER,
    STORAGE_FULL,
    Answer,
    OpenSession,
    Outcome,
    SessionOpened,
    request_to_sign,
    sign_request,
)
from parsec_fs.protocol.errors import (
    DataError,
    DeviceRevokedError,
    OfflineError,
    RefusedError,
    StorageFullError,
)
from parsec_fs.protocol.hashing import sha256
from parsec_fs.protocol.ids import DeviceId, Hash, OrgId, ServerLogId
from parsec_fs.protocol.keys import SigningKey
from parsec_fs.protocol.limits import KIB, SESSION_LIFETIME_S
from parsec_fs.remote.transport import ANSWER_MAX_SIZE, HttpAnswer, Transport

_RENEW_BEFORE_S: Final = 30
_HASHED_AT_ONCE: Final = 64 * KIB
OPEN_PATH: Final = "/v1/session/open"


class _Session:
    __slots__ = ("counter", "expires", "id", "nonce")

    def __init__(self, opened: SessionOpened, now: float) -> None:
        self.id = opened.session
        self.nonce = opened.nonce
        self.counter = 0
        self.expires = now + SESSION_LIFETIME_S - _RENEW_BEFORE_S


class Signer:
    """Sends requests signed by one device to one server."""

    def __init__(
        self,
        transport: Transport,
        *,
        server_log: ServerLogId,
        org: OrgId,
        device: DeviceId,
        key: SigningKey,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.transport = transport
        self._server_log = server_log
        self._org = org
        self._device = device
        self._key = key
        self._clock = clock
        self._idle: list[_Session] = []

    async def send(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        *,
        body_hash: Hash | None = None,
        max_size: int = ANSWER_MAX_SIZE,
    ) -> HttpAnswer:
        """One signed request, repeated under a new session if the old one has expired.
        `body_hash`: its SHA-256, where that is known. A large body is hashed in a thread: of 16 MiB
        it takes 15 ms, and the event loop serves the mount. Raises OfflineError, RefusedError."""
        if body_hash is None:
            large = len(body) > _HASHED_AT_ONCE
            body_hash = await trio.to_thread.run_sync(sha256, body) if large else sha256(body)
        answer = await self._send_once(method, path, body, body_hash, max_size)
        if is_unauthenticated(answer):
            self._idle.clear()
            answer = await self._send_once(method, path, body, body_hash, max_size)
        return answer

    async def headers(self, method: str, path: str) -> dict[str, str]:
        """Headers of one signed request without a body, for answers that do not end."""
        session = await self._open()
        return self._sign(session, method, path, sha256(b""))

    async def _send_once(
        self, method: str, path: str, body: bytes, body_hash: Hash, max_size: int
    ) -> HttpAnswer:
        session = await self._borrow()
        headers = self._sign(session, method, path, body_hash)
        answer = await self.transport.send(method, path, body, headers, max_size=max_size)
        if not is_unauthenticated(answer):
            self._idle.append(session)
        return answer

    def _sign(self, session: _Session, method: str, path: str, body_hash: Hash) -> dict[str, str]:
        session.counter += 1
        request = request_to_sign(
            server_log=self._server_log,
            org=self._org,
            session=session.id,
            nonce=session.nonce,
            counter=session.counter,
            method=method,
            path=path,
            body_hash=body_hash,
        )
        return {AUTH_HEADER: sign_request(request, self._key)}

    async def _borrow(self) -> _Session:
        now = self._clock()
        while self._idle:
            session = self._idle.pop()
            if session.expires > now:
                return session
        return await self._open()

    async def _open(self) -> _Session:
        request = encode(OpenSession(org=self._org, device=self._device))
        answer = await self.transport.send("POST", OPEN_PATH, request, {})
        opened = decode(SessionOpened, body_of(answer))
        return _Session(opened, self._clock())


def body_of(answer: HttpAnswer) -> bytes:
    """Encoded answer record. Raises RefusedError, StorageFullError, OfflineError, DataError."""
    try:
        unverified = decode(Answer, answer.body, max_size=ANSWER_MAX_SIZE)
    except DataError as error:
        if answer.status >= 400:
            raise OfflineError(f"the server answered with status {answer.status}") from error
        raise
    if unverified.outcome == Outcome.OK:
        return unverified.body
    if unverified.outcome == Outcome.QUOTA and answer.status == STORAGE_FULL:
        raise StorageFullError(outcome_name(unverified.outcome))
    raise error_of(unverified.outcome)


def error_of(outcome: int) -> OfflineError | RefusedError:
    """What an outcome other than OK is to the caller."""
    if outcome == Outcome.UNAVAILABLE:
        return OfflineError("the server is not available")
    kind = DeviceRevokedError if outcome == Outcome.REVOKED else RefusedError
    return kind(outcome_name(outcome))


def outcome_name(outcome: int) -> str:
    """Documented name of an outcome, for people and for `RefusedError.outcome`."""
    known = {int(one): one.name for one in Outcome}
    return known.get(outcome, f"OUTCOME_{outcome}")


_NOT_AUTHENTICATED: Final = encode_trusted(Answer(outcome=Outcome.NOT_AUTHENTICATED, body=b""))


def is_unauthenticated(answer: HttpAnswer) -> bool:
    """True iff the server does not know the session any more."""
    return answer.body == _NOT_AUTHENTICATED

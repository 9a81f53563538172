"""Sessions: which device sends a request, and that it was never sent before (rule 33).

Data flow: session/open -> nonce -> device signs each request -> `Sessions.authenticate` -> Caller.

A session lasts ten minutes. Its counter may be used once per number; requests that travel on
several connections may arrive out of order within a window, as in IPsec's anti-replay (RFC 4303,
3.4.3). Sessions live in memory: after a restart devices open new ones.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from parsec_fs.protocol.commands import (
    OpenSession,
    Outcome,
    SessionOpened,
    parse_authorization,
    request_to_sign,
    verify_request,
)
from parsec_fs.protocol.errors import DataError, SignatureError
from parsec_fs.protocol.ids import Hash, ServerLogId
from parsec_fs.protocol.keys import VerifyKey
from parsec_fs.protocol.limits import SESSION_LIFETIME_S
from server.log.sequencer import Caller

WINDOW: Final = 1024
"""How far a counter may lie behind the highest one: far more than requests in flight."""


@dataclass(slots=True, kw_only=True)
class Session:
    """An open session; `seen` has bit n set if the counter `highest - n` was used."""

    caller: Caller
    key: VerifyKey
    nonce: bytes
    expires: float
    highest: int = -1
    seen: int = 0


def use_counter(session: Session, counter: int) -> int | None:
    """The counter, now marked as used; None if it was used before or lies too far back."""
    if counter > session.highest:
        shift = min(counter - session.highest, WINDOW)
        session.seen = (session.seen << shift | 1) & (1 << WINDOW) - 1
        session.highest = counter
        return counter
    behind = session.highest - counter
    if behind >= WINDOW or session.seen >> behind & 1:
        return None
    session.seen |= 1 << behind
    return counter


class Sessions:
    """All open sessions of this process, the oldest dropped beyond `most`."""

    def __init__(
        self,
        *,
        server_log: ServerLogId,
        most: int,
        monotonic: Callable[[], float],
        random: Callable[[int], bytes],
    ) -> None:
        self._server_log = server_log
        self._most = most
        self._monotonic = monotonic
        self._random = random
        self._sessions: OrderedDict[bytes, Session] = OrderedDict()

    def open(self, request: OpenSession, key: VerifyKey | None) -> SessionOpened:
        """A new session. An unknown device (no key) gets an answer of the same form, which leads
        nowhere and takes no memory: nobody learns which devices exist."""
        opened = SessionOpened(session=self._random(16), nonce=self._random(32))
        if key is not None:
            self._sessions[opened.session] = Session(
                caller=Caller(org=request.org, device=request.device),
                key=key,
                nonce=opened.nonce,
                expires=self._monotonic() + SESSION_LIFETIME_S,
            )
        while len(self._sessions) > self._most:
            self._sessions.popitem(last=False)
        return opened

    def is_open(self, authorization: str | None) -> bool:
        """Does it name a session that goes on? Nothing is proven: `authenticate` does that. Asked
        before work is done for a request that a stranger may have sent."""
        try:
            unverified = parse_authorization(authorization or "")
        except (DataError, SignatureError):
            return False
        session = self._sessions.get(unverified.session)
        return session is not None and session.expires >= self._monotonic()

    def authenticate(
        self, authorization: str | None, *, method: str, path: str, body_hash: Hash
    ) -> Caller | Outcome:
        """Who signed this request, first time and in time."""
        try:
            unverified = parse_authorization(authorization or "")
        except (DataError, SignatureError):
            return Outcome.NOT_AUTHENTICATED
        session = self._sessions.get(unverified.session)
        if session is None or session.expires < self._monotonic():
            self._sessions.pop(unverified.session, None)
            return Outcome.NOT_AUTHENTICATED
        request = request_to_sign(
            server_log=self._server_log,
            org=session.caller.org,
            session=unverified.session,
            nonce=session.nonce,
            counter=unverified.counter,
            method=method,
            path=path,
            body_hash=body_hash,
        )
        try:
            verify_request(request, unverified.signature, key=session.key)
        except SignatureError:
            return Outcome.NOT_AUTHENTICATED
        if use_counter(session, unverified.counter) is None:
            return Outcome.NOT_AUTHENTICATED
        return session.caller

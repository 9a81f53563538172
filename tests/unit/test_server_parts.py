"""The server's small parts: counters of sessions, buckets, clock, leaf stamps, reasons, statuses.

Data flow: values in, values out; no server.
"""

import os

import pytest

from parsec_fs.protocol.codec import encode
from parsec_fs.protocol.commands import Authorization, OpenSession, Outcome
from parsec_fs.protocol.errors import DataError, ParsecFSError, SignatureError, TrustchainError
from parsec_fs.protocol.hashing import EMPTY_MAP
from parsec_fs.protocol.ids import DeviceId, OrgId, ServerLogId
from parsec_fs.protocol.keys import SigningKey
from parsec_fs.protocol.limits import SESSION_LIFETIME_S
from parsec_fs.protocol.log_state import (
    DeviceChainError,
    LogPosition,
    NotAllowedError,
    ReplacedError,
)
from parsec_fs.protocol.realm_state import CommitConflictError, DeletedError, KeyIndexError
from parsec_fs.protocol.records import STAMPS
from server.config import Rate
from server.decisions.effects import next_leaf
from server.decisions.reasons import outcome_of
from server.http.endpoint import STATUS, Refused, answer
from server.limits import Buckets
from server.log.sequencer import Caller
from server.sessions import WINDOW, Session, Sessions, use_counter
from server.store.rows import chunks


def session() -> Session:
    return Session(
        caller=Caller(org=OrgId(bytes(32)), device=DeviceId(bytes(16))),
        key=SigningKey(bytes(32)).verify_key,
        nonce=bytes(32),
        expires=0,
    )


def test_counters_are_used_once_within_a_window() -> None:
    opened = session()
    taken = [0, 1, 5, 3, WINDOW, 2, WINDOW + 4, 5 * WINDOW, 4 * WINDOW + 1]
    assert [use_counter(opened, one) for one in taken] == taken
    for used in (0, 3, 5, WINDOW, WINDOW + 4, 4 * WINDOW, 4 * WINDOW + 1, 5 * WINDOW):
        assert use_counter(opened, used) is None
    assert use_counter(opened, 2**64 - 1) == 2**64 - 1
    assert use_counter(opened, 2**64 - 1) is None


def test_buckets_refill_and_are_separate() -> None:
    now = 0.0
    buckets = Buckets(Rate(per_second=2, burst=3), lambda: now)
    assert [buckets.take("a") for _ in range(4)] == [2, 1, 0, None]
    assert buckets.take("b") == 2
    now = 0.5
    assert buckets.take("a") == 0
    assert buckets.take("a") is None
    now = 100.0
    assert buckets.take("a") == 2


def test_leaf_times_strictly_increase() -> None:
    """Rule 14, where the clock stands still and where it has stepped back."""
    position = LogPosition()
    for now, expected in ((50, 50), (50, 51), (10, 52), (90, 90)):
        leaf = next_leaf(position, STAMPS, b"x", map_root=EMPTY_MAP, org_size=1, now_ms=now)
        assert leaf.header.time_ms == expected
        position.check(leaf, expected_map_root=EMPTY_MAP)
        position = position.after(leaf)


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (DataError(), Outcome.BAD_REQUEST),
        (SignatureError(), Outcome.INVALID),
        (TrustchainError(), Outcome.INVALID),
        (NotAllowedError(), Outcome.NOT_ALLOWED),
        (DeviceChainError(), Outcome.BAD_CHAIN),
        (ReplacedError(), Outcome.CONFLICT),
        (KeyIndexError(), Outcome.STALE_KEY),
        (CommitConflictError(()), Outcome.CONFLICT),
        (DeletedError(), Outcome.INVALID),
    ],
)
def test_reasons(error: ParsecFSError, outcome: Outcome) -> None:
    assert outcome_of(error) is outcome


def test_every_outcome_has_a_status() -> None:
    assert set(STATUS) == set(Outcome)
    for outcome in Outcome:
        assert answer(outcome).status_code == STATUS[outcome]
    assert answer(Refused(outcome=Outcome.QUOTA, status=507)).status_code == 507


def test_chunks() -> None:
    assert list(chunks(range(5), 2)) == [[0, 1], [2, 3], [4]]
    assert list(chunks([], 2)) == []


def test_who_names_no_open_session_is_known_before_anything_is_hashed() -> None:
    now = 0.0
    sessions = Sessions(
        server_log=ServerLogId(bytes(32)), most=2, monotonic=lambda: now, random=os.urandom
    )
    opening = OpenSession(org=OrgId(bytes(32)), device=DeviceId(bytes(16)))
    known = sessions.open(opening, SigningKey(bytes(32)).verify_key)
    unknown = sessions.open(opening, None)

    def header(session: bytes) -> str:
        return encode(Authorization(session=session, counter=1, signature=bytes(64))).hex()

    assert sessions.is_open(header(known.session))
    for stranger in (None, "", "zz", header(unknown.session), header(bytes(16))):
        assert not sessions.is_open(stranger)
    now = SESSION_LIFETIME_S + 1.0
    assert not sessions.is_open(header(known.session))

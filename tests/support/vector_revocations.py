"""Test vectors of revocations: bob with his device, and what may not follow.

Data flow: the org log of `vector_records` -> bob is revoked -> tests/vectors/revocations.json.
"""

from tests.support import reference as ref
from tests.support.reference import ZERO, Plain
from tests.support.vector_formats import Case, Vectors, bad
from tests.support.vector_records import (
    ALICE,
    ALICE_DEVICE,
    BOB,
    BOB_DEVICE,
    CERTIFICATE,
    Log,
    logs,
    user,
)

DEVICE_REVOKED, USER_REVOKED = 9, 10


def revocations() -> Vectors:
    org, _, _ = logs()
    present = ref.map_value(user(BOB, b"bob", 2))
    body = org.certificate(ALICE_DEVICE, USER_REVOKED, present, [BOB])
    before = _bad(org, present)
    org.append(ALICE_DEVICE, CERTIFICATE, body, len(org.leaves))
    org.put(b"user", BOB, [BOB])
    return {
        "log": [org.summary()],
        "bad_leaf": before,
        "bad_leaf_after": _bad_after(org, ref.map_value([BOB])),
    }


def _bad(org: Log, present: bytes) -> list[Case]:
    """What may not end bob."""
    alice = ref.map_value(user(ALICE, b"alice", 1))
    return _leaves(
        org,
        [
            ("nothing-replaced", "ReplacedError", ALICE_DEVICE, USER_REVOKED, ZERO, [BOB]),
            ("oneself", "NotAllowedError", ALICE_DEVICE, USER_REVOKED, alice, [ALICE]),
            ("own-device", "NotAllowedError", ALICE_DEVICE, DEVICE_REVOKED, ZERO, [ALICE_DEVICE]),
            ("by-no-administrator", "NotAllowedError", BOB_DEVICE, USER_REVOKED, alice, [ALICE]),
            ("of-others", "NotAllowedError", BOB_DEVICE, DEVICE_REVOKED, ZERO, [ALICE_DEVICE]),
            ("by-the-root-key", "TrustchainError", bytes(16), USER_REVOKED, present, [BOB]),
            ("unknown", "TrustchainError", ALICE_DEVICE, USER_REVOKED, ZERO, [b"u" * 16]),
        ],
    )


def _bad_after(org: Log, now: bytes) -> list[Case]:
    """What may not follow bob's end."""
    back = user(BOB, b"bob", 2)
    assert isinstance(back, list)
    return _leaves(
        org,
        [
            ("again", "RevokedError", ALICE_DEVICE, USER_REVOKED, now, [BOB]),
            ("comes-back", "RevokedError", ALICE_DEVICE, 2, now, back),
            ("signs-on", "RevokedError", BOB_DEVICE, 4, ZERO, [b"r" * 32, b"c" * 32]),
        ],
    )


def _leaves(org: Log, cases: list[tuple[str, str, bytes, int, bytes, list[Plain]]]) -> list[Case]:
    size = len(org.leaves)
    return [
        bad(
            name,
            error,
            leaf=org.leaf(CERTIFICATE, org.certificate(who, kind, old, one), size).hex(),
        )
        for name, error, who, kind, old, one in cases
    ]

"""Test vectors of user key generations: one that follows the rules, and those that do not.

Data flow: the org log of `vector_records` -> alice's second key -> tests/vectors/user_keys.json.
"""

from tests.support import reference as ref
from tests.support.reference import ZERO, Plain
from tests.support.vector_formats import Case, Vectors, bad
from tests.support.vector_records import (
    ALICE,
    ALICE_DEVICE,
    BOB_DEVICE,
    CERTIFICATE,
    Log,
    filler,
    logs,
    user,
)

USER_KEY = 8
BOX = 1232


def public_key(name: bytes) -> bytes:
    """A valid one without a secret: small coefficients, and some point."""
    return bytes(one & 0x77 for one in filler(name, 1184)) + filler(b"curve" + name, 32)


def content(
    generation: int, key: bytes, devices: tuple[bytes, ...] = (ALICE_DEVICE,)
) -> list[Plain]:
    boxes: list[Plain] = [[one, filler(b"box" + one, BOX)] for one in devices]
    return [ALICE, generation, key, filler(b"previous", BOX), boxes]


def renewed(record: Plain, generation: int, key: bytes) -> list[Plain]:
    """The user's record with another key."""
    assert isinstance(record, list)
    return [*record[:4], generation, key]


def user_keys() -> Vectors:
    org, _, _ = logs()
    first = user(ALICE, b"alice", 1)
    second = renewed(first, 2, public_key(b"second"))
    value = ref.map_value(first)
    body = org.certificate(ALICE_DEVICE, USER_KEY, value, content(2, public_key(b"second")))
    org.append(ALICE_DEVICE, CERTIFICATE, body, len(org.leaves))
    org.put(b"user", ALICE, second)
    return {
        "log": [org.summary()],
        "user": [{"id": ALICE.hex(), "record": ref.pack(second).hex()}],
        "bad_leaf": _bad(org, second, body),
    }


def _bad(org: Log, second: list[Plain], before: bytes) -> list[Case]:
    """What may not follow the second generation."""
    now, third = ref.map_value(second), public_key(b"third")
    big = b"\xff\xff\xff" + third[3:]
    point = third[:1184] + bytes(32)
    again = content(2, public_key(b"second"))
    other = renewed(second, 3, third)
    cases: list[tuple[str, str, bytes, int, bytes, list[Plain]]] = [
        ("generation-skipped", "TrustchainError", ALICE_DEVICE, USER_KEY, now, content(4, third)),
        ("generation-again", "TrustchainError", ALICE_DEVICE, USER_KEY, now, again),
        (
            "old-value-replaced",
            "ReplacedError",
            ALICE_DEVICE,
            USER_KEY,
            ref.map_value(user(ALICE, b"alice", 1)),
            content(3, third),
        ),
        ("nothing-replaced", "ReplacedError", ALICE_DEVICE, USER_KEY, ZERO, content(3, third)),
        ("another-users-device", "NotAllowedError", BOB_DEVICE, USER_KEY, now, content(3, third)),
        ("root-key", "TrustchainError", bytes(16), USER_KEY, now, content(3, third)),
        (
            "key-comes-back",
            "TrustchainError",
            ALICE_DEVICE,
            USER_KEY,
            now,
            content(3, public_key(b"second")),
        ),
        ("coefficient-too-large", "DataError", ALICE_DEVICE, USER_KEY, now, content(3, big)),
        ("point-of-small-order", "DataError", ALICE_DEVICE, USER_KEY, now, content(3, point)),
        (
            "box-for-another-user",
            "TrustchainError",
            ALICE_DEVICE,
            USER_KEY,
            now,
            content(3, third, tuple(sorted((ALICE_DEVICE, BOB_DEVICE)))),
        ),
        (
            "device-without-box",
            "TrustchainError",
            ALICE_DEVICE,
            USER_KEY,
            now,
            content(3, third, (BOB_DEVICE,)),
        ),
        ("no-boxes", "DataError", ALICE_DEVICE, USER_KEY, now, content(3, third, ())),
        ("key-in-a-user-record", "TrustchainError", ALICE_DEVICE, 2, now, other),
    ]
    made = [
        (name, error, org.certificate(author, kind, replaces, one))
        for name, error, author, kind, replaces, one in cases
    ]
    made.append(("replayed", "DeviceChainError", before))
    size = len(org.leaves)
    return [
        bad(name, error, leaf=org.leaf(CERTIFICATE, body, size).hex()) for name, error, body in made
    ]

"""Test vectors of revocations: bob with his device, what may not follow, and who owns a realm then.

Data flow: the logs of `vector_records` -> bob is revoked; or alice, the only owner of the realm, by
           carol, another administrator -> tests/vectors/revocations.json.
"""

from tests.support import reference as ref
from tests.support.reference import ZERO, Plain
from tests.support.vector_formats import Case, Vectors, bad
from tests.support.vector_records import (
    ALICE,
    ALICE_DEVICE,
    BOB,
    BOB_DEVICE,
    CAROL,
    CAROL_DEVICE,
    CERTIFICATE,
    COMMIT,
    DEVICE_KIND,
    ROLE,
    USER,
    Log,
    device,
    filler,
    logs,
    object_record,
    register_role,
    user,
)

DEVICE_REVOKED, USER_REVOKED, ROLE_REGISTERED = 9, 10, 11
READER, OWNER = 2, 5


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
        **_ownership(),
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
            ("registers", "RevokedError", BOB_DEVICE, ROLE_REGISTERED, ZERO, [b"c" * 32]),
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


def _ownership() -> Vectors:
    """In the realm, before and after alice is revoked: the org log, and leaves that come next. Each
    is judged by as much of the org log as it names."""
    org, realm, _ = logs()
    carol: list[tuple[int, bytes, bytes, Plain]] = [
        (USER, b"user", CAROL, user(CAROL, b"carol", 1)),
        (DEVICE_KIND, b"device", CAROL_DEVICE, device(CAROL_DEVICE, CAROL)),
    ]
    for kind, name, subject, content in carol:
        _certify(org, ALICE_DEVICE, kind, ZERO, content)
        org.put(name, subject, content)
    before = len(org.leaves)
    alice = ref.map_value(user(ALICE, b"alice", 1))
    _certify(org, CAROL_DEVICE, USER_REVOKED, alice, [ALICE])
    org.put(b"user", ALICE, [ALICE])
    bobs = realm.entries[ref.map_key(b"role", BOB)]
    takes_over = realm.certificate(BOB_DEVICE, ROLE, bobs, [BOB, OWNER])
    register_role(org, BOB_DEVICE, takes_over)
    after = len(org.leaves)
    steps_down = realm.certificate(ALICE_DEVICE, ROLE, ZERO, [ALICE, READER])
    stranger = realm.certificate(CAROL_DEVICE, ROLE, ZERO, [CAROL, OWNER])
    young = [filler(b"young", 16), *object_record(1, ZERO)[1:]]
    by_alice = realm.commit(ALICE_DEVICE, [young])
    good = {
        "taken-over": realm.leaf(CERTIFICATE, takes_over, after),
        "written-before-the-end": realm.leaf(COMMIT, by_alice, before),
    }
    wrong = [
        ("taken-over-from-the-living", "NotAllowedError", CERTIFICATE, takes_over, before),
        ("taken-over-by-a-stranger", "NotAllowedError", CERTIFICATE, stranger, after),
        (
            "not-registered-yet",
            "TrustchainError",
            CERTIFICATE,
            takes_over,
            after - 1,
        ),
        ("last-owner-steps-down", "NotAllowedError", CERTIFICATE, steps_down, before),
        ("written-after-the-end", "RevokedError", COMMIT, by_alice, after),
        ("given-after-the-end", "RevokedError", CERTIFICATE, steps_down, after),
    ]
    return {
        "ownership_org": [org.summary()],
        "realm_leaf": [{"name": name, "leaf": leaf.hex()} for name, leaf in good.items()],
        "bad_realm_leaf": [
            bad(name, error, leaf=realm.leaf(kind, body, org_size).hex())
            for name, error, kind, body, org_size in wrong
        ],
    }


def _certify(org: Log, by: bytes, kind: int, replaces: bytes, content: Plain) -> None:
    body = org.certificate(by, kind, replaces, content)
    org.append(by, CERTIFICATE, body, len(org.leaves))

"""Keys: what they accept, refuse and never show.

Data flow: secret and public bytes -> key objects -> signatures, boxes, hidden representations.
"""

import pytest

from parsec_fs.protocol.errors import DataError, DecryptionError, SignatureError
from parsec_fs.protocol.ids import DeviceId, OrgId, RealmId
from parsec_fs.protocol.keys import (
    CoSigningKey,
    CoVerifyKey,
    SigningKey,
    VerifyKey,
    generate_seed,
)
from parsec_fs.protocol.sealing import (
    BoxKey,
    LocalSealer,
    RealmKey,
    realm_key_box_info,
    seal_box,
    user_key_box_info,
)

SECRET = bytes(range(96))


def test_secrets_are_hidden() -> None:
    for key in (
        SigningKey(SECRET[:32]),
        CoSigningKey(SECRET[:32]),
        BoxKey(SECRET),
        RealmKey(1, SECRET[:32]),
        LocalSealer(SECRET[:32]),
    ):
        assert "hidden" in repr(key)
        assert SECRET[:4].hex() not in repr(key)
        assert str(key) == repr(key)


def test_secrets_come_back_for_the_device_file() -> None:
    assert SigningKey(SECRET[:32]).seed() == SECRET[:32]
    assert BoxKey(SECRET).seed() == SECRET
    assert RealmKey(1, SECRET[:32]).secret() == SECRET[:32]
    assert generate_seed(lambda size: SECRET[:size]) == SECRET[:32]


def test_verify_keys_compare_by_value() -> None:
    one = SigningKey(SECRET[:32]).verify_key
    same = VerifyKey(one.raw)
    other = SigningKey(SECRET[32:64]).verify_key
    assert (one == same, one == other, one == one.raw) == (True, False, False)
    assert len({one, same, other}) == 2
    assert one.raw.hex()[:16] in repr(one)


def test_co_signatures() -> None:
    key = CoSigningKey(SECRET[:32])
    signature = key.sign(b"message")
    assert (len(key.verify_key.raw), len(signature)) == (1312, 2420)
    assert key.verify_key.verify(b"message", signature) == b"message"
    for wrong in (signature[:-1], b"", bytes(2420)):
        with pytest.raises(SignatureError):
            key.verify_key.verify(b"message", wrong)
    with pytest.raises(SignatureError):
        key.verify_key.verify(b"other", signature)
    with pytest.raises(DataError):
        CoVerifyKey(bytes(5))


def test_boxes_open_for_their_key_and_context_alone() -> None:
    key, other = BoxKey(SECRET), BoxKey(SECRET[::-1])
    box = seal_box(b"secret", recipient=key.public, info=b"here")
    assert key.open(box, info=b"here") == b"secret"
    assert box != seal_box(b"secret", recipient=key.public, info=b"here")
    for wrong, info in ((key, b"there"), (other, b"here")):
        with pytest.raises(DecryptionError):
            wrong.open(box, info=info)


def test_malformed_box_keys_are_refused() -> None:
    with pytest.raises(DataError):
        BoxKey(SECRET[:95])
    with pytest.raises(DataError):
        seal_box(b"secret", recipient=bytes(5), info=b"")
    with pytest.raises(DataError):
        seal_box(b"secret", recipient=b"\xff" * 1216, info=b"")
    with pytest.raises(DataError):
        seal_box(b"secret", recipient=BoxKey(SECRET).public[:1184] + bytes(32), info=b"")


def test_box_contexts_differ_in_every_field() -> None:
    org, realm, device = OrgId(b"o" * 32), RealmId(b"r" * 32), DeviceId(b"d" * 16)
    user, other = b"u" * 16, b"v" * 16
    infos = {
        realm_key_box_info(org, realm, 1, user, 1),
        realm_key_box_info(org, realm, 2, user, 1),
        realm_key_box_info(org, realm, 1, other, 1),
        realm_key_box_info(org, realm, 1, user, 2),
        user_key_box_info(org, user, 1, device),
        user_key_box_info(org, other, 1, device),
        user_key_box_info(org, user, 2, device),
    }
    assert len(infos) == 7

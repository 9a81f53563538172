"""A malicious owner shows two members two texts in one file (A14).

Data flow: two realm keys -> one ciphertext that is authentic under both -> each member's opening.

The manifest is one, its hash is signed, its tag holds for both keys, and what either member reads
was chosen by the owner: plain AES-GCM opens it twice. What stops that is the commitment to the
message's key in front of the ciphertext, which is derived beside that key.
"""

from itertools import count

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from parsec_fs.protocol.errors import DecryptionError
from parsec_fs.protocol.hashing import sha256
from parsec_fs.protocol.ids import DeviceId, ObjectId, OrgId, RealmId
from parsec_fs.protocol.sealing import ManifestContext, RealmKey, open_manifest, seal_manifest
from tests.support.two_keys import BLOCK, GcmKey, ciphertext_for_both

INDEX = 3
CONTEXT = ManifestContext(
    org=OrgId(bytes(32)),
    realm=RealmId(bytes(32)),
    object=ObjectId(bytes(16)),
    version=1,
    author=DeviceId(bytes(16)),
)
PLACE = CONTEXT.encode(INDEX)
BOB, CAROL = (RealmKey(INDEX, sha256(bytes([one]))) for one in range(2))
TEXTS = (b"we meet at noon.", b"run, they know!!")
_HEAD, _COMMITMENT = 69, slice(37, 69)


def message_key(key: RealmKey, salt: bytes) -> GcmKey:
    """What this one message is sealed with."""
    okm = key.expand(PLACE + salt)
    return GcmKey(okm[:32], okm[32:44])


def xor(one: bytes, other: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(one, other, strict=True))


def good_salt() -> bytes:
    """Both texts must end in the byte that ends a padding: one salt of 256 does."""
    for number in count():
        salt = sha256(number.to_bytes(4, "big"))
        ends = {message_key(key, salt).stream(4 * BLOCK)[-1] for key in (BOB, CAROL)}
        if len(ends) == 1:
            return salt
    raise AssertionError


SALT = good_salt()
SEALED_WITH = tuple(message_key(key, SALT) for key in (BOB, CAROL))


def for_both() -> bytes:
    """A block for each reader, which is noise to the other; one that makes both tags equal."""
    streams = [key.stream(4 * BLOCK) for key in SEALED_WITH]
    blocks = [
        xor(text, stream[at : at + BLOCK])
        for text, stream, at in zip(TEXTS, streams, (BLOCK, 2 * BLOCK), strict=True)
    ]
    end = bytes(BLOCK - 1) + bytes([streams[0][-1] ^ 0x80])
    return ciphertext_for_both(*SEALED_WITH, b"".join((*blocks, end)), PLACE)


def payload(committed_to: RealmKey | None) -> bytes:
    """The ciphertext as a manifest, with the commitment of one of the keys, or of none."""
    head = bytearray(seal_manifest(b"", key=BOB, context=CONTEXT, salt=SALT)[:_HEAD])
    if committed_to is None:
        head[_COMMITMENT] = bytes(32)
    else:
        honest = seal_manifest(b"", key=committed_to, context=CONTEXT, salt=SALT)
        head[_COMMITMENT] = honest[_COMMITMENT]
    return bytes(head) + for_both()


def test_ciphertext_for_two_keys_opens_under_one_at_most() -> None:
    for own, other, text in ((BOB, CAROL, TEXTS[0]), (CAROL, BOB, TEXTS[1])):
        assert text in open_manifest(payload(own), key=own, expected_context=CONTEXT)
        with pytest.raises(DecryptionError, match="commitment"):
            open_manifest(payload(own), key=other, expected_context=CONTEXT)
        with pytest.raises(DecryptionError, match="commitment"):
            open_manifest(payload(None), key=own, expected_context=CONTEXT)


def test_ciphertext_for_two_keys_without_the_check() -> None:
    """The same bytes, opened by plain AES-GCM: both tags hold, and each reads another text."""
    sealed = payload(None)[_HEAD:]
    for key, text in zip(SEALED_WITH, TEXTS, strict=True):
        assert text in AESGCM(key.key).decrypt(key.nonce, sealed, PLACE)

"""X-Wing boxes by hand: HPKE base mode (RFC 9180) over the X-Wing KEM, opening only.

Data flow: secret seed, box, info -> plaintext == what production says.

From draft-connolly-cfrg-xwing-kem and RFC 9180, with the primitives of `cryptography` alone.
"""

import hashlib
import hmac

from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEM_ID, KDF_ID, AEAD_ID = 0x647A, 0x0001, 0x0002
SUITE_ID = b"HPKE" + b"".join(one.to_bytes(2, "big") for one in (KEM_ID, KDF_ID, AEAD_ID))
XWING_LABEL = bytes.fromhex("5c2e2f2f5e5c")  # \./ above /^\, an X-wing
BASE_MODE = b"\x00"


def open_box(seed: bytes, box: bytes, info: bytes) -> bytes:
    """Plaintext of enc (1,120 bytes) | ciphertext, for 64 + 32 secret bytes."""
    shared = _decapsulate(seed, box[:1120])
    context = BASE_MODE + _extract(b"", b"psk_id_hash", b"") + _extract(b"", b"info_hash", info)
    secret = _extract(shared, b"secret", b"")
    key = _expand(secret, b"key", context, 32)
    nonce = _expand(secret, b"base_nonce", context, 12)
    return AESGCM(key).decrypt(nonce, box[1120:], b"")


def _decapsulate(seed: bytes, enc: bytes) -> bytes:
    curve = X25519PrivateKey.from_private_bytes(seed[64:])
    ct_m, ct_x = enc[:1088], enc[1088:]
    ss_m = MLKEM768PrivateKey.from_seed_bytes(seed[:64]).decapsulate(ct_m)
    ss_x = curve.exchange(X25519PublicKey.from_public_bytes(ct_x))
    pk_x = curve.public_key().public_bytes_raw()
    return hashlib.sha3_256(ss_m + ss_x + ct_x + pk_x + XWING_LABEL).digest()


def _extract(salt: bytes, label: bytes, ikm: bytes) -> bytes:
    return hmac.digest(salt, b"HPKE-v1" + SUITE_ID + label + ikm, "sha256")


def _expand(secret: bytes, label: bytes, info: bytes, size: int) -> bytes:
    info = size.to_bytes(2, "big") + b"HPKE-v1" + SUITE_ID + label + info
    return hmac.digest(secret, info + b"\x01", "sha256")[:size]

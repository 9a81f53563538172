"""Sealing: manifests (key-committing envelope), blocks, key boxes, local data. The only AEAD user.

Data flow: manifest or block -> sealed bytes -> payload or block store; boxes -> certificates.

Manifest envelope (verifiable-history 3.4): one AEAD call under a key derived for this message from
the realm key, a 32-byte salt and the whole context; the context is also the AAD, and a commitment
derived beside the key is stored, so that a ciphertext opens under one key only (attack A14).
    suite 1 | key index 4 | salt 32 | commitment 32 | AES-256-GCM(padded manifest)
Padding is Padme: at most 12 % longer, lengths leak only a bucket (attack A55).
Blocks (rule 5): random id, random single-use key, nonce zero; what comes from elsewhere by its
digest first, then decryption; what was checked when it came, or was sealed here, by its tag.
Boxes: HPKE base mode with X-Wing (ML-KEM-768 + X25519), HKDF-SHA-256, AES-256-GCM.
"""

import hmac
from dataclasses import dataclass
from typing import Final, TypeVar

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hpke import (
    AEAD,
    KDF,
    KEM,
    MLKEM768X25519PrivateKey,
    MLKEM768X25519PublicKey,
    Suite,
)
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from parsec_fs.protocol.errors import DataError, DecryptionError
from parsec_fs.protocol.hashing import sha256, tag
from parsec_fs.protocol.ids import NO_HASH, BlockId, DeviceId, ObjectId, OrgId, RealmId
from parsec_fs.protocol.limits import MANIFEST_MAX_SIZE, SEALED_BLOCK_MAX_SIZE
from parsec_fs.protocol.manifests import BlockRef

SUITE: Final = 1
Sealed = TypeVar("Sealed", bound=bytes | memoryview)
_NONCE: Final = bytes(12)
TAG_SIZE: Final = 16
_HEAD_SIZE: Final = 1 + 4 + 32 + 32
_MANIFEST: Final = tag("manifest")
_BLOCK: Final = tag("block")
_LOCAL: Final = tag("local")
BOX_PUBLIC_SIZE: Final = 1216
BOX_SIZE: Final = 1120 + 32 + TAG_SIZE
"""A box with a realm key."""
USER_BOX_SIZE: Final = 1120 + 96 + TAG_SIZE
"""A box with the seed of a user key."""
_KEM_PUBLIC_SIZE: Final = 1184
_KEM_VECTOR_SIZE: Final = 1152
_KEM_MODULUS: Final = 3329
_ANY_SCALAR: Final = bytes(32)
"""X25519 clamps it: a multiple of 8, which sends points of small order, and only those, to zero."""


class RealmKey:
    """One generation of a realm's symmetric key: 32 bytes and its index, hidden repr."""

    __slots__ = ("_key", "index")

    def __init__(self, index: int, key: bytes) -> None:
        self.index = index
        self._key = key

    def expand(self, info: bytes) -> bytes:
        """HKDF-Expand to 76 bytes (RFC 5869): key 32, nonce 12, commitment 32."""
        return _hkdf_expand(self._key, info)

    def secret(self) -> bytes:
        """The key bytes, to be sealed into boxes."""
        return self._key

    def __repr__(self) -> str:
        return f"RealmKey({self.index}, hidden)"


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestContext:
    """Where a sealed manifest belongs; another place, version or author does not open it (A08)."""

    org: OrgId
    realm: RealmId
    object: ObjectId
    version: int
    author: DeviceId

    def encode(self, key_index: int) -> bytes:
        """Fixed-width bytes: every field has a known length, so no two contexts collide."""
        return b"%b%b%b%b%b%b%b" % (
            _MANIFEST,
            self.org,
            self.realm,
            self.object,
            self.version.to_bytes(8, "big"),
            key_index.to_bytes(4, "big"),
            self.author,
        )


def seal_manifest(
    manifest: bytes, *, key: RealmKey, context: ManifestContext, salt: bytes
) -> bytes:
    """Sealed payload. `salt` is 32 fresh random bytes: with it the derived key is single-use."""
    place = context.encode(key.index)
    okm = key.expand(place + salt)
    sealed = AESGCM(okm[:32]).encrypt(okm[32:44], _pad(manifest), place)
    return b"%b%b%b%b%b" % (bytes((SUITE,)), key.index.to_bytes(4, "big"), salt, okm[44:], sealed)


def sealed_key_index(sealed: bytes) -> int:
    """Index of the realm key that a payload names. Raises DataError."""
    if not _HEAD_SIZE + TAG_SIZE < len(sealed) <= MANIFEST_MAX_SIZE or sealed[0] != SUITE:
        raise DataError("sealed manifest: wrong size or suite")
    return int.from_bytes(sealed[1:5], "big")


def open_manifest(sealed: bytes, *, key: RealmKey, expected_context: ManifestContext) -> bytes:
    """The manifest bytes. Raises DataError for malformed, DecryptionError for false payloads."""
    if sealed_key_index(sealed) != key.index:
        raise DecryptionError("manifest is sealed under another key", evidence=(sealed,))
    place = expected_context.encode(key.index)
    okm = key.expand(place + sealed[5:37])
    if not hmac.compare_digest(okm[44:], sealed[37:69]):
        raise DecryptionError("key commitment does not match", evidence=(sealed,))
    try:
        padded = AESGCM(okm[:32]).decrypt(okm[32:44], sealed[69:], place)
    except InvalidTag as error:
        raise DecryptionError("manifest does not open", evidence=(sealed,)) from error
    return _unpad(padded)


def padme_size(size: int) -> int:
    """Smallest Padme length that holds `size` bytes (at most 12 % overhead)."""
    if size < 2:
        return size
    exponent = size.bit_length() - 1
    mask = (1 << exponent - exponent.bit_length()) - 1
    return (size + mask) & ~mask


def _pad(data: bytes) -> bytes:
    size = len(data) + 1
    return data + b"\x80" + bytes(padme_size(size) - size)


def _unpad(padded: bytes) -> bytes:
    data = padded.rstrip(b"\x00")
    if not data.endswith(b"\x80"):
        raise DataError("manifest: wrong padding")
    return data[:-1]


def derive(secret: bytes, *, info: bytes, size: int) -> bytes:
    """HKDF-SHA-256 (RFC 5869) without a salt. `secret` is random; `info` begins with a tag."""
    return HKDF(algorithm=SHA256(), length=size, salt=None, info=info).derive(secret)


def _hkdf_expand(key: bytes, info: bytes) -> bytes:
    """Three blocks of HKDF-Expand-SHA-256 (RFC 5869, 2.3); hmac.digest is one C call each."""
    one = hmac.digest(key, info + b"\x01", "sha256")
    two = hmac.digest(key, one + info + b"\x02", "sha256")
    three = hmac.digest(key, two + info + b"\x03", "sha256")
    return (one + two + three)[:76]


def _local_key(key: bytes, info: bytes) -> tuple[bytes, bytes]:
    """Key and nonce of one sealing: the first two blocks of HKDF-Expand, which are enough."""
    one = hmac.digest(key, info + b"\x01", "sha256")
    return one, hmac.digest(key, one + info + b"\x02", "sha256")[:12]


def block_aad(realm: RealmId) -> bytes:
    """What a block is bound to beside its key; its id and digest are bound by the manifest."""
    return _BLOCK + realm


def seal_block(plaintext: bytes, *, realm: RealmId, block_id: BlockId, key: bytes) -> bytes:
    """Ciphertext and tag. `key` is 32 fresh random bytes, never used again (rule 5)."""
    return AESGCM(key).encrypt(_NONCE, plaintext, block_aad(realm) + block_id)


def seal_block_into(
    plaintext: bytes | bytearray | memoryview,
    buffer: bytearray | memoryview,
    *,
    realm: RealmId,
    block_id: BlockId,
    key: bytes,
) -> int:
    """As `seal_block`, into a pooled buffer of len(plaintext) + 16 bytes; returns that size."""
    return AESGCM(key).encrypt_into(_NONCE, plaintext, block_aad(realm) + block_id, buffer)


def block_ref(sealed: bytes | memoryview, *, block_id: BlockId, key: bytes) -> BlockRef:
    """The reference that a manifest keeps of a sealed block."""
    return BlockRef(id=block_id, key=key, digest=sha256(sealed), size=len(sealed) - TAG_SIZE)


def local_ref(*, block_id: BlockId, key: bytes, size: int) -> BlockRef:
    """The reference of a block sealed here whose digest is not taken yet: for this device only."""
    return BlockRef(id=block_id, key=key, digest=NO_HASH, size=size)


def verify_block(sealed: Sealed, *, expected_ref: BlockRef) -> Sealed:
    """The sealed bytes, if size and digest are those of the reference. Raises DecryptionError."""
    _check_size(sealed, expected_ref)
    if sha256(sealed) != expected_ref.digest:
        raise DecryptionError("block digest does not match")
    return sealed


def open_block(
    sealed: bytes | memoryview,
    ref: BlockRef,
    *,
    realm: RealmId,
    buffer: bytearray | None = None,
) -> bytearray:
    """Plaintext of a block. Digest first (attack A16), then AEAD. Raises DecryptionError.

    It is put into `buffer`, if one of ref.size bytes is given, or into a new one.
    """
    verify_block(sealed, expected_ref=ref)
    return open_checked_block(sealed, ref, realm=realm, buffer=buffer)


def open_checked_block(
    sealed: bytes | memoryview,
    ref: BlockRef,
    *,
    realm: RealmId,
    buffer: bytearray | None = None,
) -> bytearray:
    """As `open_block`, by the tag alone: for bytes that were found to have the digest of `ref`
    when they came, or that were sealed here and never left (decision 0020). The tag is no check
    against whoever knows the key. Raises DecryptionError."""
    _check_size(sealed, ref)
    plain = bytearray(ref.size) if buffer is None else buffer
    open_block_into(sealed, plain, ref, realm=realm)
    return plain


def open_block_into(
    sealed: bytes | memoryview, buffer: bytearray | memoryview, ref: BlockRef, *, realm: RealmId
) -> int:
    """As `open_block` for checked ciphertext, into a buffer of ref.size bytes; wiped on failure."""
    try:
        return AESGCM(ref.key).decrypt_into(_NONCE, sealed, block_aad(realm) + ref.id, buffer)
    except InvalidTag as error:
        memoryview(buffer)[:] = bytes(len(buffer))
        raise DecryptionError("block does not open") from error


def _check_size(sealed: bytes | memoryview, ref: BlockRef) -> None:
    if len(sealed) != ref.size + TAG_SIZE or len(sealed) > SEALED_BLOCK_MAX_SIZE:
        raise DecryptionError("block has the wrong size")


class BoxKey:
    """X-Wing private key: 64 bytes of ML-KEM seed and 32 bytes of X25519, hidden repr."""

    __slots__ = ("_key", "_seed", "public")

    def __init__(self, seed: bytes) -> None:
        if len(seed) != 96:
            raise DataError("a box key has 96 secret bytes")
        kem, curve = MLKEM768PrivateKey.from_seed_bytes(seed[:64]), seed[64:]
        exchange = X25519PrivateKey.from_private_bytes(curve)
        self._seed = seed
        self._key = MLKEM768X25519PrivateKey(kem, exchange)
        self.public = kem.public_key().public_bytes_raw() + exchange.public_key().public_bytes_raw()

    def open(self, box: bytes, *, info: bytes) -> bytes:
        """What was sealed to this key in this context. Raises DecryptionError, one error for all
        causes (attack A13)."""
        try:
            return _suite().decrypt(box, self._key, info=info)
        except (InvalidTag, ValueError) as error:
            raise DecryptionError("box does not open") from error

    def seed(self) -> bytes:
        """The 96 secret bytes, for the device file and for boxes to a user's other devices."""
        return self._seed

    def __repr__(self) -> str:
        return "BoxKey(hidden)"


def seal_box(secret: bytes, *, recipient: bytes, info: bytes) -> bytes:
    """Box to an X-Wing public key (1,216 bytes). Authorship comes from the signed certificate."""
    if len(recipient) != BOX_PUBLIC_SIZE:
        raise DataError("a box public key has 1216 bytes")
    try:
        key = MLKEM768X25519PublicKey(
            MLKEM768PublicKey.from_public_bytes(recipient[:1184]),
            X25519PublicKey.from_public_bytes(recipient[1184:]),
        )
        # A point of small order is noticed only here.
        return _suite().encrypt(secret, key, info=info)
    except ValueError as error:
        raise DataError("not a box public key") from error


def check_box_public(key: bytes) -> bytes:
    """The X-Wing public key, if boxes can be sealed to it. Raises DataError.

    FIPS 203 7.2 (coefficients below the modulus) and RFC 7748 6.1 (no point of small order), so
    that server and replicas judge alike whatever library they run."""
    if len(key) != BOX_PUBLIC_SIZE:
        raise DataError("a box public key has 1216 bytes")
    for at in range(0, _KEM_VECTOR_SIZE, 3):
        pair = int.from_bytes(key[at : at + 3], "little")
        if max(pair & 0xFFF, pair >> 12) >= _KEM_MODULUS:
            raise DataError("not an ML-KEM public key")
    try:
        X25519PrivateKey.from_private_bytes(_ANY_SCALAR).exchange(
            X25519PublicKey.from_public_bytes(key[_KEM_PUBLIC_SIZE:])
        )
    except ValueError as error:
        raise DataError("not an X25519 public key") from error
    return key


def _suite() -> Suite:
    return Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)


def realm_key_box_info(
    org: OrgId, realm: RealmId, index: int, user: bytes, generation: int
) -> bytes:
    """Context of a realm key's box (verifiable-history 3.3)."""
    numbers = index.to_bytes(4, "big") + generation.to_bytes(4, "big")
    return tag("realm-key-box") + org + realm + user + numbers


def user_key_box_info(org: OrgId, user: bytes, generation: int, device: DeviceId) -> bytes:
    """Context of a user key's box to one of the user's devices."""
    return tag("user-key-box") + org + user + generation.to_bytes(4, "big") + device


def previous_user_key_info(org: OrgId, user: bytes, generation: int) -> bytes:
    """Context of an older user key's box to the user key of this generation."""
    return tag("previous-user-key") + org + user + generation.to_bytes(4, "big")


def realm_key_context(org: OrgId, realm: RealmId, index: int) -> bytes:
    """What a realm key's commitment and its sealed predecessor are bound to."""
    return org + realm + index.to_bytes(4, "big")


class LocalSealer:
    """Seals what stays on this device (journal, local store) under salted single-use keys."""

    __slots__ = ("_key",)

    def __init__(self, key: bytes) -> None:
        self._key = key

    def seal(self, data: bytes, *, context: bytes, salt: bytes) -> bytes:
        """salt 32 | AES-256-GCM; `salt` is fresh random (attack A12: no counters to roll back)."""
        key, nonce = _local_key(self._key, _LOCAL + context + salt)
        return salt + AESGCM(key).encrypt(nonce, data, context)

    def open(self, sealed: bytes, *, expected_context: bytes) -> bytes:
        """Raises DecryptionError."""
        key, nonce = _local_key(self._key, _LOCAL + expected_context + sealed[:32])
        try:
            return AESGCM(key).decrypt(nonce, sealed[32:], expected_context)
        except (InvalidTag, ValueError) as error:
            raise DecryptionError("local data does not open") from error

    def __repr__(self) -> str:
        return "LocalSealer(hidden)"


def seal_secret(secret: bytes, *, key: bytes, context: bytes, salt: bytes) -> bytes:
    """A small secret under another key: an old realm key under the new one."""
    return LocalSealer(key).seal(secret, context=context, salt=salt)


def open_secret(sealed: bytes, *, key: bytes, expected_context: bytes) -> bytes:
    """Raises DecryptionError."""
    return LocalSealer(key).open(sealed, expected_context=expected_context)

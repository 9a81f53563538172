"""Keys: Ed25519 signatures, ML-DSA-44 co-signatures, X-Wing boxes (HPKE). Hidden repr.

Data flow: key objects are made where they are needed and never leave the device that owns them.

Rule 4, one acceptance rule for Ed25519: keys and R are canonical points that are not of small
order, S is canonical (OpenSSL checks S; the encodings are checked here), one library for everyone.
Verification raises SignatureError; it never returns a bool.
"""

from collections.abc import Callable

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey, MLDSA44PublicKey

from parsec_fs.protocol.errors import DataError, SignatureError

_P = 2**255 - 19
_SMALL_ORDER_Y = frozenset(
    {
        0,
        1,
        _P - 1,
        2707385501144840649318225287225658788936804267575313519463743609750303021540,
        55188659117513257062467267217118295137698188065244968500265048394206261417927,
    }
)


def check_point(encoded: bytes) -> bytes:
    """A canonical encoding of a point that is not of small order. Raises DataError (rule 4)."""
    if len(encoded) != 32:
        raise DataError("an Ed25519 point has 32 bytes")
    y = int.from_bytes(encoded, "little") & ((1 << 255) - 1)
    if y >= _P or y in _SMALL_ORDER_Y:
        raise DataError("not a canonical Ed25519 point of full order")
    return encoded


class VerifyKey:
    """Public half of an Ed25519 signing key."""

    __slots__ = ("_key", "raw")

    def __init__(self, raw: bytes) -> None:
        """Raises DataError for anything but a canonical point of full order."""
        self.raw = check_point(raw)
        self._key = Ed25519PublicKey.from_public_bytes(raw)

    def verify(self, message: bytes, signature: bytes) -> bytes:
        """Returns the message, or raises SignatureError."""
        try:
            check_point(signature[:32])
            self._key.verify(signature, message)
        except (InvalidSignature, DataError) as error:
            raise SignatureError("signature does not verify") from error
        return message

    def __eq__(self, other: object) -> bool:
        return isinstance(other, VerifyKey) and other.raw == self.raw

    def __hash__(self) -> int:
        return hash(self.raw)

    def __repr__(self) -> str:
        return f"VerifyKey({self.raw.hex()[:16]})"


class SigningKey:
    """Ed25519 private key."""

    __slots__ = ("_key", "verify_key")

    def __init__(self, seed: bytes) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self.verify_key = VerifyKey(self._key.public_key().public_bytes_raw())

    def sign(self, message: bytes) -> bytes:
        """64-byte signature."""
        return self._key.sign(message)

    def seed(self) -> bytes:
        """The 32 secret bytes, for the device file alone."""
        return self._key.private_bytes_raw()

    def __repr__(self) -> str:
        return "SigningKey(hidden)"


class CoVerifyKey:
    """Public half of an ML-DSA-44 key (1,312 bytes)."""

    __slots__ = ("_key", "raw")

    def __init__(self, raw: bytes) -> None:
        """Raises DataError."""
        try:
            self._key = MLDSA44PublicKey.from_public_bytes(raw)
        except ValueError as error:
            raise DataError("not an ML-DSA-44 public key") from error
        self.raw = raw

    def verify(self, message: bytes, signature: bytes) -> bytes:
        """Returns the message, or raises SignatureError."""
        try:
            self._key.verify(signature, message)
        except (InvalidSignature, ValueError) as error:
            raise SignatureError("co-signature does not verify") from error
        return message


class CoSigningKey:
    """ML-DSA-44 private key, kept as its 32-byte seed."""

    __slots__ = ("_key", "verify_key")

    def __init__(self, seed: bytes) -> None:
        self._key = MLDSA44PrivateKey.from_seed_bytes(seed)
        self.verify_key = CoVerifyKey(self._key.public_key().public_bytes_raw())

    def sign(self, message: bytes) -> bytes:
        """2,420-byte signature."""
        return self._key.sign(message)

    def __repr__(self) -> str:
        return "CoSigningKey(hidden)"


def generate_seed(random: Callable[[int], bytes]) -> bytes:
    """32 secret bytes from the given source."""
    return random(32)

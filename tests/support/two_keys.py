"""One AES-GCM ciphertext that two keys open, each to another text: GCM does not commit to its key.

Data flow: two keys with nonces, wanted ciphertext -> one block solved in GF(2^128) -> ciphertext.

A tag is GHASH(everything) + mask, and GHASH is linear in each block of the ciphertext: one free
block times H^k, where H follows from the key. Demand equal tags for two keys, and that is one
linear equation for the free block.
"""

from typing import Final, NamedTuple

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import ECB

BLOCK: Final = 16
_ONE: Final = 1 << 127
_POLYNOMIAL: Final = 0xE1 << 120
"""GCM writes the coefficient of the lowest power first (SP 800-38D, 6.3)."""


class GcmKey(NamedTuple):
    """A key and a nonce of 12 bytes."""

    key: bytes
    nonce: bytes

    def stream(self, size: int) -> bytes:
        """What a text of this size is added to."""
        return AESGCM(self.key).encrypt(self.nonce, bytes(size), None)[:size]

    def block(self, plain: bytes) -> int:
        """AES of one block."""
        encryptor = Cipher(AES(self.key), ECB()).encryptor()
        return int.from_bytes(encryptor.update(plain), "big")

    def tag(self, ciphertext: bytes, aad: bytes) -> int:
        """GHASH of padded data and sizes, and the mask."""
        sizes = (8 * len(aad)).to_bytes(8, "big") + (8 * len(ciphertext)).to_bytes(8, "big")
        data, point, digest = _padded(aad) + _padded(ciphertext) + sizes, self.block(bytes(16)), 0
        for at in range(0, len(data), BLOCK):
            digest = times(digest ^ int.from_bytes(data[at : at + BLOCK], "big"), point)
        return digest ^ self.block(self.nonce + b"\0\0\0\1")


def ciphertext_for_both(one: GcmKey, two: GcmKey, rest: bytes, aad: bytes) -> bytes:
    """A free block, `rest`, and a tag that holds under both keys."""
    assert len(rest) % BLOCK == 0
    wanted = one.tag(bytes(BLOCK) + rest, aad) ^ two.tag(bytes(BLOCK) + rest, aad)
    exponent = len(rest) // BLOCK + 2  # the free block, those behind it, and the sizes
    factor = power(one.block(bytes(16)), exponent) ^ power(two.block(bytes(16)), exponent)
    free = times(wanted, power(factor, 2**128 - 2))
    ciphertext = free.to_bytes(BLOCK, "big") + rest
    return ciphertext + one.tag(ciphertext, aad).to_bytes(BLOCK, "big")


def times(one: int, two: int) -> int:
    """Product in GF(2^128)."""
    product = 0
    while two:
        if two & _ONE:
            product ^= one
        two = (two << 1) & (2 * _ONE - 1)
        one = (one >> 1) ^ (_POLYNOMIAL if one & 1 else 0)
    return product


def power(base: int, exponent: int) -> int:
    """By squaring; base ** (2**128 - 2) is the inverse."""
    result = _ONE
    while exponent:
        if exponent & 1:
            result = times(result, base)
        base, exponent = times(base, base), exponent >> 1
    return result


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % BLOCK)

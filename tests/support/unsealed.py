"""parsec-fs with a cipher that does nothing: what a search for secrets must find.

usage: python -m tests.support.unsealed ARGUMENTS OF parsec-fs

Data flow: library's AES-GCM replaced before anything imports it -> the real command line.
"""

from typing import Any

from cryptography.hazmat.primitives.ciphers import aead

TAG = bytes(16)


class Transparent:
    """The interface of AESGCM; the ciphertext is the plaintext and an empty tag."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def encrypt(self, nonce: bytes, data: Any, aad: bytes | None) -> bytes:
        return bytes(data) + TAG

    def encrypt_into(self, nonce: bytes, data: Any, aad: bytes | None, buffer: Any) -> int:
        sealed = self.encrypt(nonce, data, aad)
        memoryview(buffer)[: len(sealed)] = sealed
        return len(sealed)

    def decrypt(self, nonce: bytes, data: Any, aad: bytes | None) -> bytes:
        return bytes(data)[: -len(TAG)]

    def decrypt_into(self, nonce: bytes, data: Any, aad: bytes | None, buffer: Any) -> int:
        plain = self.decrypt(nonce, data, aad)
        memoryview(buffer)[: len(plain)] = plain
        return len(plain)


if __name__ == "__main__":
    aead.AESGCM = Transparent  # type: ignore[assignment]
    from parsec_fs.cli.main import main

    main()

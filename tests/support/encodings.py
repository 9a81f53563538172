"""What a secret looks like in other clothes: for those who search for it.

Data flow: secret -> `encodings` -> patterns to look for in files, logs and requests.
"""

import base64
from collections.abc import Iterator


def encodings(secret: bytes) -> Iterator[bytes]:
    """Raw, hex, UTF-16, base64 at each alignment."""
    yield secret
    yield secret.hex().encode()
    yield secret.hex().upper().encode()
    text = secret.decode("latin-1")
    yield text.encode("utf-16-le")
    yield text.encode("utf-16-be")
    for offset in range(3):
        encoded = base64.b64encode(bytes(offset) + secret)
        inner = encoded[-(-offset * 8 // 6) : (offset + len(secret)) * 8 // 6]
        yield inner
        yield inner.translate(bytes.maketrans(b"+/", b"-_"))


def in_base32(secret: bytes) -> Iterator[bytes]:
    """Base32 at each alignment, as codes and links are written."""
    for offset in range(5):
        encoded = base64.b32encode(bytes(offset) + secret)
        inner = encoded[-(-offset * 8 // 5) : (offset + len(secret)) * 8 // 5]
        yield inner
        yield inner.lower()

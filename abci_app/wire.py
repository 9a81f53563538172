"""ABCI socket framing: an unsigned varint length, then one protobuf message.

Data flow: socket bytes -> `FrameReader` -> request bytes; response bytes -> `frame` -> socket.

The reader is incremental: a read may end anywhere, also inside a length. The cap stops a peer
that announces a message which it never sends from filling memory.
"""

from collections.abc import Iterator
from typing import Final

from parsec_fs.protocol.errors import DataError
from parsec_fs.protocol.protobuf_fields import varint

MESSAGE_MAX_SIZE: Final = 64 * 1024 * 1024
_LENGTH_MAX_BYTES: Final = 4
"""64 MiB fits into four groups of seven bits."""


def frame(message: bytes) -> bytes:
    """One message as it goes over the socket."""
    return varint(len(message)) + message


class FrameReader:
    """Cuts a byte stream into messages. After DataError the connection must be closed."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes | bytearray) -> None:
        """Add what was read from the socket."""
        self._buffer += data

    def messages(self) -> Iterator[bytes]:
        """Every complete message so far, oldest first. Raises DataError."""
        start = 0
        try:
            while (span := self._next_span(start)) is not None:
                start = span[1]
                yield bytes(self._buffer[span[0] : start])
        finally:
            del self._buffer[:start]

    def _next_span(self, offset: int) -> tuple[int, int] | None:
        """(start, end) of the message whose length begins at offset, if it is complete."""
        length = shift = 0
        for position in range(offset, min(len(self._buffer), offset + _LENGTH_MAX_BYTES)):
            byte = self._buffer[position]
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return self._checked_span(position + 1, length)
        if len(self._buffer) - offset >= _LENGTH_MAX_BYTES:
            raise DataError("abci: message length is too long")
        return None

    def _checked_span(self, start: int, length: int) -> tuple[int, int] | None:
        if length > MESSAGE_MAX_SIZE:
            raise DataError(f"abci: message of {length} bytes")
        end = start + length
        return (start, end) if end <= len(self._buffer) else None

"""The few protobuf fields that CometBFT hashes and signs, byte for byte.

Data flow: chain header, vote or proof -> these bytes -> hash or signature check.

A general protobuf library may order or omit fields differently from release to release; what is
hashed must not. So the writer here is explicit: zero values are left out unless the caller says
`message` (nested messages that CometBFT always writes). The reader serves one small message, the
state proof, and raises DataError for anything not written by this writer's rules.
"""

from parsec_fs.protocol.errors import DataError

VARINT = 0
FIXED64 = 1
DELIMITED = 2


def varint(value: int) -> bytes:
    """Unsigned LEB128; a negative int64 is written as its two's complement, ten bytes."""
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _key(number: int, kind: int) -> bytes:
    return varint(number << 3 | kind)


def integer(number: int, value: int) -> bytes:
    """A varint field; nothing when zero."""
    return _key(number, VARINT) + varint(value) if value else b""


def fixed64(number: int, value: int) -> bytes:
    """A sfixed64 field; nothing when zero."""
    if not value:
        return b""
    return _key(number, FIXED64) + value.to_bytes(8, "little", signed=True)


def octets(number: int, value: bytes) -> bytes:
    """A bytes or string field; nothing when empty."""
    return message(number, value) if value else b""


def message(number: int, value: bytes) -> bytes:
    """A nested message, written even when empty."""
    return _key(number, DELIMITED) + varint(len(value)) + value


def timestamp(time_ns: int) -> bytes:
    """google.protobuf.Timestamp of nanoseconds since 1970."""
    seconds, nanos = divmod(time_ns, 1_000_000_000)
    return integer(1, seconds) + integer(2, nanos)


def read_varint(data: bytes, offset: int) -> tuple[int, int]:
    """(value, next offset) of a shortest-form varint below 2^64. Raises DataError."""
    value = shift = 0
    for position in range(offset, min(len(data), offset + 10)):
        byte = data[position]
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            if value >> 64 or (byte == 0 and position > offset):
                raise DataError("varint is too large or not in its shortest form")
            return value, position + 1
    raise DataError("varint is cut short or too long")


def read_fields(data: bytes) -> list[tuple[int, int | bytes]]:
    """(field number, value) in order, for varint and delimited fields. Raises DataError."""
    fields: list[tuple[int, int | bytes]] = []
    offset = 0
    while offset < len(data):
        key, offset = read_varint(data, offset)
        value: int | bytes
        value, offset = read_varint(data, offset)
        if key & 7 == DELIMITED:
            end = offset + value
            value, offset = data[offset:end], end
        elif key & 7 != VARINT:
            raise DataError("protobuf field of an unexpected kind")
        if offset > len(data):
            raise DataError("protobuf field is cut short")
        fields.append((key >> 3, value))
    return fields

"""Identifiers. Each is its own type over bytes; lengths are checked by the codec.

Data flow: drawn at random where a thing is created, then carried everywhere unchanged.

Rule 1: organizations, realms and server logs have 32 bytes, everything else 16; a realm id never
equals its organization id. Ids never come back.
"""

from typing import Final, NewType

OrgId = NewType("OrgId", bytes)
LogId = NewType("LogId", bytes)
"""The log of an organization or a realm has the id of the organization or realm."""
RealmId = NewType("RealmId", bytes)
ServerLogId = NewType("ServerLogId", bytes)
UserId = NewType("UserId", bytes)
DeviceId = NewType("DeviceId", bytes)
ObjectId = NewType("ObjectId", bytes)
BlockId = NewType("BlockId", bytes)
Hash = NewType("Hash", bytes)
"""SHA-256 value."""

LENGTHS: Final[dict[object, int]] = {
    OrgId: 32,
    LogId: 32,
    RealmId: 32,
    ServerLogId: 32,
    Hash: 32,
    UserId: 16,
    DeviceId: 16,
    ObjectId: 16,
    BlockId: 16,
}

NO_HASH: Final = Hash(bytes(32))
"""Stands for "nothing before this one"."""

ROOT_OBJECT: Final = ObjectId(bytes(15) + b"\x01")
"""The root folder of every workspace."""

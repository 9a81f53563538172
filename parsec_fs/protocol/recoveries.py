"""Requests and answers about what a device on paper begins with.

Data flow: device that makes a kit -> recovery/put -> server -> recovery/read -> who has the words.
"""

from dataclasses import dataclass
from typing import Annotated

from parsec_fs.protocol.codec import Size
from parsec_fs.protocol.ids import DeviceId
from parsec_fs.protocol.limits import RECOVERY_MAX_SIZE


@dataclass(frozen=True, slots=True, kw_only=True)
class PutRecovery:
    """recovery/put: what a paper device begins with, public; kept for good, never replaced."""

    device: DeviceId
    data: Annotated[bytes, Size(1, RECOVERY_MAX_SIZE)]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadRecovery:
    """recovery/read (not signed): whoever has only the words knows no organization yet."""

    device: DeviceId


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovery:
    """What was put there; trusted only if the words pin it."""

    data: Annotated[bytes, Size(1, RECOVERY_MAX_SIZE)]

"""What an organization keeps of a device and of a user's keys: since when they count, until when.

Data flow: certificates in log order -> `membership` -> these entries -> keys for everything else.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from parsec_fs.protocol.certificates import Device, User, UserKey
from parsec_fs.protocol.ids import DeviceId
from parsec_fs.protocol.keys import VerifyKey
from parsec_fs.protocol.log_state import RevokedError


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceEntry:
    """A device, the org log index from which it exists, and the one of the leaf that revoked it or
    its user, if one did."""

    device: Device
    index: int
    key: VerifyKey
    revoked: int | None = None

    def check_at(self, org_size: int) -> "DeviceEntry":
        """The device, if no revocation among the first `org_size` leaves ends it (A17). Raises
        RevokedError."""
        if self.revoked is not None and self.revoked < org_size:
            raise RevokedError(
                f"device {self.device.device.hex()} was revoked by leaf {self.revoked} "
                "of the organization's log"
            )
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """One box key of a user, since leaf `index`. `previous` holds an older seed and `boxes` the
    seed of this one for the user's devices; both are empty for the first generation, whose boxes
    are in the devices' own certificates."""

    box_key: bytes
    index: int
    previous: bytes = b""
    boxes: Mapping[DeviceId, bytes] = field(default_factory=lambda: MappingProxyType({}))


def generation_of(content: User | UserKey, index: int) -> Generation:
    """The generation that a certificate at this index makes."""
    if isinstance(content, User):
        return Generation(box_key=content.box_key, index=index)
    return Generation(
        box_key=content.box_key,
        index=index,
        previous=content.previous,
        boxes=MappingProxyType({one.device: one.box for one in content.boxes}),
    )

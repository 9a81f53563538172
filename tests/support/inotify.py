"""inotify(7), as file managers and build tools use it, without a package for it.

Data flow: kernel's events of watched folders -> `Watch.read` -> (what happened, name) pairs.
"""

import ctypes
import os
import select
import struct
from pathlib import Path
from types import TracebackType

EVENTS = {
    0x002: "modify",
    0x004: "attrib",
    0x008: "close_write",
    0x040: "moved_from",
    0x080: "moved_to",
    0x100: "create",
    0x200: "delete",
}
_HEADER = struct.Struct("iIII")
_libc = ctypes.CDLL(None, use_errno=True)

Event = tuple[str, str]


class Watch:
    """Events of the names in one folder."""

    def __init__(self, folder: Path) -> None:
        self._fd = _libc.inotify_init1(os.O_CLOEXEC)
        number = _libc.inotify_add_watch(self._fd, os.fsencode(folder), sum(EVENTS))
        if self._fd < 0 or number < 0:
            raise OSError(ctypes.get_errno(), "inotify")

    def __enter__(self) -> "Watch":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._fd)

    def read(self, timeout_s: float = 0.0) -> list[Event]:
        """Events that are there, in order; the first one is waited for."""
        found: list[Event] = []
        while select.select([self._fd], [], [], 0 if found else timeout_s)[0]:
            found += _parse(os.read(self._fd, 65_536))
        return found


def _parse(data: bytes) -> list[Event]:
    found: list[Event] = []
    while data:
        _, mask, _, length = _HEADER.unpack_from(data)
        name = data[_HEADER.size : _HEADER.size + length].rstrip(b"\0").decode()
        found += [(word, name) for bit, word in EVENTS.items() if mask & bit]
        data = data[_HEADER.size + length :]
    return found

"""What inotify tells a program that watches a folder: the kernel's own interface, nothing between.

Data flow: inotify(7) of this process -> `Watch.events` -> lines such as "CREATE name".
"""

import ctypes
import os
import select
import struct
from pathlib import Path
from types import TracebackType

NAMES = {
    0x2: "MODIFY",
    0x4: "ATTRIB",
    0x8: "CLOSE_WRITE",
    0x40: "MOVED_FROM",
    0x80: "MOVED_TO",
    0x100: "CREATE",
    0x200: "DELETE",
    0x400: "DELETE_SELF",
    0x800: "MOVE_SELF",
}
OPENED = {0x20: "OPEN"}
IS_FOLDER = 0x40000000

_libc = ctypes.CDLL(None, use_errno=True)


class Watch:
    """Everything that happens in some folders or to some files, in order; `opened`: also looks."""

    def __init__(self, *paths: Path, opened: bool = False) -> None:
        self._names = {**NAMES, **OPENED} if opened else NAMES
        self._descriptor = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        assert self._descriptor >= 0, os.strerror(ctypes.get_errno())
        self._cookies: dict[int, str] = {}
        self.seen: list[str] = []
        for path in paths:
            number = _libc.inotify_add_watch(self._descriptor, bytes(path), sum(self._names))
            assert number >= 0, os.strerror(ctypes.get_errno())

    def __enter__(self) -> "Watch":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._descriptor)

    def events(self) -> list[str]:
        """All so far: "KIND name", a folder's name with a slash; a move is one, "MOVED from to"."""
        while select.select([self._descriptor], [], [], 0)[0]:
            data = os.read(self._descriptor, 65536)
            while data:
                _, mask, cookie, size = struct.unpack_from("iIII", data)
                name = os.fsdecode(data[16 : 16 + size].rstrip(b"\0"))
                self._take(mask, cookie, name + "/" * bool(mask & IS_FOLDER))
                data = data[16 + size :]
        return self.seen

    def _take(self, mask: int, cookie: int, name: str) -> None:
        kind = self._names.get(mask & ~IS_FOLDER)
        if kind == "MOVED_FROM":
            self._cookies[cookie] = name
        if kind == "MOVED_TO" and cookie in self._cookies:
            old = self._cookies.pop(cookie)
            self.seen[self.seen.index(f"MOVED_FROM {old}")] = f"MOVED {old} {name}"
        elif kind is not None:
            self.seen.append(f"{kind} {name}".rstrip())

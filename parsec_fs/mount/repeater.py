"""A program of its own that repeats in the mount what another device did, so that watchers see it.

Data flow: mount/watchers (JSON lines on stdin) -> this -> system calls on the mount -> inotify;
    answers (JSON lines on stdout) -> mount/watchers.

The kernel tells watchers what system calls do, never what a FUSE daemon says. A process of its own,
because it waits for the daemon: were it a thread of the daemon, SIGKILL between a request and its
answer would leave a process that cannot end. It does not hold /dev/fuse, so its calls fail when the
daemon is gone. Run by its path, without site packages: only the standard library is imported.
Rules guarded here:
- everything is done below a descriptor of the folder whose device and inode number are the expected
  ones: after an unmount, or under another mount, nothing of anybody is touched;
- what exists already is never replaced: new names are made exclusively;
- a file is touched through a descriptor whose device is the mount's: something else may lie over
  its name, mounted there.
"""

import ctypes
import errno
import json
import os
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

WATCHES = ("anon_inode:inotify", "anon_inode:[fanotify]")
UTIME_NOW, UTIME_OMIT = (1 << 30) - 1, (1 << 30) - 2
AT_EMPTY_PATH = 0x1000

_libc = ctypes.CDLL(None, use_errno=True)

Request = dict[str, Any]


class _Timespec(ctypes.Structure):
    _fields_ = (("tv_sec", ctypes.c_long), ("tv_nsec", ctypes.c_long))


def watched_inodes(device: int, processes: str = "/proc") -> set[int]:
    """Inode numbers on a device that a process watches, of those processes that we may look at."""
    number = f"{os.major(device) << 20 | os.minor(device):x}"
    found: set[int] = set()
    for folder in (f"{processes}/{name}" for name in os.listdir(processes) if name.isdigit()):
        for descriptor in _listed(f"{folder}/fd"):
            found |= _watched_through(folder, descriptor, number)
    return found


def _watched_through(folder: str, descriptor: str, device: str) -> set[int]:
    with suppress(OSError):  # ended or closed meanwhile, or another user's
        if os.readlink(f"{folder}/fd/{descriptor}") in WATCHES:
            return _marks(f"{folder}/fdinfo/{descriptor}", device)
    return set()


def _listed(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _marks(path: str, device: str) -> set[int]:
    """`inotify wd:1 ino:2f sdev:2a mask:...`, numbers in hex; `fanotify ino:...` likewise."""
    found = set()
    with open(path, encoding="ascii") as lines:
        for line in lines:
            fields = dict(part.partition(":")[::2] for part in line.split()[1:])
            if fields.get("sdev") == device and "ino" in fields:
                found.add(int(fields["ino"], 16))
    return found


class Repeater:
    """Does what it is asked for, on one mount."""

    def __init__(self) -> None:
        self.device = 0

    def answer(self, request: Request) -> Request:
        """What a request comes to; `errno` is 0 if it was done."""
        act: Callable[[Request], Request | None] = getattr(self, f"do_{request['do']}")
        try:
            return {"errno": 0, **(act(request) or {})}
        except OSError as error:
            return {"errno": error.errno}

    def do_meet(self, request: Request) -> None:
        """Look for a name that only the daemon expects, and note the device it lies on."""
        descriptor = os.open(request["path"], os.O_PATH | os.O_DIRECTORY)
        try:
            self.device = os.fstat(descriptor).st_dev
            with suppress(FileNotFoundError):
                os.stat(request["name"], dir_fd=descriptor)
        finally:
            os.close(descriptor)

    def do_look(self, request: Request) -> Request:
        """Which inodes are watched."""
        return {"inodes": sorted(watched_inodes(self.device))}

    @contextmanager
    def _folder(self, request: Request, prefix: str = "") -> Iterator[int]:
        """A descriptor of the folder meant. Raises ESTALE if another one lies there."""
        descriptor = os.open(request[f"{prefix}path"], os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            found = os.fstat(descriptor)
            if (found.st_dev, found.st_ino) != (self.device, request[f"{prefix}inode"]):
                raise OSError(errno.ESTALE, "another folder")
            yield descriptor
        finally:
            os.close(descriptor)

    def do_file(self, request: Request) -> None:
        """A file is made, written and closed."""
        with self._folder(request) as folder:
            flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
            _written(os.open(request["name"], flags, request["mode"] & 0o7777, dir_fd=folder))

    def do_folder(self, request: Request) -> None:
        """A folder is made."""
        with self._folder(request) as folder:
            os.mkdir(request["name"], request["mode"] & 0o7777, dir_fd=folder)

    def do_symlink(self, request: Request) -> None:
        """A symbolic link is made; what it points to is known to the daemon."""
        with self._folder(request) as folder:
            os.symlink("-", request["name"], dir_fd=folder)

    def do_special(self, request: Request) -> None:
        """A fifo, a socket or a device is made."""
        with self._folder(request) as folder:
            os.mknod(request["name"], request["mode"], dir_fd=folder)

    def do_remove(self, request: Request) -> None:
        """A name is gone."""
        with self._folder(request) as folder:
            if stat.S_ISDIR(request["mode"]):
                os.rmdir(request["name"], dir_fd=folder)
            else:
                os.unlink(request["name"], dir_fd=folder)

    def do_move(self, request: Request) -> None:
        """A name becomes another one."""
        with self._folder(request) as folder, self._folder(request, "new_") as new_folder:
            names = (request["name"], request["new_name"])
            os.rename(*names, src_dir_fd=folder, dst_dir_fd=new_folder)

    def do_content(self, request: Request) -> None:
        """A file is written and closed; without the right to open it, only written."""
        with self._folder(request) as folder:
            flags = os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
            try:
                descriptor = os.open(request["name"], flags, dir_fd=folder)
            except OSError:
                with self._entry(folder, request["name"]) as there:
                    _touch(there, UTIME_OMIT)
            else:
                self._check(descriptor)
                _written(descriptor)

    @contextmanager
    def _entry(self, folder: int, name: str) -> Iterator[int]:
        """A descriptor of what a name stands for, a symbolic link itself; no right is needed."""
        descriptor = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
        self._check(descriptor)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _check(self, descriptor: int) -> None:
        """Raises ESTALE, having closed it, if it lies on another device."""
        if os.fstat(descriptor).st_dev != self.device:
            os.close(descriptor)
            raise OSError(errno.ESTALE, "another device")

    def do_attributes(self, request: Request) -> None:
        """Attributes changed."""
        with self._folder(request) as folder, self._entry(folder, request["name"]) as there:
            _touch(there, UTIME_NOW)


def _written(descriptor: int) -> None:
    try:
        _touch(descriptor, UTIME_OMIT)
    finally:
        os.close(descriptor)


def _touch(descriptor: int, atime: int) -> None:
    """Set mtime alone, which watchers are told of as of a write, or both times, as of attributes;
    the daemon sets nothing. Through the descriptor itself, which may be one of O_PATH."""
    times = (_Timespec * 2)(_Timespec(0, atime), _Timespec(0, UTIME_NOW))
    if _libc.utimensat(descriptor, b"", times, AT_EMPTY_PATH):
        raise OSError(ctypes.get_errno(), "utimensat")


def main() -> None:
    """Until stdin ends."""
    repeater = Repeater()
    for line in sys.stdin:
        print(json.dumps(repeater.answer(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()

"""Blocks as files in a folder: the embedded default.

Data flow: http.block -> `DirectoryStore` -> temporary files, fsync, links, fsync of the folders.

Rule 18: a link to an existing name fails, so a block is created once; contents and names are on
disk before the answer. What a crash leaves behind are temporary files, removed at the next start.
Blocks that come together are on their way to the disk together before the first is waited for:
beside other work a block of 24 KiB took 0.8 to 1.5 ms so, and 2.1 to 2.5 one after the other.
"""

import errno
import logging
import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import anyio
import anyio.to_thread

from parsec_fs.protocol.ids import BlockId, RealmId
from server.blocks.base import Redirect, Stored, block_name

log = logging.getLogger(__name__)

THREADS: Final = 4
_INCOMING: Final = "incoming"
_NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT)


class _Incoming:
    """An open temporary file."""

    __slots__ = ("descriptor", "durable", "path")

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self.descriptor = descriptor
        self.durable = False


class DirectoryStore:
    """One folder, used by one server."""

    def __init__(self, root: Path, *, write: Callable[[int, bytes], None] | None = None) -> None:
        """Creates the folder and removes what a crash left unfinished. `write`: instead of
        `write_all`, of a disk that a test knows of."""
        self._root = root
        self._write = write or write_all
        self._incoming = root / _INCOMING
        self._incoming.mkdir(parents=True, exist_ok=True, mode=0o700)
        for leftover in self._incoming.iterdir():
            leftover.unlink()
        self._limiter: anyio.CapacityLimiter | None = None

    async def put(self, realm: RealmId, blocks: Mapping[BlockId, bytes]) -> dict[BlockId, Stored]:
        """See `BlockStore.put`."""
        return await anyio.to_thread.run_sync(self._put, realm, blocks, limiter=self._threads())

    async def get(self, realm: RealmId, block: BlockId) -> bytes | Redirect | None:
        """See `BlockStore.get`."""
        path = self._root / block_name(realm, block)
        return await anyio.to_thread.run_sync(_read, path, limiter=self._threads())

    def _threads(self) -> anyio.CapacityLimiter:
        if self._limiter is None:
            self._limiter = anyio.CapacityLimiter(THREADS)
        return self._limiter

    def _put(self, realm: RealmId, blocks: Mapping[BlockId, bytes]) -> dict[BlockId, Stored]:
        found = dict.fromkeys(blocks, Stored.FULL)
        with ExitStack() as incoming:
            files = dict[BlockId, _Incoming]()
            for block, data in blocks.items():
                with _while_there_is_room():
                    files[block] = incoming.enter_context(self._written(data))
            for file in files.values():
                with _while_there_is_room():
                    os.fsync(file.descriptor)
                    file.durable = True
            durable = {
                block: self._root / block_name(realm, block)
                for block, file in files.items()
                if file.durable
            }
            for block, path in durable.items():
                with _while_there_is_room():
                    found[block] = self._link(files[block].path, path, blocks[block])
            for folder in {path.parent for path in durable.values() if path.parent.is_dir()}:
                _sync_folder(folder)
        return found

    @contextmanager
    def _written(self, data: bytes) -> Iterator["_Incoming"]:
        """A temporary file, on its way to the disk; gone in the end."""
        path = self._incoming / secrets.token_hex(16)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            self._write(descriptor, data)
            # Linux begins to write what it is to forget: all at once, so that the disk's file
            # system has one transaction for many files. Where it does not, fsync does all of it.
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            yield _Incoming(path, descriptor)
        finally:
            os.close(descriptor)
            path.unlink(missing_ok=True)

    def _link(self, temporary: Path, path: Path, data: bytes) -> Stored:
        if not path.parent.is_dir():
            self._make_folders(path.parent)
        try:
            os.link(temporary, path)
        except FileExistsError:
            return _compared(path, data)
        return Stored.DURABLE

    def _make_folders(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for changed in (folder.parent, folder.parent.parent):
            _sync_folder(changed)


def _compared(path: Path, data: bytes) -> Stored:
    """What is there since before, and perhaps on a bad sector: that costs no other block."""
    try:
        return Stored.DURABLE if path.read_bytes() == data else Stored.TAKEN
    except OSError as error:
        log.error("block %s cannot be read: %s", path.name, error.strerror)
        return Stored.FAILED


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def write_all(descriptor: int, data: bytes) -> None:
    """All of it, in as many pieces as it takes. Raises OSError."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


@contextmanager
def _while_there_is_room() -> Iterator[None]:
    """A block that finds none costs itself only."""
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

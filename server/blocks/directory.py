"""Blocks as files in a folder: the embedded default.

Data flow: http.block -> `DirectoryStore` -> temporary file, fsync, link, fsync of the folder.

Rule 18: a link to an existing name fails, so a block is created once; contents and name are on disk
before the answer. What a crash leaves behind is a temporary file, removed at the next start.
"""

import os
import secrets
from pathlib import Path
from typing import Final

import anyio
import anyio.to_thread

from parsec_fs.protocol.ids import BlockId, RealmId
from server.blocks.base import Redirect, block_name

THREADS: Final = 4
_INCOMING: Final = "incoming"


class DirectoryStore:
    """One folder, used by one server."""

    def __init__(self, root: Path) -> None:
        """Creates the folder and removes what a crash left unfinished."""
        self._root = root
        self._incoming = root / _INCOMING
        self._incoming.mkdir(parents=True, exist_ok=True, mode=0o700)
        for leftover in self._incoming.iterdir():
            leftover.unlink()
        self._limiter: anyio.CapacityLimiter | None = None

    async def put(self, realm: RealmId, block: BlockId, data: bytes) -> bool:
        """See `BlockStore.put`."""
        path = self._root / block_name(realm, block)
        return await anyio.to_thread.run_sync(self._put, path, data, limiter=self._threads())

    async def get(self, realm: RealmId, block: BlockId) -> bytes | Redirect | None:
        """See `BlockStore.get`."""
        path = self._root / block_name(realm, block)
        return await anyio.to_thread.run_sync(_read, path, limiter=self._threads())

    def _threads(self) -> anyio.CapacityLimiter:
        if self._limiter is None:
            self._limiter = anyio.CapacityLimiter(THREADS)
        return self._limiter

    def _put(self, path: Path, data: bytes) -> bool:
        if not path.parent.is_dir():
            self._make_folders(path.parent)
        temporary = self._incoming / secrets.token_hex(16)
        try:
            _write_durably(temporary, data)
            try:
                os.link(temporary, path)
            except FileExistsError:
                return path.read_bytes() == data
            _sync_folder(path.parent)
        finally:
            temporary.unlink(missing_ok=True)
        return True

    def _make_folders(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for changed in (folder.parent, folder.parent.parent):
            _sync_folder(changed)


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _write_durably(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(descriptor)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""Sealed blocks as files: pending/ waits for its upload, cache/ can be fetched again.

Data flow: contents (sealed bytes) -> pending/ -> sync uploads -> cache/ -> evicted; contents
    (fetched bytes) -> cache/.

Rules guarded here (rules 5, 21, decision 0020):
- a cached block lies under its id and the digest that it was checked against, and is had under
  both only: a member could otherwise put own bytes under the id of another member's block;
- what is pending is never evicted; what is cached is, the least recently used first;
- what the disk did not take, it is never asked for again: Linux tells of a failed write once, and
  then takes its page for written. Such a block counts as durable only in a new file (`renew`);
- both together stay within one limit: what waits takes the room of what can be fetched again, and
  when that is gone there is no `room`, which the file system asks for before it accepts data.
Nothing here looks into a block. `*_job` and `add` run in worker threads too.
"""

import contextlib
import errno
import logging
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from mmap import mmap
from pathlib import Path
from typing import Final

from parsec_fs.protocol.ids import BlockId
from parsec_fs.protocol.limits import BLOCK_SIZE
from parsec_fs.protocol.manifests import BlockRef
from parsec_fs.protocol.sealing import TAG_SIZE

log = logging.getLogger(__name__)

_COUNTED_AT_ONCE: Final = 64


class BlockFiles:
    """The blocks of one realm on disk. `limit`: bytes for pending and cached ones together;
    `pending_size`: bytes that wait for their upload."""

    def __init__(
        self, directory: Path, *, limit: int, fsync: Callable[[int], None] = os.fsync
    ) -> None:
        self.limit = limit
        self._fsync = fsync
        self.pending_dir = directory / "pending"
        self.cache_dir = directory / "cache"
        for folder in (directory, self.pending_dir, self.cache_dir):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._anew = directory / "anew"
        self._anew.unlink(missing_ok=True)
        self._unsynced: dict[BlockId, BlockRef] = {}
        self._failed: set[BlockId] = set()
        self.undurable: set[BlockId] = set()
        """What the disk did not take, and what does not open any more: gone with the next start."""
        self._expected = set(self.pending_blocks())
        self.doubtful: set[BlockId] = set()
        """What was referred to at the start and is not here: uploaded before, or lost since."""
        self._counting = threading.Lock()
        self._landing: dict[BlockId, int] = {}
        self._ordinary_size = BLOCK_SIZE // 2
        self.pending_size = _size_of(self.pending_dir)
        self._cache_size = 0

    def count_cached(self) -> Iterator[None]:
        """What was cached before the start, a few files between two steps (each may be in another
        thread): a start that counted 100,000 of them took 0.3 s longer. Until the end, little is
        taken to be there to evict. What came or went meanwhile is counted roughly: `evict`, to be
        called then, corrects it before it deletes anything."""
        size = 0
        for number, (_, one, _) in enumerate(_entries(self.cache_dir), 1):
            size += one
            if number % _COUNTED_AT_ONCE == 0:
                yield
        self._count(cached=size)

    def room(self) -> int:
        """Bytes that may still be accepted; negative if more is waiting than the limit allows."""
        with self._counting:
            return self.limit - self.pending_size + sum(self._landing.values())

    # Pending

    def add(self, ref: BlockRef, sealed: memoryview) -> None:
        """A block that was sealed here (also in a worker thread). Raises OSError."""
        _write_file(self._pending(ref.id), sealed)
        with self._counting:
            self._unsynced[ref.id] = ref
            self._expected.add(ref.id)
            self._landing[ref.id] = len(sealed)
            self.pending_size += len(sealed)

    def landed(self, block_id: BlockId) -> None:
        """What a block was sealed from is in memory no more: from now on it takes room itself."""
        with self._counting:
            self._landing.pop(block_id, None)

    def discard(self, block_id: BlockId) -> None:
        """A sealed block that nothing refers to; nothing happens if it is not pending."""
        self._forget_sync(block_id)
        self._expected.discard(block_id)
        self.landed(block_id)
        self._count(pending=-_removed(self._pending(block_id)))

    def pending_blocks(self) -> Iterator[BlockId]:
        """Ids of blocks that were sealed here and not uploaded."""
        for path in self.pending_dir.iterdir():
            yield BlockId(bytes.fromhex(path.name))

    def is_pending(self, block_id: BlockId) -> bool:
        """True iff the block still has to be uploaded."""
        return self._pending(block_id).exists()

    def is_expected(self, block_id: BlockId) -> bool:
        """True iff the block was sealed here and is not uploaded; its file may be lost."""
        return block_id in self._expected

    def is_lost(self, block_id: BlockId) -> bool:
        """True iff the block was to be uploaded, and its file is gone."""
        return block_id in self._expected and not self.is_pending(block_id)

    def uploaded(self, ref: BlockRef) -> None:
        """The commit that refers to this block is logged: it may be evicted from now on. Its
        digest was taken here."""
        source, target = self._pending(ref.id), self.cached(ref)
        self._forget_sync(ref.id)
        self._expected.discard(ref.id)
        try:
            size = source.stat().st_size
            source.rename(target)
        except FileNotFoundError:
            return
        except OSError:  # No room for its new name, say. It is stored elsewhere.
            with contextlib.suppress(OSError):
                self._count(pending=-_removed(source))
            return
        self._count(pending=-size, cached=size)
        self.evict()

    def expect(self, referenced: Iterable[BlockRef]) -> None:
        """At start: what is referred to counts as not synced, or is looked for."""
        refs = set(referenced)
        # Whoever was killed may have left them unsynced, and nothing here says which.
        self._unsynced = {ref.id: ref for ref in refs if ref.id in self._expected}
        missing = (ref for ref in refs if ref.id not in self._expected)
        self.doubtful = {ref.id for ref in missing if not self.cached(ref).exists()}

    def sweep(self, referenced: Iterable[BlockRef]) -> int:
        """At start: delete pending blocks that nothing refers to (sealed just before a crash)."""
        ids = {ref.id for ref in referenced}
        orphans = [block for block in self.pending_blocks() if block not in ids]
        for block in orphans:
            self.discard(block)
        return len(orphans)

    def is_durable(self) -> bool:
        """True iff no pending block waits for its `sync_job`."""
        return not self._unsynced

    def sync_job(self) -> Callable[[], None]:
        """A function for a worker thread that makes all pending blocks durable. Raises OSError: as
        long as one that failed was not renewed, or given up."""
        with self._counting:
            blocks = list(self._unsynced)

        def sync() -> None:
            errors = [error for block in blocks if (error := self._synced(block)) is not None]
            if blocks:
                self._sync_names(blocks)
            with self._counting:
                for block in set(blocks) - self._failed:
                    self._unsynced.pop(block, None)
            if errors:
                raise errors[0]

        return sync

    def _synced(self, block_id: BlockId) -> OSError | None:
        """Why a block is not durable, or None."""
        if block_id in self._failed:
            return OSError(errno.EIO, "the disk has not taken a block")
        try:
            self._sync_file(self._pending(block_id))
        except OSError as error:
            self._fail([block_id])
            return error
        return None

    def _sync_names(self, blocks: list[BlockId]) -> None:
        try:
            self._sync_file(self.pending_dir)
        except OSError:
            self._fail(blocks)
            raise

    def _sync_file(self, path: Path) -> None:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        try:
            self._fsync(fd)
        finally:
            os.close(fd)

    def _fail(self, blocks: list[BlockId]) -> None:
        with self._counting:
            self._failed.update(block for block in blocks if block in self._unsynced)

    def failed(self) -> list[BlockRef]:
        """Blocks that a `sync_job` failed for: to be renewed, or given up."""
        with self._counting:
            return [self._unsynced[block] for block in self._failed]

    def renew(self, block_id: BlockId, sealed: bytes) -> None:
        """A failed block, which was found to open, in a new file: the next `sync_job` may count it.
        Not from two threads at once. Raises OSError."""
        self._anew.unlink(missing_ok=True)
        _write_file(self._anew, sealed)
        self._sync_file(self._anew)
        with self._counting:  # Discarded meanwhile, it must not come back.
            if block_id in self._failed:
                self._anew.replace(self._pending(block_id))
                self._failed.discard(block_id)

    def give_up(self, block_id: BlockId) -> None:
        """A failed block that does not open any more: nothing waits for it, and it stays
        `undurable` until nothing refers to it."""
        with self._counting:
            if self._unsynced.pop(block_id, None) is not None:
                self.undurable.add(block_id)
            self._failed.discard(block_id)

    def _forget_sync(self, block_id: BlockId) -> None:
        with self._counting:
            self._unsynced.pop(block_id, None)
            self._failed.discard(block_id)
            self.undurable.discard(block_id)

    # Cached

    def put_in_cache(self, ref: BlockRef, sealed: bytes) -> None:
        """What was fetched and has the digest of `ref`. Without room, or if it is there already,
        reading goes on without."""
        try:
            _write_file(self.cached(ref), sealed)
        except OSError:
            return
        self._count(cached=len(sealed))
        self.evict()

    def cached(self, ref: BlockRef) -> Path:
        """Where a block lies that was found to have this digest."""
        return self.cache_dir / f"{ref.id.hex()}-{ref.digest.hex()}"

    def drop_cached(self, ref: BlockRef) -> None:
        """A damaged copy of what can be fetched again. A disk that cannot even forget it is no
        reason not to: what lies here has to open whenever it is read."""
        with contextlib.suppress(OSError):
            self._count(cached=-_removed(self.cached(ref)))

    def evict(self) -> None:
        """Cached blocks make room for what is pending, and for each other. The size of the cache
        is what is found here from then on. A file that cannot be deleted stays counted."""
        allowed = max(0, self.room())
        counted = self._cache_size
        if counted <= allowed:
            return
        found = sorted(_entries(self.cache_dir))
        size = sum(one for _, one, _ in found)
        for _, _, path in found:
            if size <= allowed * 9 // 10:
                break
            with contextlib.suppress(OSError):
                size -= _removed(path)
        self._count(cached=size - counted)

    # Either

    def read_into(self, ref: BlockRef, buffer: mmap) -> tuple[int, bool]:
        """Sealed bytes into whole pages: how many there are, and whether they are of the cache.
        Raises OSError.

        Large blocks go past the page cache: opened, they stay in memory here and as pages of the
        mount, and a third copy would only take time (0.4 ms of 2.5 for a MiB) and memory. What
        cannot be had that way, or not all of it, is read in the ordinary way.
        """
        if ref.size > self._ordinary_size:
            try:
                size, is_cached = self._read_into(ref, buffer, os.O_DIRECT)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                self._ordinary_size = len(buffer)  # Not on this file system.
            else:
                if size == ref.size + TAG_SIZE:
                    return size, is_cached
        return self._read_into(ref, buffer, 0)

    def _read_into(self, ref: BlockRef, buffer: mmap, flags: int) -> tuple[int, bool]:
        fd, is_cached = self._open(ref, os.O_RDONLY | os.O_CLOEXEC | flags)
        try:
            return os.readv(fd, [buffer]), is_cached
        finally:
            os.close(fd)

    def _open(self, ref: BlockRef, flags: int) -> tuple[int, bool]:
        try:
            return os.open(self._pending(ref.id), flags), False
        except FileNotFoundError:
            return os.open(self.cached(ref), flags), True

    def read(self, ref: BlockRef) -> bytes:
        """Ciphertext to upload, or of a cached block. Raises FileNotFoundError."""
        try:
            return self._pending(ref.id).read_bytes()
        except FileNotFoundError:
            return self.cached(ref).read_bytes()

    def _count(self, *, pending: int = 0, cached: int = 0) -> None:
        with self._counting:
            self.pending_size += pending
            self._cache_size += cached

    def _pending(self, block_id: BlockId) -> Path:
        return self.pending_dir / block_id.hex()


def _size_of(folder: Path) -> int:
    return sum(entry.stat().st_size for entry in os.scandir(folder))


def _entries(folder: Path) -> Iterator[tuple[int, int, Path]]:
    """When each file was used last (ns), its bytes, and where it is; of a damaged disk, those that
    can be had: nothing depends on what is cached."""
    try:
        with os.scandir(folder) as entries:
            yield from (found for entry in entries if (found := _used(entry)) is not None)
    except OSError as error:
        log.error("cache: cannot be listed: %s", error.strerror)


def _used(entry: os.DirEntry[str]) -> tuple[int, int, Path] | None:
    with contextlib.suppress(OSError):
        found = entry.stat(follow_symlinks=False)
        return found.st_atime_ns, found.st_size, Path(entry.path)
    return None


def _removed(path: Path) -> int:
    """Bytes that went with a file; 0 if there is none."""
    try:
        size = path.stat().st_size
        path.unlink()
    except FileNotFoundError:
        return 0
    return size


def _write_file(path: Path, data: bytes | memoryview) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        if os.write(fd, data) != len(data):
            raise OSError(errno.ENOSPC, "no room for a block")
    except OSError:
        path.unlink(missing_ok=True)
        raise
    finally:
        os.close(fd)

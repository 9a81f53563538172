"""Blocks sealed here, and opened ones in memory for a short while.

Data flow: filesystem (full or settled block) -> `seal_job` -> block_files -> sync uploads;
    reading: memory -> block_files -> AEAD -> plaintext, or fetcher (sync) -> digest, AEAD;
    before the upload: `digest_job` -> `digest_taken` -> reference with its digest.

Rules guarded here (rules 5, 21, decision 0020):
- a block is sealed once, under a fresh id and single-use key; its reference is the only way in;
- what comes from elsewhere: digest first, then decryption. What lies here opens by its tag alone,
  if it was sealed here, or lies under the very digest that it was checked against when it came;
- what was opened counts for the whole reference, never for the id: a member with the help of the
  block storage could otherwise put own bytes under the id of another member's block;
- a check that fails is an error, reported to `on_damage`, never data.
Functions named `*_job` or documented so run in worker threads: they release the GIL for the work.
"""

import errno
import mmap
import os
import sys
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Final, Protocol, TypeVar

import trio

from parsec_fs.protocol.errors import (
    LocalError,
    OfflineError,
    RemoteError,
    VerificationError,
)
from parsec_fs.protocol.hashing import sha256
from parsec_fs.protocol.ids import BlockId, Hash, RealmId
from parsec_fs.protocol.limits import BLOCK_SIZE, MIB
from parsec_fs.protocol.manifests import BlockRef
from parsec_fs.protocol.sealing import (
    TAG_SIZE,
    block_ref,
    local_ref,
    open_block,
    open_checked_block,
    seal_block_into,
)
from parsec_fs.storage.block_files import BlockFiles
from parsec_fs.storage.renewal import Renewal
from parsec_fs.storage.workers import Result, Workers

T = TypeVar("T")
Pooled = TypeVar("Pooled")

Fetch = Callable[[BlockRef], Awaitable[bytes]]
"""Gets sealed bytes from wherever they are; raises OfflineError."""


class Open(Protocol):
    """Unverified sealed bytes, wherever they are from, to the plaintext that a reference means."""

    def __call__(
        self,
        sealed: bytes | memoryview,
        ref: BlockRef,
        /,
        *,
        realm: RealmId,
        buffer: bytearray | None = None,
    ) -> bytearray:
        """In `buffer`, which has the right size, if one is given. Raises DecryptionError."""


MEMORY_BLOCKS: Final = 24
"""Opened blocks kept (1 MiB each): enough for readahead of a few streams."""

SPARE_BUFFERS: Final = 8
"""Kept of evicted blocks, for those that come next."""

DIGESTS_KEPT: Final = 4096
"""Of blocks sealed and hashed in this run: until their upload is over they open by their tag alone,
and who still holds the reference from before gets the same block. Of older ones that still wait,
the digest is checked like that of a download."""


def _references_of_ours() -> int:
    """What counting says of a buffer that one local name holds, in this version of Python."""
    plain = bytearray(1)
    return sys.getrefcount(plain)


_OURS: Final = _references_of_ours()

CACHE_LIMIT: Final = 10 * 1024 * MIB
_BUFFER_SIZE: Final = BLOCK_SIZE + mmap.PAGESIZE
"""More than a sealed block, so that a file that is too long is noticed; in whole pages, which lie
where reading past the page cache wants them."""

_BAD_DISK: Final = (errno.EIO, errno.EUCLEAN, errno.EBADMSG)
"""What a disk or its file system says of a copy that is gone for good; other errors pass."""

FETCH_TIMEOUT_S: Final = 60.0
"""Reading what is not here and cannot be had fails after this time (EIO); it never hangs."""


async def no_fetch(ref: BlockRef) -> bytes:
    """The fetcher of a workspace without a server."""
    raise OfflineError("block is not on this device")


class Contents:
    """The blocks of one realm on this device."""

    def __init__(
        self,
        directory: Path,
        realm: RealmId,
        *,
        random: Callable[[int], bytes] = os.urandom,
        fetch: Fetch = no_fetch,
        open: Open = open_block,
        cache_limit: int = CACHE_LIMIT,
        on_damage: Callable[[BlockRef, VerificationError], None] | None = None,
        workers: Workers | None = None,
    ) -> None:
        self.files = BlockFiles(directory, limit=cache_limit)
        self.realm = realm
        self.random = random
        self.fetch = fetch
        self._open_block = open
        self.on_damage = on_damage
        self.opened: OrderedDict[BlockRef, bytearray] = OrderedDict()
        self._digests: OrderedDict[BlockId, Hash] = OrderedDict()
        self._opening: dict[BlockRef, Result[bytearray]] = {}
        self._fetching = trio.Lock()
        self._renewal = Renewal(self.read_checked)
        self._spare: list[mmap.mmap] = []
        self._spare_plain: list[bytearray] = []
        self.workers = workers or Workers()

    # Writing

    def seal_job(
        self, plaintext: bytes | bytearray | memoryview, *, digest: bool = False
    ) -> BlockRef:
        """Seal a block into pending/ (in a worker thread). Its digest, six times as much work as
        sealing, is taken before the upload, unless it is wanted at once. Raises OSError."""
        block_id, key = BlockId(self.random(16)), self.random(32)
        buffer = _taken(self._spare) or _sealed_buffer()
        size = seal_block_into(
            plaintext,
            memoryview(buffer)[: len(plaintext) + TAG_SIZE],
            realm=self.realm,
            block_id=block_id,
            key=key,
        )
        sealed = memoryview(buffer)[:size]
        if digest:
            ref = block_ref(sealed, block_id=block_id, key=key)
        else:
            ref = local_ref(block_id=block_id, key=key, size=len(plaintext))
        try:
            self.files.add(ref, sealed)
        finally:
            sealed.release()
            self._spare.append(buffer)
        return ref

    def discard(self, ref: BlockRef) -> None:
        """A sealed block that nothing refers to."""
        self.files.discard(ref.id)

    async def make_durable(self, then: Callable[[], T]) -> T:
        """All blocks sealed so far, and then what names them: one way to a thread and back for
        both, because that can take as long as the disk. `then` runs even if blocks fail: it has
        taken over what it is to close. Raises OSError, and what `then` does."""
        blocks = self.durable_job()

        def job() -> T:
            try:
                blocks()
            finally:
                done = then()
            return done

        return await self.workers.run(job, waits=True)

    def durable_job(self) -> Callable[[], None]:
        """A function for a worker thread that makes all blocks sealed so far durable, except those
        that it finds damaged. Raises OSError."""
        return self._renewal.job(self.files)

    # Reading

    def cached(self, ref: BlockRef) -> bytearray | None:
        """An opened block, if it is in memory."""
        plain = self.opened.get(ref)
        if plain is not None:
            self.opened.move_to_end(ref)
        return plain

    def wanted(self, ref: BlockRef) -> bool:
        """True iff the block is neither in memory nor on its way there."""
        return ref not in self.opened and ref not in self._opening

    def prefetch(self, ref: BlockRef) -> None:
        """Begin to open a block that will be wanted soon; failures show when it is read."""
        if self.wanted(ref):
            self._start(ref)

    async def read_node(self, ref: BlockRef) -> bytes:
        """A block of references. Raises as `read`."""
        return bytes(await self.read(ref))

    async def read(self, ref: BlockRef) -> bytearray:
        """Plaintext of a block, not to be changed: it serves all who read it. Raises LocalError
        (EIO) if it cannot be had or is damaged."""
        plain = self.cached(ref)
        if plain is not None:
            return plain
        opening = self._opening.get(ref) or self._start(ref)
        await self.workers.wait(opening)
        self._finish_opening(ref, opening)
        try:
            return opening.get()
        except FileNotFoundError:
            return await self._fetched(ref)
        except VerificationError as error:
            return await self._instead(ref, error)
        except OSError as error:
            if error.errno in _BAD_DISK and not self.files.is_pending(ref.id):
                return await self._instead(ref, _unreadable(error))
            raise LocalError("block cannot be read", errno=errno.EIO) from error

    def _start(self, ref: BlockRef) -> Result[bytearray]:
        opening = self.workers.submit(
            lambda: self._open_job(ref), lambda result: self._finish_opening(ref, result)
        )
        self._opening[ref] = opening
        return opening

    def _finish_opening(self, ref: BlockRef, opening: Result[bytearray]) -> None:
        """By whoever is first: a reader, or the event loop's next turn."""
        if self._opening.get(ref) is opening:
            del self._opening[ref]
            self._make_room()

    def _make_room(self) -> None:
        """Memory is used again, because faulting in new takes longer than decrypting into it; but
        not while a reader or a seal still has the block."""
        while len(self.opened) > MEMORY_BLOCKS:
            plain = self.opened.popitem(last=False)[1]
            full = len(plain) == BLOCK_SIZE and len(self._spare_plain) < SPARE_BUFFERS
            if full and sys.getrefcount(plain) <= _OURS:
                self._spare_plain.append(plain)

    async def _fetched(self, ref: BlockRef) -> bytearray:
        """From the network, once for all who wait; into the cache."""
        async with self._fetching:
            ref = self._whole(ref)
            plain = self.cached(ref)
            if plain is not None:
                return plain
            try:
                with trio.fail_after(FETCH_TIMEOUT_S):
                    sealed = await self.fetch(ref)
                plain = await self.workers.run(
                    lambda: self._open_block(sealed, ref, realm=self.realm)
                )
            except (RemoteError, trio.TooSlowError) as error:
                raise LocalError("block cannot be had", errno=errno.EIO) from error
            except VerificationError as error:
                raise self._damaged(ref, error) from error
            self.files.put_in_cache(ref, sealed)
            self.opened[ref] = plain
            self._make_room()
            return plain

    async def _instead(self, ref: BlockRef, error: VerificationError) -> bytearray:
        """A damaged copy in the cache costs a download; one that is pending is all there is."""
        if self.files.is_pending(ref.id):
            raise self._damaged(ref, error) from error
        self.files.drop_cached(ref)
        try:
            return await self._fetched(ref)
        except LocalError:
            raise self._damaged(ref, error) from error

    def _damaged(self, ref: BlockRef, error: VerificationError) -> LocalError:
        """The error for readers; a damaged copy in the cache is gone."""
        self.files.drop_cached(ref)
        if self.on_damage is not None:
            self.on_damage(ref, error)
        return LocalError("block is damaged", errno=errno.EIO)

    def _open_job(self, ref: BlockRef) -> bytearray:
        buffer = _taken(self._spare) or _sealed_buffer()
        whole = self._whole(ref)
        try:
            size, is_cached = self.files.read_into(whole, buffer)
            opening = open_checked_block if is_cached or self._is_ours(ref) else self._open_block
            plain = opening(
                memoryview(buffer)[:size],
                ref,
                realm=self.realm,
                buffer=_taken(self._spare_plain) if ref.size == BLOCK_SIZE else None,
            )
        finally:
            self._spare.append(buffer)
        self.opened[ref] = plain
        return plain

    def _is_ours(self, ref: BlockRef) -> bool:
        """True iff nobody but this device can have made the reference. Of a block that waits for
        its upload others may know id and key before it has left pending/."""
        return ref.is_local or self._digests.get(ref.id) == ref.digest

    def _whole(self, ref: BlockRef) -> BlockRef:
        """The reference with its digest, for who held it while that was taken."""
        digest = self._digests.get(ref.id) if ref.is_local else None
        return ref if digest is None else replace(ref, digest=digest)

    # For synchronisation

    def digest_job(self, ref: BlockRef) -> Hash:
        """Of a block that waits for its upload (in a worker thread). It has to open first: what was
        damaged on this disk never gets a digest that makes it look right. Raises
        FileNotFoundError, LocalError (damaged, reported)."""
        known = self._digests.get(ref.id)
        return sha256(self.read_checked(ref)) if known is None else known

    def digest_taken(self, ref: BlockRef, digest: Hash) -> BlockRef:
        """The reference that manifests may hold. Call in the event loop."""
        self._digests[ref.id] = digest
        if len(self._digests) > DIGESTS_KEPT:
            self._digests.popitem(last=False)
        whole = replace(ref, digest=digest)
        if ref in self.opened:
            self.opened[whole] = self.opened.pop(ref)
        return whole

    def read_checked(self, ref: BlockRef) -> bytes:
        """Ciphertext to upload, if it opens (in a worker thread): sent damaged, it would be a file
        that no device can read. Raises OSError (also for now), LocalError (damaged, reported)."""
        try:
            sealed = self.files.read(ref)
        except OSError as error:
            if error.errno not in _BAD_DISK:
                raise
            lost = _unreadable(error)
            raise self._damaged(ref, lost) from lost
        self._try_open(sealed, ref)
        return sealed

    def _try_open(self, sealed: bytes | memoryview, ref: BlockRef) -> None:
        plain = _taken(self._spare_plain) if ref.size == BLOCK_SIZE else None
        try:
            plain = open_checked_block(sealed, ref, realm=self.realm, buffer=plain)
        except VerificationError as error:
            raise self._damaged(ref, error) from error
        if ref.size == BLOCK_SIZE and len(self._spare_plain) < SPARE_BUFFERS:
            self._spare_plain.append(plain)

    async def count_cached(self) -> None:
        """Once, beside everything else, so that old blocks are evicted for new ones."""
        steps = self.files.count_cached()
        while await self.workers.run(lambda: next(steps, steps)) is not steps:
            await trio.lowlevel.checkpoint()
        self.files.evict()

    async def keep(self, ref: BlockRef, sealed: bytes) -> bool:
        """Bytes that were fetched, into the cache; False if they are not what `ref` means."""
        if await self.workers.run(lambda: sha256(sealed)) != ref.digest:
            return False
        self.files.put_in_cache(ref, sealed)
        return True

    def store_sealed(self, plaintext: bytes) -> BlockRef:
        """Seal small things on the spot (nodes of references), without a worker thread."""
        ref = self.seal_job(plaintext, digest=True)
        self.files.landed(ref.id)
        return ref


def _unreadable(error: OSError) -> VerificationError:
    return VerificationError(f"block cannot be read on this device: {error.strerror}")


def _sealed_buffer() -> mmap.mmap:
    # Shared, as mmap makes it: a program that is started while the disk writes into it changes
    # nothing (of private pages the older kernels might give this process the wrong copy).
    return mmap.mmap(-1, _BUFFER_SIZE)


def _taken(pool: list[Pooled]) -> Pooled | None:
    """One of the pool's buffers, if it has any; for several threads at once."""
    try:
        return pool.pop()
    except IndexError:
        return None

"""Blocks on disk: sealed once, checked at every reading, pending until uploaded, evicted in order.

Data flow: plaintext -> Contents -> files (perhaps damaged) -> plaintext or a refusal.
"""

import contextlib
import errno
import gc
import os
import resource
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from mmap import mmap
from pathlib import Path

import pytest
import trio

from parsec_fs.protocol.errors import DecryptionError, LocalError, OfflineError, VerificationError
from parsec_fs.protocol.ids import BlockId, Hash, RealmId
from parsec_fs.protocol.limits import BLOCK_SIZE
from parsec_fs.protocol.manifests import BlockRef
from parsec_fs.protocol.sealing import block_ref, seal_block
from parsec_fs.storage.block_files import BlockFiles
from parsec_fs.storage.contents import MEMORY_BLOCKS, SPARE_BUFFERS, Contents

REALM = RealmId(b"r" * 32)


class Remote:
    """Sealed blocks elsewhere; counts how often it was asked."""

    def __init__(self) -> None:
        self.blocks: dict[BlockId, bytes] = {}
        self.asked = 0

    async def fetch(self, ref: BlockRef) -> bytes:
        self.asked += 1
        await trio.lowlevel.checkpoint()
        if ref.id not in self.blocks:
            raise OfflineError("not there")
        return self.blocks[ref.id]


def sealed_elsewhere(contents: Contents, remote: Remote, plain: bytes) -> BlockRef:
    """A block that only the remote has."""
    ref = contents.store_sealed(plain)
    remote.blocks[ref.id] = contents.files.read(ref)
    contents.discard(ref)
    return ref


@dataclass(frozen=True, slots=True, kw_only=True)
class Forged:
    """Another block under an id that is taken."""

    ref: BlockRef
    sealed: bytes


def sealed_block(contents: Contents, block_id: BlockId, plain: bytes) -> Forged:
    key = os.urandom(32)
    sealed = seal_block(plain, realm=contents.realm, block_id=block_id, key=key)
    return Forged(ref=block_ref(sealed, block_id=block_id, key=key), sealed=sealed)


async def test_blocks_come_back(tmp_path: Path) -> None:
    contents = Contents(tmp_path, REALM)
    for size in (64, 100_000, 1 << 20):
        plain = os.urandom(size)
        ref = contents.store_sealed(plain)
        assert ref.size == size
        assert plain not in contents.files.read(ref)
        assert await contents.read(ref) == plain
        contents.opened.clear()
        assert await contents.read(ref) == plain


async def test_equal_blocks_have_nothing_in_common(tmp_path: Path) -> None:
    contents = Contents(tmp_path, REALM)
    first, second = contents.store_sealed(b"same" * 100), contents.store_sealed(b"same" * 100)
    assert first.id != second.id
    assert first.key != second.key
    assert contents.files.read(first)[:100] != contents.files.read(second)[:100]


@pytest.mark.parametrize("change", ["flip", "short", "long", "other"])
async def test_damage_is_an_error_and_never_data(tmp_path: Path, change: str) -> None:
    damage: list[VerificationError] = []
    contents = Contents(tmp_path, REALM, on_damage=lambda ref, error: damage.append(error))
    ref, other = contents.store_sealed(b"x" * 1000), contents.store_sealed(b"y" * 1000)
    sealed = contents.files.read(ref)
    changed = {
        "flip": sealed[:500] + bytes([sealed[500] ^ 1]) + sealed[501:],
        "short": sealed[:-1],
        "long": sealed + b"z",
        "other": contents.files.read(other),
    }[change]
    (tmp_path / "pending" / ref.id.hex()).write_bytes(changed)
    with pytest.raises(LocalError) as caught:
        await contents.read(ref)
    assert caught.value.errno == errno.EIO
    assert [type(error) for error in damage] == [DecryptionError]


def test_a_damaged_block_is_not_sent(tmp_path: Path) -> None:
    damage: list[BlockRef] = []
    contents = Contents(tmp_path, REALM, on_damage=lambda ref, error: damage.append(ref))
    ref = contents.store_sealed(b"x" * 1000)
    sealed = contents.read_checked(ref)
    assert sealed == contents.files.read(ref)
    (tmp_path / "pending" / ref.id.hex()).write_bytes(sealed[:-1] + bytes([sealed[-1] ^ 1]))
    with pytest.raises(LocalError) as caught:
        contents.read_checked(ref)
    assert caught.value.errno == errno.EIO
    assert damage == [ref]
    assert contents.files.is_pending(ref.id), "it is all there is: kept for whoever mends it"


async def test_a_block_of_another_realm_does_not_open(tmp_path: Path) -> None:
    contents = Contents(tmp_path, REALM)
    ref = contents.store_sealed(b"x")
    other = Contents(tmp_path, RealmId(b"o" * 32))
    with pytest.raises(LocalError):
        await other.read(ref)


async def test_fetched_blocks_are_checked_and_cached(tmp_path: Path) -> None:
    remote = Remote()
    contents = Contents(tmp_path, REALM, fetch=remote.fetch)
    ref = sealed_elsewhere(contents, remote, b"remote" * 100)
    assert await contents.read(ref) == b"remote" * 100
    contents.opened.clear()
    assert await contents.read(ref) == b"remote" * 100
    assert remote.asked == 1
    bad = sealed_elsewhere(contents, remote, b"bad")
    remote.blocks[bad.id] = bytes(len(remote.blocks[bad.id]))
    with pytest.raises(LocalError) as caught:
        await contents.read(bad)
    assert caught.value.errno == errno.EIO


async def test_a_damaged_cached_block_is_fetched_again(tmp_path: Path) -> None:
    remote = Remote()
    contents = Contents(tmp_path, REALM, fetch=remote.fetch)
    ref = sealed_elsewhere(contents, remote, b"remote")
    await contents.read(ref)
    contents.opened.clear()
    (contents.files.cached(ref)).write_bytes(b"rubbish")
    assert await contents.read(ref) == b"remote"
    assert remote.asked == 2
    contents.opened.clear()
    assert await contents.read(ref) == b"remote"
    assert remote.asked == 2


async def test_a_cached_block_on_a_bad_sector_is_fetched_again(tmp_path: Path) -> None:
    remote = Remote()
    contents = Contents(tmp_path, REALM, fetch=remote.fetch)
    ref = sealed_elsewhere(contents, remote, b"remote")
    on_a_bad_sector(contents.files.cached(ref))
    assert await contents.read(ref) == b"remote"
    contents.opened.clear()
    assert await contents.read(ref) == b"remote"
    assert remote.asked == 1
    own = contents.store_sealed(b"never sent")
    (tmp_path / "pending" / own.id.hex()).unlink()
    on_a_bad_sector(tmp_path / "pending" / own.id.hex())
    with pytest.raises(LocalError) as caught:
        await contents.read(own)
    assert (caught.value.errno, remote.asked) == (errno.EIO, 1)


def on_a_bad_sector(block: Path) -> None:
    """A file that can be opened and not read: EIO, as from a disk."""
    block.symlink_to("/proc/self/mem")


async def test_many_readers_fetch_once(tmp_path: Path) -> None:
    remote = Remote()
    contents = Contents(tmp_path, REALM, fetch=remote.fetch)
    ref = sealed_elsewhere(contents, remote, b"remote")
    found: list[bytes] = []

    async def read() -> None:
        found.append(await contents.read(ref))

    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(read)
    assert found == [b"remote"] * 10
    assert remote.asked == 1


async def test_what_cannot_be_had_is_an_error_in_bounded_time(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async def never(ref: BlockRef) -> bytes:
        await trio.sleep_forever()
        raise AssertionError

    contents = Contents(tmp_path, REALM)
    ref = contents.store_sealed(b"gone")
    contents.discard(ref)
    for fetch in (contents.fetch, never):
        contents.fetch = fetch
        with pytest.raises(LocalError) as caught:
            await contents.read(ref)
        assert caught.value.errno == errno.EIO


@contextlib.contextmanager
def no_file_grows_beyond(size: int) -> Iterator[None]:
    """The system takes the first bytes of a write and no more, as a disk that becomes full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


async def test_a_disk_that_is_full_is_no_obstacle_to_reading(tmp_path: Path) -> None:
    """What was fetched is read although it cannot be kept; no half of it stays in the cache."""
    contents, remote = Contents(tmp_path, REALM), Remote()
    contents.fetch = remote.fetch
    plain = os.urandom(100_000)
    ref = sealed_elsewhere(contents, remote, plain)
    with no_file_grows_beyond(40_000):
        assert await contents.read(ref) == plain
        with pytest.raises(OSError, match="room"):
            contents.store_sealed(plain)
    assert list(contents.files.cache_dir.iterdir()) == []
    assert list(contents.files.pending_blocks()) == []
    contents.opened.clear()
    assert await contents.read(ref) == plain
    assert [path.name for path in contents.files.cache_dir.iterdir()] == [
        contents.files.cached(ref).name
    ]
    assert remote.asked == 2


async def test_pending_blocks_stay_until_uploaded(tmp_path: Path) -> None:
    contents = Contents(tmp_path, REALM, cache_limit=3600)
    refs = [contents.store_sealed(bytes([n]) * 1000) for n in range(5)]
    assert set(contents.files.pending_blocks()) == {ref.id for ref in refs}
    for ref in refs[:4]:
        contents.files.uploaded(ref)
        contents.files.uploaded(ref)
    assert set(contents.files.pending_blocks()) == {refs[4].id}
    assert contents.files.is_pending(refs[4].id)
    kept = [ref for ref in refs if (contents.files.cached(ref)).exists()]
    assert len(kept) == 2
    assert contents.files.pending_size == (tmp_path / "pending" / refs[4].id.hex()).stat().st_size
    assert Contents(tmp_path, REALM).files.pending_size == contents.files.pending_size
    assert await contents.read(refs[4]) == b"\x04" * 1000


def of_number(number: int) -> BlockRef:
    """A reference that nothing is opened with."""
    digest = Hash(bytes([number + 1]) * 32)
    return BlockRef(id=BlockId(bytes([number]) * 16), key=bytes(32), digest=digest, size=984)


def test_what_waits_takes_the_room_of_what_can_be_fetched_again(tmp_path: Path) -> None:
    contents = Contents(tmp_path, REALM, cache_limit=4000)
    files = contents.files
    for number in range(3):
        files.put_in_cache(of_number(number), bytes(1000))
    files.evict()
    assert len(list(files.cache_dir.iterdir())) == 3
    refs = [contents.store_sealed(bytes(984)) for _ in range(3)]
    assert files.pending_size == 3000
    assert files.room() == 1000
    files.evict()
    assert len(list(files.cache_dir.iterdir())) == 0, "nine tenths of the room, in whole blocks"
    contents.store_sealed(bytes(1984))
    assert files.room() == -1000
    files.evict()
    assert len(list(files.pending_blocks())) == 4
    for ref in refs:
        contents.discard(ref)
        contents.discard(ref)
    assert files.pending_size == 2000


async def test_blocks_from_before_a_start_make_room_too(tmp_path: Path) -> None:
    for number in range(200):
        Contents(tmp_path, REALM).files.put_in_cache(of_number(number), bytes(100))
    contents = Contents(tmp_path, REALM, cache_limit=15_000)
    contents.files.put_in_cache(of_number(200), bytes(100))
    await contents.count_cached()
    contents.files.evict()
    left = list(contents.files.cache_dir.iterdir())
    assert sum(path.stat().st_size for path in left) == 13_500
    assert len(left) == 135


def on_disk(files: BlockFiles) -> int:
    return sum(path.stat(follow_symlinks=False).st_size for path in files.cache_dir.iterdir())


async def test_what_comes_and_goes_during_the_count_is_corrected_at_its_end(tmp_path: Path) -> None:
    for number in range(150):
        Contents(tmp_path, REALM).files.put_in_cache(of_number(number), bytes(100))
    files = Contents(tmp_path, REALM, cache_limit=9_000).files
    for step, _ in enumerate(files.count_cached()):
        for number in range(20):
            files.put_in_cache(of_number(150 + 20 * step + number), bytes(400))
    files.evict()
    assert on_disk(files) <= 9_000
    before = on_disk(files)
    files.put_in_cache(of_number(220), bytes(9_000 - before))
    assert on_disk(files) == 9_000, "counted right: what fits takes nothing away"
    files.put_in_cache(of_number(221), bytes(1))
    assert on_disk(files) <= 8_100


async def test_the_count_makes_room_when_it_ends_in_other_threads(tmp_path: Path) -> None:
    for number in range(200):
        Contents(tmp_path, REALM).files.put_in_cache(of_number(number), bytes(100))
    threads = set()

    class Watched(BlockFiles):
        def count_cached(self) -> Iterator[None]:
            for step in super().count_cached():
                threads.add(threading.get_ident())
                yield step

    contents = Contents(tmp_path, REALM)
    contents.files = Watched(tmp_path, limit=15_000)
    await contents.count_cached()
    assert threads
    assert threading.get_ident() not in threads
    assert on_disk(contents.files) == 13_500


@pytest.mark.expects_log("cache: cannot be listed")
async def test_a_cache_that_cannot_be_read_ends_nothing(tmp_path: Path) -> None:
    contents = Contents(tmp_path, REALM, cache_limit=50)
    files = contents.files
    loop = files.cached(of_number(1))
    loop.symlink_to(loop)
    files.cached(of_number(2)).mkdir()
    await contents.count_cached()
    shutil.rmtree(files.cache_dir)
    await contents.count_cached()
    files.cache_dir.write_bytes(b"not a folder")
    await contents.count_cached()
    ref = contents.store_sealed(bytes(64))
    files.evict()
    assert await contents.read(ref) == bytes(64)


async def test_a_logged_block_that_cannot_move_to_the_cache_is_no_error(tmp_path: Path) -> None:
    contents = Contents(tmp_path, REALM)
    ref = contents.digest_taken(local := contents.store_sealed(bytes(64)), Hash(bytes(32)))
    contents.files.cached(ref).mkdir()  # A name that cannot be had stands for a full disk.
    contents.files.uploaded(ref)
    assert not contents.files.is_pending(local.id)
    assert contents.files.pending_size == 0


async def test_what_cannot_be_read_just_now_is_not_damaged(tmp_path: Path) -> None:
    told: list[object] = []
    contents = Contents(tmp_path, REALM, on_damage=lambda *damage: told.append(damage))
    ref = contents.store_sealed(bytes(64))
    path = contents.files.pending_dir / ref.id.hex()
    sealed = path.read_bytes()
    path.unlink()
    path.mkdir()  # Some error that says nothing of the disk.
    with pytest.raises(IsADirectoryError):
        contents.read_checked(ref)
    assert not told
    path.rmdir()
    path.write_bytes(sealed)
    assert contents.read_checked(ref) == sealed


async def test_sweep_deletes_only_what_nothing_refers_to(tmp_path: Path) -> None:
    contents = Contents(tmp_path, REALM)
    kept, lost = contents.store_sealed(b"kept"), contents.store_sealed(b"lost")
    assert contents.files.sweep({kept}) == 1
    contents.files.sync_job()()
    contents.files.expect({kept})
    assert not contents.files.is_durable()  # Who made it may have been killed before its sync.
    contents.files.sync_job()()
    assert contents.files.is_durable()
    assert list(contents.files.pending_blocks()) == [kept.id]
    contents.files.sync_job()()
    assert not contents.files.is_pending(lost.id)


async def test_memory_is_bounded(tmp_path: Path) -> None:
    contents = Contents(tmp_path, REALM)
    refs = [contents.store_sealed(bytes([n])) for n in range(60)]
    for ref in refs:
        contents.prefetch(ref)
    for ref in refs:
        await contents.read(ref)
    assert len(contents.opened) <= 24


async def test_memory_of_evicted_blocks_is_used_again_but_not_while_somebody_reads_it(
    tmp_path: Path,
) -> None:
    """A reader who waits for the next block keeps a view of the one before."""
    contents = Contents(tmp_path, REALM)
    plains = [bytes([n]) * BLOCK_SIZE for n in range(4 * MEMORY_BLOCKS)]
    refs = [contents.store_sealed(plain) for plain in plains]
    first = memoryview(await contents.read(refs[0]))[100:200]
    waiting = await contents.read(refs[1])  # one reader alone: nothing else refers to the block
    buffers = set()
    for ref, plain in zip(refs[1:], plains[1:], strict=True):
        found = await contents.read(ref)
        assert found == plain
        buffers.add(id(found))
    assert first == plains[0][100:200]
    assert waiting == plains[1]
    assert len(buffers) < 2 * MEMORY_BLOCKS


@pytest.mark.parametrize("cannot", ["open", "read", "read all"])
async def test_file_systems_that_only_read_through_the_page_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cannot: str
) -> None:
    contents = Contents(tmp_path, REALM)
    plain = os.urandom(BLOCK_SIZE)
    ref = contents.store_sealed(plain)
    asked = Asked(tmp_path, cannot)
    monkeypatch.setattr(os, "open", asked.open)
    monkeypatch.setattr(os, "readv", asked.readv)
    assert await contents.read(ref) == plain
    assert asked.flags & os.O_DIRECT == 0
    assert asked.times == 2, "first past the page cache, then through it"
    contents.opened.clear()
    assert await contents.read(ref) == plain
    assert asked.times == (4 if cannot == "read all" else 3), "what cannot be is not tried again"


class Asked:
    """A file system that does not read past the page cache, or not to the end of a file."""

    def __init__(self, folder: Path, cannot: str) -> None:
        self.folder = folder
        self.cannot = cannot
        self.flags = 0
        self.times = 0
        self._open, self._readv = os.open, os.readv

    def open(self, path: Path, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if not str(path).startswith(str(self.folder)):
            return self._open(path, flags, mode, dir_fd=dir_fd)
        self.flags = flags
        self.times += 1
        if self.cannot == "open" and flags & os.O_DIRECT:
            raise OSError(errno.EINVAL, "no direct reading")
        return self._open(path, flags & ~os.O_DIRECT, mode)

    def readv(self, fd: int, buffers: list[mmap]) -> int:
        if self.flags & os.O_DIRECT == 0:
            return self._readv(fd, buffers)
        if self.cannot == "read":
            raise OSError(errno.EINVAL, "no direct reading")
        return self._readv(fd, [memoryview(buffers[0])[:BLOCK_SIZE]])


async def test_blocks_from_elsewhere_leave_bounded_memory_behind(tmp_path: Path) -> None:
    """They come in buffers of their own: only some of these are kept for the next."""
    remote = Remote()
    contents = Contents(tmp_path, REALM, fetch=remote.fetch)
    plain = bytes(BLOCK_SIZE)
    for _ in range(MEMORY_BLOCKS + 2 * SPARE_BUFFERS):
        assert await contents.read(sealed_elsewhere(contents, remote, plain)) == plain
    kept = [one for one in gc.get_objects() if isinstance(one, list) and len(one) > 0]
    spare = [one for one in kept if all(isinstance(b, bytearray) for b in one)]
    assert max((len(one) for one in spare), default=0) <= SPARE_BUFFERS
    assert len(contents.opened) <= MEMORY_BLOCKS


@pytest.mark.parametrize("kept", ["in memory", "on its way"])
async def test_an_id_does_not_stand_for_a_block(tmp_path: Path, kept: str) -> None:
    """A contributor names another member's block with a key and digest of his own, and the block
    storage hands out his bytes: they are his file's, and never those of the other file."""
    remote = Remote()
    contents = Contents(tmp_path, REALM, fetch=remote.fetch)
    honest = sealed_elsewhere(contents, remote, b"honest" * 100)
    forged = sealed_block(contents, honest.id, b"forged" * 100)
    remote.blocks[honest.id] = forged.sealed
    if kept == "in memory":
        assert await contents.read(forged.ref) == b"forged" * 100
    else:
        contents.files.cached(forged.ref).write_bytes(forged.sealed)
        contents.prefetch(forged.ref)
    with pytest.raises(LocalError):
        await contents.read(honest)

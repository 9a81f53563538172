"""A member puts own bytes under another member's block, into the cache of a third.

Data flow: storage -> `Contents` of a reader (cache, tag) -> plaintext, or a refusal.

What lies on a device opens by its tag alone (decision 0020), and a tag is no check against whoever
knows the key. The member names the other's block in a file of his own, with a digest of his own,
and storage hands out his bytes for it: checked, and right, for his file. They must never be read in
the other's.

| attack                                             | errno | without                       |
|----------------------------------------------------|-------|-------------------------------|
| own bytes under the block's key and id (A16)       | EIO   | a cache by ids: they are read |
| one ciphertext for the block's and own key (A14)   | EIO   | a cache by ids: they are read |
| a block that waits for its upload, named by others | EIO   | by its tag it would open      |
| a reference without a digest, as of an own block   | EIO   | by its tag it would open      |
"""

import errno
import os
from pathlib import Path
from typing import NamedTuple

import pytest
import trio

from parsec_fs.protocol.codec import encode_trusted
from parsec_fs.protocol.errors import DataError, LocalError, OfflineError
from parsec_fs.protocol.hashing import sha256
from parsec_fs.protocol.ids import NO_HASH, BlockId, RealmId
from parsec_fs.protocol.limits import MIB
from parsec_fs.protocol.manifests import (
    FILE,
    BlockRef,
    FileManifest,
    RefNode,
    decode_manifest,
    encode_manifest,
)
from parsec_fs.protocol.sealing import (
    block_aad,
    block_ref,
    local_ref,
    open_checked_block,
    seal_block,
)
from parsec_fs.storage.block_files import BlockFiles
from parsec_fs.storage.contents import Contents
from parsec_fs.workspace.nesting import flatten, nest
from tests.support.manifests import PLAIN_FILE
from tests.support.two_keys import BLOCK, GcmKey, ciphertext_for_both

REALM = RealmId(b"r" * 32)
HONEST = b"we meet at noon." * 4
FORGED = b"run, they know!!" * 4


class Storage:
    """Hands out what it likes, whatever is asked for."""

    sealed: bytes | None = None

    async def fetch(self, ref: BlockRef) -> bytes:
        await trio.lowlevel.checkpoint()
        if self.sealed is None:
            raise OfflineError("not there")
        return self.sealed


class ByIds(BlockFiles):
    """A cache that does not say what its blocks were checked against."""

    def cached(self, ref: BlockRef) -> Path:
        return self.cache_dir / ref.id.hex()


class Named(NamedTuple):
    """A reference, and bytes that have its digest."""

    ref: BlockRef
    sealed: bytes


class Scene(NamedTuple):
    """An honest block, and the member's of the same id."""

    honest: Named
    forged: Named
    shown: bytes
    """What the forged bytes hold under the honest block's key."""


def same_key() -> Scene:
    id, key = BlockId(os.urandom(16)), os.urandom(32)
    honest, forged = (
        seal_block(plain, realm=REALM, block_id=id, key=key) for plain in (HONEST, FORGED)
    )
    return Scene(
        Named(block_ref(honest, block_id=id, key=key), honest),
        Named(block_ref(forged, block_id=id, key=key), forged),
        FORGED,
    )


def two_keys() -> Scene:
    id, own = BlockId(os.urandom(16)), os.urandom(32)
    key = os.urandom(32)
    honest = seal_block(HONEST, realm=REALM, block_id=id, key=key)
    theirs = GcmKey(key, bytes(12))
    rest = _xor(FORGED[BLOCK:], theirs.stream(len(FORGED))[BLOCK:])
    sealed = ciphertext_for_both(theirs, GcmKey(own, bytes(12)), rest, block_aad(REALM) + id)
    forged = Named(block_ref(sealed, block_id=id, key=own), sealed)
    return Scene(Named(block_ref(honest, block_id=id, key=key), honest), forged, FORGED[BLOCK:])


def _xor(one: bytes, other: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(one, other, strict=True))


@pytest.fixture(params=[same_key, two_keys], ids=["A16", "A14"])
def scene(request: pytest.FixtureRequest) -> Scene:
    made: Scene = request.param()
    return made


async def errno_of(contents: Contents, ref: BlockRef) -> int | None:
    with pytest.raises(LocalError) as caught:
        await contents.read(ref)
    return caught.value.errno


async def after_the_members_file(contents: Contents, storage: Storage, scene: Scene) -> None:
    """It was read: his bytes lie in the cache, and not in memory any more."""
    contents.fetch, storage.sealed = storage.fetch, scene.forged.sealed
    await contents.read(scene.forged.ref)
    contents.opened.clear()
    storage.sealed = None
    await contents.read(scene.forged.ref)
    contents.opened.clear()


async def test_what_was_checked_for_one_file_is_not_read_in_another(
    tmp_path: Path, scene: Scene
) -> None:
    contents, storage = Contents(tmp_path, REALM), Storage()
    await after_the_members_file(contents, storage, scene)
    assert await errno_of(contents, scene.honest.ref) == errno.EIO
    storage.sealed = scene.forged.sealed
    assert await errno_of(contents, scene.honest.ref) == errno.EIO
    storage.sealed = scene.honest.sealed
    assert await contents.read(scene.honest.ref) == HONEST
    contents.opened.clear()
    storage.sealed = None
    assert await contents.read(scene.honest.ref) == HONEST
    assert scene.shown not in await contents.read(scene.honest.ref)
    await contents.read(scene.forged.ref)  # both are kept, each for its file


async def test_in_a_cache_by_ids_it_is(tmp_path: Path, scene: Scene) -> None:
    contents, storage = Contents(tmp_path, REALM), Storage()
    contents.files = ByIds(tmp_path, limit=MIB)
    await after_the_members_file(contents, storage, scene)
    assert scene.shown in await contents.read(scene.honest.ref)


async def test_the_other_way_round_a_file_shows_what_its_author_signed(
    tmp_path: Path, scene: Scene
) -> None:
    """Else two readers of one file would see different contents: those who have the other block."""
    contents, storage = Contents(tmp_path, REALM), Storage()
    contents.fetch, storage.sealed = storage.fetch, scene.honest.sealed
    await contents.read(scene.honest.ref)
    contents.opened.clear()
    assert await errno_of(contents, scene.forged.ref) == errno.EIO


@pytest.mark.parametrize("restarted", [False, True])
async def test_a_block_that_waits_is_not_opened_for_a_reference_of_others(
    tmp_path: Path, restarted: bool
) -> None:
    contents = Contents(tmp_path, REALM)
    own = contents.seal_job(HONEST)
    whole = contents.digest_taken(own, contents.digest_job(own))
    named = BlockRef(id=own.id, key=own.key, digest=sha256(b"of others"), size=own.size)
    if restarted:
        contents = Contents(tmp_path, REALM)
    assert await errno_of(contents, named) == errno.EIO
    assert await contents.read(whole) == HONEST
    sealed = contents.files.read(whole)
    assert open_checked_block(sealed, named, realm=REALM) == HONEST, "without the check"


def test_no_manifest_holds_a_reference_without_a_digest() -> None:
    """To others it would look like a block of their own."""
    without = local_ref(block_id=BlockId(b"b" * 16), key=bytes(32), size=MIB)
    manifest = FileManifest(attributes=PLAIN_FILE, size=MIB, inline=b"", depth=0, refs=(without,))
    with pytest.raises(DataError, match="without its digest"):
        encode_manifest(manifest)
    with pytest.raises(DataError, match="without its digest"):
        nest(manifest, lambda data: without)
    with pytest.raises(DataError, match="without its digest"):
        decode_manifest(bytes((FILE,)) + encode_trusted(manifest))


async def test_nor_does_a_block_of_references() -> None:
    without = local_ref(block_id=BlockId(b"b" * 16), key=bytes(32), size=MIB)
    node = BlockRef(id=BlockId(b"n" * 16), key=bytes(32), digest=sha256(b"node"), size=100)

    async def read(ref: BlockRef) -> bytes:
        return encode_trusted(RefNode(refs=(without,)))

    manifest = FileManifest(attributes=PLAIN_FILE, size=MIB, inline=b"", depth=1, refs=(node,))
    with pytest.raises(DataError, match="without its digest"):
        await flatten(manifest, read)


async def test_what_is_not_here_is_never_had_without_a_digest(tmp_path: Path) -> None:
    """Whatever says that it is a block of this device's own: only pending/ opens by the tag."""
    contents, storage = Contents(tmp_path, REALM), Storage()
    contents.fetch, scene = storage.fetch, same_key()
    storage.sealed = scene.forged.sealed
    ref = scene.honest.ref
    local = BlockRef(id=ref.id, key=ref.key, digest=NO_HASH, size=ref.size)
    assert await errno_of(contents, local) == errno.EIO
    assert list(contents.files.cache_dir.iterdir()) == []

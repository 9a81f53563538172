"""Digests of blocks sealed here: taken before the upload, kept over restarts, of what is whole.

Data flow: write -> sealed block without a digest -> `Digests` -> capture; journal -> tree.
"""

import errno
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from parsec_fs.protocol.errors import LocalError, VerificationError
from parsec_fs.protocol.hashing import sha256
from parsec_fs.protocol.limits import MIB
from parsec_fs.protocol.manifests import BlockRef, FileManifest
from parsec_fs.protocol.sealing import LocalSealer
from parsec_fs.storage.contents import Contents
from parsec_fs.storage.journal import Journal
from parsec_fs.workspace import names
from parsec_fs.workspace.capture import CapturedNode
from parsec_fs.workspace.digests import Digests
from parsec_fs.workspace.filesystem import Filesystem
from parsec_fs.workspace.nodes import ROOT_INODE, FileNode
from parsec_fs.workspace.salvage import salvage
from parsec_fs.workspace.slices import Slices
from tests.support.local_daemon import KEY, REALM, open_filesystem
from tests.support.trees import World

CONTENT = os.urandom(2 * MIB + 70_000)


@asynccontextmanager
async def running(state: Path) -> AsyncIterator[Filesystem]:
    filesystem = open_filesystem(state)
    async with trio.open_nursery() as nursery:
        await nursery.start(filesystem.run)
        yield filesystem
        await filesystem.fsync(None)
        nursery.cancel_scope.cancel()


async def written(filesystem: Filesystem, name: bytes = b"file") -> FileNode:
    """A closed file whose blocks are sealed."""
    tree, now = filesystem.tree, filesystem.clock()
    node = filesystem.call(names.make_file, tree, ROOT_INODE, name, 0o644, (0, 0), now)
    assert isinstance(node, FileNode)
    filesystem.write(node, 0, CONTENT)
    filesystem.released(node)
    await filesystem.settle()
    return node


def found(filesystem: Filesystem, name: bytes = b"file") -> FileNode:
    node = filesystem.call(filesystem.tree.lookup, ROOT_INODE, name)
    assert isinstance(node, FileNode)
    return node


def refs_of(node: FileNode) -> list[BlockRef]:
    return [ref for ref in node.blocks or () if ref is not None]


def digests_of(filesystem: Filesystem) -> Digests:
    return Digests(filesystem.tree, filesystem.contents, Slices(), filesystem.held)


def captured(filesystem: Filesystem) -> list[CapturedNode]:
    """Files of a capture that comes to nothing."""
    capture = filesystem.capture()
    filesystem.rejected(capture)
    return [one for one in capture.nodes if isinstance(one.manifest, FileManifest)]


async def test_a_file_is_captured_with_its_digests_only(tmp_path: Path) -> None:
    async with running(tmp_path) as filesystem:
        node, contents = await written(filesystem), filesystem.contents
        assert [ref.is_local for ref in refs_of(node)] == [True] * 3
        assert captured(filesystem) == []
        assert not await digests_of(filesystem).take()
        (one,) = captured(filesystem)
        assert isinstance(one.manifest, FileManifest)
        assert list(one.manifest.refs) == refs_of(node)
        for ref in one.manifest.refs:
            assert ref.digest == sha256(contents.files.read(ref))
        assert bytes(await filesystem.read(node, 0, len(CONTENT))) == CONTENT


async def test_a_file_that_is_deleted_needs_none(tmp_path: Path) -> None:
    """Also if one could not be taken."""
    async with running(tmp_path) as filesystem:
        node = await written(filesystem)
        await digests_of(filesystem).take()
        filesystem.logged(filesystem.capture())
        filesystem.write(node, 0, CONTENT[::-1])
        filesystem.released(node)
        await filesystem.settle()
        spoil(filesystem, refs_of(node)[0])
        now = filesystem.clock()
        filesystem.call(names.unlink, filesystem.tree, ROOT_INODE, b"file", 0, now)
        await digests_of(filesystem).take()
        assert node.id in [one.id for one in filesystem.capture().nodes if one.deleted]


async def test_they_outlast_a_restart_and_the_upload_of_the_block(tmp_path: Path) -> None:
    """The journal goes on naming the block without it: what was logged is not cut off at once."""
    async with running(tmp_path) as filesystem:
        await digests_of(filesystem).take()
        node = await written(filesystem)
        late = await written(filesystem, b"late")
        filesystem.held.lost(late.id, refs_of(late)[0])
        await digests_of(filesystem).take()
        refs = refs_of(node)
        assert not any(ref.is_local for ref in refs)
        assert all(ref.is_local for ref in refs_of(late)), "it waits"
        await filesystem.secure()
        filesystem.contents.files.uploaded(refs[0])
    async with running(tmp_path) as filesystem:
        assert refs_of(found(filesystem)) == refs
        assert all(ref.is_local for ref in refs_of(found(filesystem, b"late")))
        assert filesystem.contents.files.doubtful == set()
        for name in (b"file", b"late"):
            node = found(filesystem, name)
            assert bytes(await filesystem.read(node, 0, len(CONTENT))) == CONTENT


def spoil(filesystem: Filesystem, ref: BlockRef) -> None:
    path = filesystem.contents.files.pending_dir / ref.id.hex()
    sealed = bytearray(path.read_bytes())
    sealed[1000] ^= 1
    path.write_bytes(sealed)


@pytest.mark.parametrize("how", ["spoilt", "gone"])
async def test_what_is_not_whole_gets_none_and_holds_up_nothing_else(
    tmp_path: Path, how: str
) -> None:
    async with running(tmp_path) as filesystem:
        node, other = await written(filesystem), await written(filesystem, b"other")
        bad = refs_of(node)[1]
        if how == "spoilt":
            spoil(filesystem, bad)
        else:
            (filesystem.contents.files.pending_dir / bad.id.hex()).unlink()
        await digests_of(filesystem).take()
        assert [ref.is_local for ref in refs_of(node)] == [False, True, False]
        assert [one.id for one in captured(filesystem)] == [other.id]
        assert node.id in filesystem.held


async def test_who_still_holds_the_reference_from_before_gets_the_block(tmp_path: Path) -> None:
    fetched: list[BlockRef] = []
    sealed = b""

    async def fetch(ref: BlockRef) -> bytes:
        fetched.append(ref)
        await trio.lowlevel.checkpoint()
        return sealed

    contents = Contents(tmp_path, REALM, fetch=fetch)
    local = contents.seal_job(CONTENT[:MIB])
    assert await contents.read(local) == CONTENT[:MIB]
    whole = contents.digest_taken(local, contents.digest_job(local))
    assert contents.cached(whole) == CONTENT[:MIB], "what is open stays open"
    sealed = contents.files.read(whole)
    contents.files.uploaded(whole)
    for ref in (local, whole):
        contents.opened.clear()
        assert await contents.read(ref) == CONTENT[:MIB]
    contents.files.drop_cached(whole)
    contents.opened.clear()
    assert await contents.read(local) == CONTENT[:MIB]
    assert fetched == [whole]


async def test_damage_of_a_block_without_a_digest_is_found(tmp_path: Path) -> None:
    told: list[tuple[BlockRef, VerificationError]] = []
    contents = Contents(tmp_path, REALM, on_damage=lambda ref, error: told.append((ref, error)))
    ref = contents.seal_job(b"x" * 1000)
    for wrong in (b"y" * 1016, b"", b"x" * 1017):
        (contents.files.pending_dir / ref.id.hex()).write_bytes(wrong)
        for use in (contents.digest_job, contents.read_checked):
            with pytest.raises(LocalError) as caught:
                use(ref)
            assert caught.value.errno == errno.EIO
        with pytest.raises(LocalError):
            await contents.read(ref)
    assert [one for one, _ in told] == [ref] * 9
    assert contents.files.is_pending(ref.id), "it is all there is: kept for whoever mends it"


async def test_what_is_salvaged_has_its_digests(tmp_path: Path) -> None:
    """Else nobody could fetch a block that was uploaded before."""
    async with running(tmp_path) as filesystem:
        node = await written(filesystem)
        await digests_of(filesystem).take()
        refs = refs_of(node)
    journal = Journal(tmp_path / "journal", LocalSealer(KEY))
    told = journal.open(0).records
    journal.close()
    world = World()
    (made,) = world.call(salvage, told, b"recovered", world.now)
    assert refs_of(made) == refs


@pytest.mark.expects_log("journal: damaged; 0 files")
async def test_a_digest_behind_damage_belongs_to_the_block_before_it(tmp_path: Path) -> None:
    """And what was not uploaded is not taken for durable only because something else is damaged."""
    async with running(tmp_path) as filesystem:
        node = await written(filesystem)
        await written(filesystem, b"waits")
        filesystem.journal.flush()
        names.make_file(filesystem.tree, ROOT_INODE, b"lost", 0o644, (0, 0), filesystem.clock())
        filesystem.journal.flush()
        segment = max((tmp_path / "journal").glob("*.journal"))
        spoilt = len(segment.read_bytes().rstrip(b"\0")) - 10
        await digests_of(filesystem).take()
        refs = refs_of(node)
        await filesystem.secure()
        filesystem.contents.files.uploaded(refs[0])
    content = bytearray(segment.read_bytes())
    content[spoilt] ^= 1
    segment.write_bytes(content)
    filesystem = open_filesystem(tmp_path)
    assert not filesystem.contents.files.is_durable()
    assert refs_of(found(filesystem)) == refs
    assert filesystem.call(filesystem.tree.lookup, ROOT_INODE, b"lost") is None
    filesystem.close()

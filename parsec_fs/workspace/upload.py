"""Blocks on their way to the server, before the commit that names them.

Data flow: storage/contents (pending/) -> this -> remote/blocks; then push may sign.

Rule 21: id and ciphertext are durable here, then PUT, then the commit; a block leaves pending/ only
when its commit is logged. References of large files are nested first: their nodes are blocks too.
"""

from collections.abc import Iterable
from typing import Final

import trio

from parsec_fs.protocol.errors import StaleError
from parsec_fs.protocol.hashing import rfc6962_leaf
from parsec_fs.protocol.ids import NO_HASH, BlockId, Hash, ObjectId
from parsec_fs.protocol.limits import REFS_PER_NODE
from parsec_fs.protocol.manifests import HOLE, BlockRef, FileManifest
from parsec_fs.protocol.merkle import tree_root
from parsec_fs.remote.blocks import BlockClient
from parsec_fs.storage.contents import Contents
from parsec_fs.workspace.capture import Capture
from parsec_fs.workspace.nesting import nest
from parsec_fs.workspace.slices import Slices

PARALLEL: Final = 4


class Uploader:
    """Puts the blocks of captures. `nested` are the sealed forms of large files' references."""

    def __init__(self, blocks: BlockClient, contents: Contents, slices: Slices) -> None:
        self._blocks = blocks
        self._contents = contents
        self._slices = slices
        self._stored: set[BlockId] = set()
        self._nested: dict[ObjectId, tuple[tuple[BlockRef, ...], FileManifest]] = {}
        self._nodes: list[BlockRef] = []

    async def upload(self, capture: Capture) -> None:
        """Everything the capture's files refer to is stored. Raises OfflineError, RefusedError,
        StaleError (a block was replaced meanwhile: capture again),
        LocalError (one is damaged here)."""
        pending = set(self._contents.files.pending_blocks())
        wanted: dict[BlockId, BlockRef] = {}
        for node in capture.nodes:
            if isinstance(node.manifest, FileManifest) and node.manifest.refs:
                nested = self._nest(node.id, node.manifest)
                wanted |= {ref.id: ref for ref in node.manifest.refs if ref.id in pending}
                wanted |= {ref.id: ref for ref in nested}
        await trio.to_thread.run_sync(self._contents.files.sync_job())
        await self._put_all([ref for ref in wanted.values() if ref.id not in self._stored])

    def nested(self, id: ObjectId, manifest: FileManifest) -> FileManifest:
        """The manifest as it is sealed: at most 1,024 references."""
        found = self._nested.get(id)
        if found is not None and found[0] == manifest.refs:
            return FileManifest(
                attributes=manifest.attributes,
                size=manifest.size,
                inline=manifest.inline,
                depth=found[1].depth,
                refs=found[1].refs,
            )
        if len(manifest.refs) > REFS_PER_NODE:
            raise StaleError("references changed since the upload")
        return manifest

    def logged(self, capture: Capture) -> None:
        """The commits are logged: the blocks may be evicted from this device."""
        manifests = (node.manifest for node in capture.nodes)
        files = (one for one in manifests if isinstance(one, FileManifest))
        blocks = [ref for one in files for ref in one.refs if ref.id in self._stored]
        for ref in (*blocks, *self._nodes):
            self._contents.files.uploaded(ref.id)
        self._stored.clear()
        self._nested.clear()
        self._nodes.clear()

    def _nest(self, id: ObjectId, manifest: FileManifest) -> list[BlockRef]:
        if len(manifest.refs) <= REFS_PER_NODE:
            return []
        found = self._nested.get(id)
        if found is not None and found[0] == manifest.refs:
            return []
        nodes: list[BlockRef] = []

        def seal_node(data: bytes) -> BlockRef:
            nodes.append(self._contents.store_sealed(data))
            return nodes[-1]

        self._nested[id] = (manifest.refs, nest(manifest, seal_node))
        self._nodes += nodes
        return nodes

    async def _put_all(self, refs: Iterable[BlockRef]) -> None:
        limiter = trio.CapacityLimiter(PARALLEL)
        errors: list[Exception] = []
        async with trio.open_nursery() as nursery:
            for ref in refs:
                await self._slices.stand_back()
                await limiter.acquire_on_behalf_of(ref.id)
                if errors:
                    break
                nursery.start_soon(self._put, ref, limiter, errors)
        if errors:
            raise errors[0]

    async def _put(
        self, ref: BlockRef, limiter: trio.CapacityLimiter, errors: list[Exception]
    ) -> None:
        try:
            sealed = await trio.to_thread.run_sync(self._contents.read_checked, ref)
            await self._blocks.put(ref.id, sealed)
            self._stored.add(ref.id)
        except FileNotFoundError:
            errors.append(StaleError("a block was replaced before it was uploaded"))
        except Exception as error:
            # One error is raised after the others ended: no exception groups for the callers.
            errors.append(error)
        finally:
            limiter.release_on_behalf_of(ref.id)


def blocks_root(manifest: FileManifest) -> Hash:
    """Merkle root over the digests of a file's blocks in order, for scrubbing without keys."""
    leaves = [rfc6962_leaf(ref.digest) for ref in manifest.refs if ref.id != HOLE]
    return tree_root(leaves) if leaves else NO_HASH

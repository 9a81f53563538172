"""Blocks on their way to the server, before the commit that names them.

Data flow: storage/contents (pending/) -> this -> remote/blocks; then push may sign.

Small blocks go many in a request, large ones alone (`parcels`); of those in one request each is
stored or refused for itself.

Rule 21: id and ciphertext are durable here, then PUT, then the commit; a block leaves pending/ only
when its commit is logged. References of large files are nested first: their nodes are blocks too.
A block that is gone before it was sent, or cannot be sent, keeps its own file from being logged,
and no other (`held`).
"""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from itertools import chain
from typing import Final

import trio

from parsec_fs.protocol.commands import Outcome
from parsec_fs.protocol.errors import (
    LocalError,
    OfflineError,
    RefusedError,
    StaleError,
    StorageFullError,
)
from parsec_fs.protocol.hashing import rfc6962_leaf
from parsec_fs.protocol.ids import NO_HASH, BlockId, Hash, ObjectId
from parsec_fs.protocol.limits import REFS_PER_NODE
from parsec_fs.protocol.manifests import HOLE, BlockRef, FileManifest
from parsec_fs.protocol.merkle import tree_root
from parsec_fs.remote.blocks import BlockClient
from parsec_fs.storage.contents import Contents
from parsec_fs.workspace.assigning import NodeManifest
from parsec_fs.workspace.capture import Capture
from parsec_fs.workspace.digests import Digests
from parsec_fs.workspace.held import Held, Reason
from parsec_fs.workspace.nesting import nest
from parsec_fs.workspace.parcels import Parcel, Wanted, pack, parcels
from parsec_fs.workspace.slices import Slices

PARALLEL: Final = 4
"""Requests under way."""

FULL_MOST: Final = 8
"""Files that are refused for want of room in one round, before the others are not tried."""

_OF_ONE_BLOCK: Final = frozenset(
    one.name for one in (Outcome.EXISTS, Outcome.TOO_LARGE, Outcome.BAD_REQUEST)
)
"""Refusals that say nothing about other blocks."""


@dataclass(slots=True)
class _Round:
    """What came of one capture's blocks so far."""

    errors: list[Exception] = field(default_factory=list)
    full: list[StorageFullError] = field(default_factory=list)
    obstructed: set[ObjectId] = field(default_factory=set)


class Uploader:
    """Puts the blocks of captures. `nested` are the sealed forms of large files' references."""

    def __init__(
        self,
        blocks: BlockClient,
        contents: Contents,
        slices: Slices,
        held: Held,
        secure: Callable[[], Awaitable[None]],
        logged: Callable[[ObjectId], NodeManifest | None],
        digests: Digests,
    ) -> None:
        self._blocks = blocks
        self._contents = contents
        self._slices = slices
        self._held = held
        self._secure = secure
        self._logged = logged
        self.digests = digests
        self._stored: set[BlockId] = set()
        self._nested: dict[ObjectId, tuple[tuple[BlockRef, ...], FileManifest]] = {}
        self._nodes: list[BlockRef] = []

    async def upload(self, capture: Capture) -> bool:
        """True iff everything that the capture's files refer to is stored; else `held` knows which
        files have to wait, and why. Raises OfflineError, RefusedError (nothing is taken now),
        StaleError (a block was replaced meanwhile: capture again)."""
        wanted = await self._wanted(capture)
        await self._secure()
        round = _Round()
        await self._find_lost(capture, round)
        await self._put_all(wanted, round)
        self._held.look()
        if round.errors:
            raise round.errors[0]
        if round.full and self._held.is_too_much():
            self._held.release()
            raise round.full[0]
        return not round.obstructed

    async def _wanted(self, capture: Capture) -> list[Wanted]:
        """Blocks that are not stored yet, with the file that needs them."""
        files = self._contents.files
        wanted: list[Wanted] = []
        for node in capture.nodes:
            if isinstance(node.manifest, FileManifest) and node.manifest.refs:
                nested = self._nest(node.id, node.manifest)
                refs = [ref for ref in node.manifest.refs if files.is_expected(ref.id)]
                wanted += [(node.id, ref) for ref in (*refs, *nested) if ref.id not in self._stored]
                await self._slices.pause()
        return wanted

    async def _find_lost(self, capture: Capture, round: _Round) -> None:
        """Logged, a file whose block is gone would be one that no device can read."""
        files = self._contents.files
        for node in capture.nodes:
            if isinstance(node.manifest, FileManifest):
                refs = [ref for ref in node.manifest.refs if ref.id != HOLE]
                lost = [ref for ref in refs if files.is_lost(ref.id)]
                lost += await self._not_stored(node.id, refs)
                for ref in lost:
                    self._held.lost(node.id, ref)
                    round.obstructed.add(node.id)

    async def _not_stored(self, id: ObjectId, refs: list[BlockRef]) -> list[BlockRef]:
        """Of what was not here at the start, what the server does not have either."""
        doubtful = self._contents.files.doubtful
        asked = [ref for ref in refs if ref.id in doubtful]
        if asked:
            doubtful -= {ref.id for ref in self._logged_refs(id)}
        return [ref for ref in asked if ref.id in doubtful and not await self._is_stored(ref)]

    def _logged_refs(self, id: ObjectId) -> tuple[BlockRef, ...]:
        """None of a manifest that does not open: a contributor's rubbish is for its own file."""
        try:
            known = self._logged(id)
        except LocalError:
            return ()
        return known.refs if isinstance(known, FileManifest) else ()

    async def _is_stored(self, ref: BlockRef) -> bool:
        """Asked once of each that is. What comes instead of the block is no block."""
        try:
            sealed = await self._blocks.get(ref.id)
        except RefusedError as error:
            if error.outcome != Outcome.NOT_FOUND.name:
                raise
            return False
        if not await self._contents.keep(ref, sealed):
            return False
        self._contents.files.doubtful.discard(ref.id)
        return True

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

    async def logged(self, capture: Capture) -> None:
        """The commits are logged: the blocks may be evicted from this device. In slices: a file of
        1 GiB has a thousand."""
        manifests = (node.manifest for node in capture.nodes)
        files = (one for one in manifests if isinstance(one, FileManifest))
        blocks = (ref for one in files for ref in one.refs if ref.id in self._stored)
        for ref in chain(blocks, self._nodes):
            self._contents.files.uploaded(ref)
            await self._slices.pause()
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

    async def _put_all(self, wanted: Iterable[Wanted], round: _Round) -> None:
        under_way = trio.Semaphore(PARALLEL)
        async with trio.open_nursery() as nursery:
            for parcel in parcels(wanted):
                await self._slices.stand_back()
                await under_way.acquire()
                if round.errors:
                    break
                nursery.start_soon(self._put, self._worth_it(parcel, round), under_way, round)

    def _worth_it(self, parcel: list[Wanted], round: _Round) -> list[Wanted]:
        """What the server may take of a file that may still be logged."""
        left = [one for one in parcel if one[0] not in round.obstructed]
        if len(round.full) < FULL_MOST:
            return left
        for id, ref in left:  # Not worth to send it to hear the same again.
            self._refused(id, ref, round.full[0], round)
        return []

    async def _put(self, wanted: list[Wanted], under_way: trio.Semaphore, round: _Round) -> None:
        try:
            if wanted:
                await self._put_parcel(wanted, round)
        except Exception as error:
            # One error is raised after the others ended: no exception groups for the callers.
            round.errors.append(error)
        finally:
            under_way.release()

    async def _put_parcel(self, wanted: list[Wanted], round: _Round) -> None:
        parcel = await trio.to_thread.run_sync(self._pack_job, wanted)
        for (id, ref), error in parcel.damaged:
            self._damaged(id, ref, error, round)
        for (id, ref), refusal in zip(parcel.sent, await self._send(parcel), strict=True):
            if refusal is None:
                self._stored.add(ref.id)
            else:
                self._refused(id, ref, refusal, round)

    def _pack_job(self, wanted: list[Wanted]) -> Parcel:
        """Runs in a thread. Raises StaleError, LocalError (to be tried again)."""
        sound: list[tuple[Wanted, bytes]] = []
        damaged: list[tuple[Wanted, LocalError]] = []
        for one in wanted:
            try:
                sound.append((one, self._contents.read_checked(one[1])))
            except FileNotFoundError as error:
                raise StaleError("a block was replaced before it was uploaded") from error
            except LocalError as error:
                damaged.append((one, error))
            except OSError as error:
                raise LocalError(f"a block cannot be read now: {error.strerror}") from error
        return pack(self._contents.realm, sound, damaged)

    async def _send(self, parcel: Parcel) -> list[RefusedError | OfflineError | None]:
        """What the server says of each. Raises OfflineError, RefusedError (of all)."""
        if len(parcel.sent) > 1:
            count = len(parcel.sent)
            return await self._blocks.put_many(parcel.body, count, digest=parcel.digest)
        for _, ref in parcel.sent:
            try:
                await self._blocks.put(ref.id, parcel.body, digest=parcel.digest)
            except RefusedError as error:
                return [error]
        return [None] * len(parcel.sent)

    def _damaged(self, id: ObjectId, ref: BlockRef, error: LocalError, round: _Round) -> None:
        """Content that is damaged was told by whoever read it; references are made again."""
        if ref in self._nodes:
            del self._nested[id]
            self._contents.discard(ref)
            round.errors.append(StaleError("references were damaged before they were uploaded"))
        round.obstructed.add(id)

    def _refused(
        self, id: ObjectId, ref: BlockRef, error: RefusedError | OfflineError, round: _Round
    ) -> None:
        if isinstance(error, StorageFullError):
            round.full.append(error)
            self._held.refused(id, ref, Reason.FULL)
        elif isinstance(error, RefusedError) and error.outcome in _OF_ONE_BLOCK:
            self._held.refused(id, ref, Reason.REFUSED, error.outcome)
        else:
            round.errors.append(error)
        round.obstructed.add(id)


def blocks_root(manifest: FileManifest) -> Hash:
    """Merkle root over the digests of a file's blocks in order, for scrubbing without keys."""
    leaves = [rfc6962_leaf(ref.digest) for ref in manifest.refs if ref.id != HOLE]
    return tree_root(leaves) if leaves else NO_HASH

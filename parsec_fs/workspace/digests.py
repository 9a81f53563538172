"""Digests of blocks that were sealed here, taken before a capture names them.

Data flow: tree (settled files that changed) -> this -> storage/contents (`digest_job`, in a thread)
    -> journal record, tree -> capture.

A stream that is written waits for its sealing, not for its digests (decision 0020). They are taken
at the pace of the upload, which stands back for whoever uses the mount. Rules guarded here:
- a digest is taken of what opens: damage is reported, and its file is held back;
- a digest is in the journal before the block can leave pending/ (`Filesystem.secure`).
"""

from itertools import islice
from typing import Final

import trio

from parsec_fs.protocol.errors import LocalError
from parsec_fs.protocol.ids import Hash
from parsec_fs.protocol.limits import BLOCK_SIZE, MIB
from parsec_fs.protocol.manifests import BlockRef
from parsec_fs.storage.contents import Contents
from parsec_fs.workspace import file_ops, records
from parsec_fs.workspace.capture import DEFAULT_LIMIT, is_settled
from parsec_fs.workspace.held import Held
from parsec_fs.workspace.nodes import FileNode
from parsec_fs.workspace.parcels import Wanted, parcels
from parsec_fs.workspace.slices import Slices
from parsec_fs.workspace.tree import Tree

MOST: Final = DEFAULT_LIMIT
MOST_SIZE: Final = 256 * MIB
"""Blocks and bytes before the next capture: what is ready is not to wait for a large copy,
and many small files do not come in more captures than they need."""

_Place = tuple[FileNode, int]
_Found = Hash | FileNotFoundError | LocalError


class Digests:
    """Of one workspace. `take` is called between captures."""

    def __init__(self, tree: Tree, contents: Contents, slices: Slices, held: Held) -> None:
        self._tree = tree
        self._contents = contents
        self._slices = slices
        self._held = held

    async def take(self) -> bool:
        """Of the files that may be captured next, oldest changes first; True iff it is worth to
        come back for more of them."""
        places, is_full = await self._places()
        taken = 0
        for parcel in parcels(places):
            await self._slices.stand_back()
            found = await trio.to_thread.run_sync(self._digests_job, parcel)
            for one, digest in zip(parcel, found, strict=True):
                taken += self._put(places[one], one[1], digest)
        self._held.look()
        return taken > 0 and is_full

    async def _places(self) -> tuple[dict[Wanted, _Place], bool]:
        """Where the next blocks without a digest are; True if there may be more."""
        waiting = self._held.waiting().nodes
        places: dict[Wanted, _Place] = {}
        size = 0
        for id in [id for id in self._tree.dirty_nodes if id not in waiting]:
            node = self._tree.nodes.get(id)
            if type(node) is FileNode and node.nlink and is_settled(node):
                left = list(islice(file_ops.local_blocks(node), self._room(places, size)))
                places |= {(id, ref): (node, index) for index, ref in left}
                size += sum(ref.size for _, ref in left)
            if self._room(places, size) == 0:
                return places, True
            await self._slices.pause()
        return places, False

    @staticmethod
    def _room(places: dict[Wanted, _Place], size: int) -> int:
        """How many more blocks, of which none is larger than 1 MiB."""
        blocks = max(0, (MOST_SIZE - size) // BLOCK_SIZE)
        return min(MOST - len(places), blocks)

    def _digests_job(self, parcel: list[Wanted]) -> list[_Found]:
        """Runs in a thread."""
        found: list[_Found] = []
        for _, ref in parcel:
            try:
                found.append(self._contents.digest_job(ref))
            except (FileNotFoundError, LocalError) as error:
                found.append(error)
            except OSError as error:
                found.append(LocalError(f"a block cannot be read now: {error.strerror}"))
        return found

    def _put(self, place: _Place, ref: BlockRef, found: _Found) -> bool:
        """False if there is none, or the block was written anew, cut off or deleted meanwhile."""
        node, index = place
        if node.blocks is None or node.nlink == 0 or file_ops.base_of(node, index) != ref:
            return False
        if isinstance(found, FileNotFoundError):
            self._held.lost(node.id, ref)
        elif not isinstance(found, LocalError):  # Damage was told by who met it.
            node.blocks[index] = self._contents.digest_taken(ref, found)
            self._tree.record((records.DIGEST, ref.id, found))
            return True
        return False

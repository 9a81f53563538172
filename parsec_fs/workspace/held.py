"""Files whose content cannot be sent now: they wait, with what depends on them, and nothing else.

Data flow: contents (damage), upload (refusals) -> this -> capture (what to leave behind), sync
    (when to try again), facts (which file, why, what to type).

Pure; the time is an argument of the constructor. An obstacle is a block: it is over when the file
does not need that block any more, because it was written anew, cut, replaced or deleted. Nothing is
kept of this: after a restart the upload meets the same obstacles again.
"""

import errno
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from parsec_fs.protocol.errors import LocalError, StorageFullError, VerificationError
from parsec_fs.protocol.ids import BlockId, ObjectId
from parsec_fs.protocol.manifests import BlockRef
from parsec_fs.workspace import file_ops
from parsec_fs.workspace.carrying import Waiting, waiting_for
from parsec_fs.workspace.nodes import FileNode
from parsec_fs.workspace.tree import Tree

AGAIN_S: Final = 15.0
"""Between attempts at what the server refused."""

BLOCKS_MAX: Final = 16_384
"""More than this is not told apart: with so much refused, everything waits. Each file that waits
is recorded anew with every batch that others are logged in."""


class Reason(StrEnum):
    """Why a file waits."""

    DAMAGED = "damaged"
    FULL = "full"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Obstacle:
    """A block that keeps a file from being sent. `detail`: the server's word for its refusal."""

    ref: BlockRef
    reason: Reason
    detail: str = ""
    again_at: float = math.inf


class Held:
    """The files of one workspace that wait."""

    def __init__(
        self,
        tree: Tree,
        now: Callable[[], float],
        is_pending: Callable[[BlockId], bool] = lambda id: True,
    ) -> None:
        self._tree = tree
        self._now = now
        self._is_pending = is_pending
        self._obstacles: dict[ObjectId, Obstacle] = {}
        self._suspects: list[BlockRef] = []
        self._lost: set[BlockId] = set()
        self._waiting = waiting_for(tree, set())
        self._new = False
        self._rests_at = self._carried_at = -1

    def __bool__(self) -> bool:
        return bool(self._obstacles)

    def __contains__(self, id: ObjectId) -> bool:
        return id in self._obstacles

    def items(self) -> Iterator[tuple[FileNode, Obstacle]]:
        """The files, and what is in their way."""
        self.look()
        for id, obstacle in self._obstacles.items():
            node = self._tree.nodes.get(id)
            if type(node) is FileNode:
                yield node, obstacle

    # Coming and going

    def suspect(self, ref: BlockRef, error: VerificationError) -> None:
        """A block on this device is damaged (told in any thread): whose, `look` finds out."""
        self._suspects.append(ref)

    def lost(self, id: ObjectId, ref: BlockRef) -> None:
        """A block of this file that was never sent is gone."""
        self._lost.add(ref.id)
        self._add(id, Obstacle(ref=ref, reason=Reason.DAMAGED))

    def refused(self, id: ObjectId, ref: BlockRef, reason: Reason, detail: str = "") -> None:
        """The server does not take a block of this file."""
        again_at = self._now() + AGAIN_S
        self._add(id, Obstacle(ref=ref, reason=reason, detail=detail, again_at=again_at))

    def look(self) -> None:
        """Take up what was suspected, and forget what is over."""
        suspects, self._suspects = self._suspects, []
        for ref in suspects:
            for file in self._pending_files():
                if self._needs(file, ref):
                    self._add(file.id, Obstacle(ref=ref, reason=Reason.DAMAGED))
        for id, obstacle in list(self._obstacles.items()):
            node = self._tree.nodes.get(id)
            still = type(node) is FileNode and node.nlink > 0 and self._needs(node, obstacle.ref)
            if not still or obstacle.again_at <= self._now():
                del self._obstacles[id]
                self.stir()

    def is_new(self) -> bool:
        """True iff a file was added since this was asked last: the others can be sent at once."""
        new, self._new = self._new, False
        return new

    def is_too_much(self) -> bool:
        """True iff it is not worth to tell what waits from the rest."""
        files = (self._tree.nodes.get(id) for id in self._obstacles)
        return sum(len(one.blocks or ()) for one in files if type(one) is FileNode) > BLOCKS_MAX

    def release(self) -> None:
        """What the server refused is not held back: it waits with everything else."""
        for id, obstacle in list(self._obstacles.items()):
            if obstacle.reason is not Reason.DAMAGED:
                del self._obstacles[id]
        self.stir()

    def _add(self, id: ObjectId, obstacle: Obstacle) -> None:
        known = self._obstacles.get(id)
        if known is None or known.reason is not Reason.DAMAGED:
            self._obstacles[id] = obstacle
        self._new = True
        self.stir()

    def _needs(self, node: FileNode, ref: BlockRef) -> bool:
        """True iff a manifest of the file cannot be made, or not be used, without this block: it is
        still to be uploaded, or something lies over it that is sealed anew with the rest of it."""
        for index, base in enumerate(node.blocks or ()):
            # The id alone may be another member's word for a block of ours.
            if base is not None and (base.id, base.key) == (ref.id, ref.key):
                length = file_ops.block_length(node.size, index)
                if file_ops.needs_base(node, index, 0, length) is None:
                    return False
                is_sealed_anew = index in node.buffers or index in node.cuts
                return is_sealed_anew or ref.id in self._lost or self._is_pending(ref.id)
        return False

    def _pending_files(self) -> list[FileNode]:
        ids = (*self._tree.dirty_nodes, *self._tree.flying_nodes)
        nodes = (self._tree.nodes.get(id) for id in ids)
        return [node for node in nodes if type(node) is FileNode]

    # Waiting

    def waiting(self) -> Waiting:
        """What a capture has to leave behind."""
        return waiting_for(self._tree, self._obstacles.keys())

    def is_carried(self, waiting: Waiting) -> bool:
        """True iff it is recorded behind everything else since the last capture, which was not
        logged then."""
        return waiting == self._waiting and self._tree.position == self._carried_at

    def captured(self, waiting: Waiting) -> None:
        """A capture was made that left this behind."""
        self._waiting, self._carried_at = waiting, self._tree.position
        rests = bool(waiting) and waiting.is_all(self._tree)
        self._rests_at = self._tree.position if rests else -1

    def stir(self) -> None:
        """There may be something to send."""
        self._rests_at = -1

    def rests(self) -> bool:
        """True iff all that is left has to wait: it is not worth to try before `again_in`."""
        flying = self._tree.flying_nodes or self._tree.flying_names
        return self._tree.position == self._rests_at and not flying and self.again_in() > 0

    def again_in(self) -> float:
        """Seconds until the next attempt; infinite if only a change here can help."""
        soonest = min((one.again_at for one in self._obstacles.values()), default=math.inf)
        return max(0.0, soonest - self._now())

    def needs_somebody(self) -> bool:
        """True iff all that is left waits for a change here: time alone does not help."""
        return self.rests() and self.again_in() == math.inf

    def check(self, id: ObjectId | None) -> None:
        """For whoever was promised more than `local` of a file, or of the names in a folder.
        Raises LocalError: EIO if it is damaged, EDQUOT if there is no room for it."""
        about = {key[0] for key in self._waiting.names} | self._obstacles.keys()
        if id is None or id not in about:
            return
        obstacle = self._obstacles.get(id)
        full = obstacle is not None and obstacle.reason is Reason.FULL
        raise LocalError("held back", errno=errno.EDQUOT if full else errno.EIO)

    def problem(self) -> str:
        """In one sentence, for progress; empty if nothing waits."""
        reasons = [one.reason for one in self._obstacles.values()]
        if Reason.FULL in reasons:
            return str(StorageFullError("QUOTA"))
        if not reasons:
            return ""
        count = f"{len(reasons)} files are" if len(reasons) > 1 else "1 file is"
        return f"{count} held back, everything else goes on; see: parsec-fs status"

"""One opened epoch against this device's own history, and what a difference may prove.

Data flow: auditor (opened epoch) + replicas -> nothing to say, or an error with evidence files.

The files are candidates: only what the offline check of `evidence` accepts will convict anybody.
"""

from collections.abc import Sequence

from parsec_fs.audit import accusations
from parsec_fs.audit.checks import Checks
from parsec_fs.audit.ports import EpochServer, HeadPair, Histories, LogHistory
from parsec_fs.audit.trusted_state import ORG, OpenedEpoch, TrustedState
from parsec_fs.identity import TrustAnchor
from parsec_fs.protocol.errors import DataError, RemoteError, VerificationError
from parsec_fs.protocol.merkle import tree_root
from parsec_fs.protocol.records import LeafHeader, LogState
from parsec_fs.workspace.refused_leaf import LeafRefusedError


class Comparison:
    """Stateless but for what it compares with."""

    def __init__(
        self, *, anchor: TrustAnchor, server: EpochServer, histories: Histories, checks: Checks
    ) -> None:
        self._anchor, self._server = anchor, server
        self._histories, self._checks = histories, checks

    def accuse(self, error: VerificationError, floor: TrustedState) -> list[bytes]:
        """What an error of any followed log may prove."""
        files: list[bytes] = []
        for history in self._histories:
            files += self._accuse(history, error, floor)
        return files

    async def compare(self, place: int, opened: OpenedEpoch, floor: TrustedState) -> None:
        """One log in one epoch: own replica, own heads, promises. `floor` is the state before the
        epoch. Raises OfflineError, and VerificationError with files that may prove it."""
        history = self._histories[place]
        opening = opened.after.openings[place]
        try:
            await self._compare_unproven(place, history, opened)
        except (VerificationError, DataError) as error:
            heads = _newest(history) + history.heads_due(opened.epoch)
            if isinstance(error, VerificationError):
                heads += accusations.heads_of(error)
            leaves = _leaves(history)
            files = accusations.against_epoch(heads, opening, leaves)
            if isinstance(error, VerificationError):
                files += self._accuse(history, error, floor)
            files += accusations.outdated(floor.openings, opening, leaves)
            if accusations.first_proven(files, self._anchor) is None:
                for branch in await self._branches(opened.after.anchored[place], heads):
                    files += accusations.against_epoch(heads, opening, branch)
            raise VerificationError(str(error), evidence=tuple(files)) from error

    async def _compare_unproven(self, place: int, history: LogHistory, opened: OpenedEpoch) -> None:
        anchored, before = opened.after.anchored[place], opened.before[place]
        for head, _ in history.heads_due(opened.epoch):
            self._checks.promise_is_kept(head, anchored)
        if anchored.size < history.base():
            # Nothing is here to compare with. The auditor comes back when there is.
            return
        await history.ensure(self._checks.leaves_to_hold(anchored))
        own = history.roots_at(min(anchored.size, history.size()))
        self._checks.own_is_anchored(own, anchored, epoch=opened.epoch)
        for head, _ in history.heads_due(opened.epoch):
            self._checks.head_is_prefix(head, history.roots_at(min(head.size, history.size())))
        if place != ORG and history.base() <= before.size < min(anchored.size, history.size()):
            first = history.leaf_header(before.size)
            self._checks.leaf_is_current(first, org_before=opened.before[ORG])

    async def _branches(
        self, anchored: LogState, heads: Sequence[HeadPair]
    ) -> list[list[LeafHeader]]:
        """The anchored branch and our own, each if the server still shows it: one of them proves
        that they differ. Our own leaves may be missing here: those below a snapshot are."""
        wanted = {(anchored.size, anchored.log_root)}
        wanted |= {
            (head.size, head.log_root) for head, _ in heads if head.context.log == anchored.log
        }
        longest = max(size for size, _ in wanted)
        try:
            shown = list(await self._server.read_headers(anchored.log, longest))
        except (RemoteError, VerificationError, DataError):
            return []
        return [
            shown[:size]
            for size, log_root in sorted(wanted)
            if tree_root([one.hash() for one in shown[:size]]) == log_root
        ]

    def _accuse(
        self, history: LogHistory, error: VerificationError, floor: TrustedState
    ) -> list[bytes]:
        """What an error about this log may prove, with what was verified of the log."""
        named = accusations.heads_of(error)
        heads = [one for one in named if one[0].context.log == history.log]
        leaves = _leaves(history)
        files: list[bytes] = []
        if isinstance(error, LeafRefusedError) and error.refused.log == history.log:
            org = self._histories[ORG]
            refused = error.refused
            files += accusations.against_leaf(
                refused, leaves, org.leaves(), org.newest_head(), self._anchor
            )
            leaves = [*leaves[: refused.start], *(leaf.header for leaf in refused.served)]
        if not heads:
            return files
        heads += _newest(history)
        files += accusations.against_each_other(history.log, heads, leaves)
        for opening in floor.openings:
            if opening.log == history.log:
                files += accusations.against_epoch(heads, opening, leaves)
        return files


def _newest(history: LogHistory) -> list[HeadPair]:
    newest = history.newest_head()
    return [] if newest is None else [newest]


def _leaves(history: LogHistory) -> list[LeafHeader]:
    """From the first one on, as many as are here without a gap."""
    leaves: list[LeafHeader] = []
    for index in range(history.size()):
        try:
            leaves.append(history.leaf_header(index))
        except LookupError:
            break
    return leaves

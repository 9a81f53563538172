"""A leaf that the rules refuse, with all that it takes to prove that to others (P4).

Data flow: replica -> `LeafRefusedError` -> auditor -> evidence file.

The server signed a head over a tree that holds this leaf, so the server is to blame, whoever wrote
it. The states of the objects that the leaf touches are taken at once, because the store moves on.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from parsec_fs.protocol.codec import decode, encode_trusted
from parsec_fs.protocol.commits import CommitBody, peek_commit
from parsec_fs.protocol.errors import DataError, VerificationError
from parsec_fs.protocol.ids import LogId, ObjectId
from parsec_fs.protocol.realm_state import ObjectView, RealmState
from parsec_fs.protocol.records import COMMIT, Leaf, ObjectState
from parsec_fs.workspace.promises import HeadPair


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedLeaf:
    """`served` are the leaves from index `start` on as they came with `head`; the refused one is
    `served[place]`. `before` and `objects` are the realm right before it; None in an org log."""

    log: LogId
    head: HeadPair
    start: int
    served: tuple[Leaf, ...]
    place: int
    before: RealmState | None
    objects: dict[ObjectId, ObjectState]

    @property
    def leaf(self) -> Leaf:
        """The leaf itself."""
        return self.served[self.place]


class LeafRefusedError(VerificationError):
    """Raised for the log's reader; `refused` is for the judge."""

    def __init__(self, error: Exception, refused: RefusedLeaf) -> None:
        inner = error.evidence if isinstance(error, VerificationError) else ()
        super().__init__(str(error), evidence=(*inner, encode_trusted(refused.head[1])))
        self.refused = refused


def refuse(
    error: Exception,
    *,
    log: LogId,
    head: HeadPair,
    start: int,
    served: Sequence[Leaf],
    leaf: Leaf,
    before: RealmState | None = None,
    objects: ObjectView = lambda _: None,
) -> LeafRefusedError:
    """The error to raise. `leaf` is one of `served`, compared by identity: an index that a leaf
    gives itself is nothing to rely on."""
    place = next(number for number, one in enumerate(served) if one is leaf)
    held = {id: state for id in _named(leaf) if (state := objects(id)) is not None}
    refused = RefusedLeaf(
        log=log,
        head=head,
        start=start,
        served=tuple(served),
        place=place,
        before=before,
        objects=held,
    )
    return LeafRefusedError(error, refused)


def _named(leaf: Leaf) -> list[ObjectId]:
    """Objects that a commit leaf writes or relies upon; none if it is malformed."""
    if leaf.header.kind != COMMIT:
        return []
    try:
        body, commit = decode(CommitBody, leaf.body), peek_commit(leaf.body)
    except DataError:
        return []
    return [one.object for one in body.objects] + [one.object for one in commit.preconditions]

"""A settlement is replayed as a whole or not at all.

Data flow: contest -> `one_settlement` -> tree -> journal; storage/journal (what was recovered)
    -> `whole` -> memory -> replay.

Pure. A settlement with much small content fills several groups of the journal, and the program may
end between two of them. A part of it must not be replayed: what is contested is noted again from
what the store keeps (decision 0013) and settled anew, so copies that are there already would be
there twice, and what was given up already would be lost. SETTLING says how many records follow, so
that never more than these are dropped: what lies behind them may have been synced for somebody.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from parsec_fs.workspace import records
from parsec_fs.workspace.name_index import NameIndex
from parsec_fs.workspace.tree import Tree

Positioned = tuple[int, Any]
"""Position and record."""


@contextmanager
def one_settlement(tree: Tree) -> Iterator[None]:
    """What is recorded meanwhile goes to the journal in one piece, with its count. Nothing may be
    awaited meanwhile. After an error too: the tree shows what was done until then.
    Meanwhile the tree has an index of its names."""
    if tree.flying_nodes or tree.flying_names:
        raise RuntimeError("a capture is in flight")
    emit, unit = tree.emit, list[records.Record]()
    tree.index = NameIndex(tree.nodes, tree.dirty_names)
    tree.position += 1  # of SETTLING, which is made last
    tree.emit = unit.append
    try:
        yield
    finally:
        tree.emit, tree.index = emit, None
        emit((records.SETTLING, len(unit)))
        for record in unit:
            emit(record)


def whole(recovered: Iterable[Positioned]) -> tuple[list[Positioned], bool]:
    """The records without those of settlements that were not journalled to their end. True iff the
    last one is such a settlement: then ABANDONED has to follow before anything else.

    Journals of older programs do not tell the count: there only ABANDONED drops anything."""
    kept: list[Positioned] = []
    begun: int | None = None
    missing = 0
    for position, record in recovered:
        tag = record[0] if record else None
        if tag == records.ABANDONED and begun is not None:
            del kept[begun:]
            begun, missing = None, 0
        elif tag == records.SETTLING:
            begun, missing = len(kept), _count(record)
        elif missing:
            missing -= 1
            begun = begun if missing else None
        elif tag == records.SETTLED:
            begun = None
        kept.append((position, record))
    if missing:
        del kept[begun:]
    return kept, missing > 0


def _count(settling: tuple[Any, ...]) -> int:
    count = settling[1] if len(settling) > 1 else 0
    return count if type(count) is int else 0

"""A settlement is replayed as a whole or not at all.

Data flow: storage/journal (what was recovered) -> this -> memory -> replay.

Pure. A settlement with much small content fills several groups of the journal, and the program may
end between two of them. A part of it must not be replayed: what is contested is noted again from
what the store keeps (decision 0013) and settled anew, so copies that are there already would be
there twice, and what was given up already would be lost.
"""

from collections.abc import Iterable
from typing import Any

from parsec_fs.workspace import records

Positioned = tuple[int, Any]
"""Position and record."""


def whole(recovered: Iterable[Positioned]) -> tuple[list[Positioned], bool]:
    """The records without those of settlements that were not journalled to their end. True iff the
    last one is such a settlement: then ABANDONED has to follow before anything else."""
    kept: list[Positioned] = []
    begun: int | None = None
    for position, record in recovered:
        tag = record[0] if record else None
        if tag in (records.SETTLING, records.ABANDONED) and begun is not None:
            del kept[begun:]
        if tag == records.SETTLING:
            begun = len(kept)
        elif tag in (records.SETTLED, records.ABANDONED):
            begun = None
        kept.append((position, record))
    if begun is not None:
        del kept[begun:]
    return kept, begun is not None

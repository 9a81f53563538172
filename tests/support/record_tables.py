"""Records as tables, the way docs/protocol.md shows them.

Data flow: record dataclasses -> (field, type) rows == rows of the document's tables.
"""

import dataclasses
from collections.abc import Iterator
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from parsec_fs.protocol import (
    block_batches,
    certificates,
    chain_types,
    commands,
    commits,
    manifests,
    prefix_map,
    proofs,
    realm_state,
    records,
    recoveries,
    snapshots,
    statements,
)
from parsec_fs.protocol.codec import Increasing, IntRange, Size
from parsec_fs.protocol.ids import LENGTHS

MODULES = (
    records,
    certificates,
    commits,
    realm_state,
    statements,
    prefix_map,
    manifests,
    chain_types,
    commands,
    block_batches,
    recoveries,
    snapshots,
    proofs,
)
NOT_ENCODED = {
    certificates.Authored,
    commits.VerifiedCommit,
    realm_state.RealmState,
    realm_state.Transition,
    prefix_map.PrefixMap,
    snapshots.Snapshot,
}
_NUMBERS = {
    (0, 2**8 - 1): "u8",
    (0, 2**16 - 1): "u16",
    (0, 2**32 - 1): "u32",
    (0, 2**64 - 1): "u64",
    (-(2**63), 2**63 - 1): "i64",
    (0, 2**63 - 1): "u63",
}


def record_classes() -> Iterator[type]:
    """Every class that has an encoding, in the order of its module."""
    for module in MODULES:
        for cls in vars(module).values():
            if not isinstance(cls, type) or cls.__module__ != module.__name__:
                continue
            if dataclasses.is_dataclass(cls) and cls not in NOT_ENCODED:
                yield cls


def fields_of(cls: type) -> list[tuple[str, str]]:
    """(field, type) of a record in the order of its array."""
    hints = get_type_hints(cls, include_extras=True)
    return [(one.name, type_text(hints[one.name])) for one in dataclasses.fields(cls)]


def type_text(hint: Any) -> str:
    """A field's type in the words of the document."""
    if hint in LENGTHS:
        return f"bytes {LENGTHS[hint]}"
    notes: tuple[Any, ...] = ()
    if get_origin(hint) is Annotated:
        hint, *rest = get_args(hint)
        notes = tuple(rest)
    size = next((one for one in notes if isinstance(one, Size)), None)
    if hint is int:
        bounds = next(one for one in notes if isinstance(one, IntRange))
        lowest, highest = bounds
        return _NUMBERS.get((lowest, highest), f"{lowest} to {highest}")
    if hint is bytes:
        return f"bytes {_range(size)}" if size else "bytes"
    if get_origin(hint) is tuple:
        order = ", increasing" if any(isinstance(one, Increasing) for one in notes) else ""
        return f"array {_range(size) + ' ' if size else ''}of {type_text(get_args(hint)[0])}{order}"
    return f"{hint.__name__}"


def _range(size: Size) -> str:
    return str(size.least) if size.least == size.most else f"{size.least} to {size.most}"

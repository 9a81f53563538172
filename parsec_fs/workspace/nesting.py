"""References of large files: nested into blocks of 1,024 when sealed, flat on this device.

Data flow: captured manifest -> `nest` -> sealed manifest and node blocks; and back by `flatten`.

Pure but for the two parameters that seal a node and read one. A file of n blocks needs
ceil(n / 1024) node blocks and one more level per factor of 1,024 (MAX_DEPTH levels: 10^15 blocks).
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Final

from parsec_fs.protocol.codec import decode, encode_trusted
from parsec_fs.protocol.errors import DataError
from parsec_fs.protocol.limits import REFS_PER_NODE
from parsec_fs.protocol.manifests import (
    BlockRef,
    FileManifest,
    RefNode,
    block_count,
    check_digests,
)

MOST_REFS: Final = 2**20
"""Data blocks of one file that a device can hold flat: 1 TiB, holes included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FlatRefs:
    """All data blocks of a file, as this device keeps them."""

    refs: tuple[BlockRef, ...]


def nest(manifest: FileManifest, seal_node: Callable[[bytes], BlockRef]) -> FileManifest:
    """The manifest with at most 1,024 references; the nodes below are sealed on the way.
    Raises DataError for a digest not taken yet."""
    refs, depth = manifest.refs, 0
    check_digests(refs)
    while len(refs) > REFS_PER_NODE:
        chunks = [refs[i : i + REFS_PER_NODE] for i in range(0, len(refs), REFS_PER_NODE)]
        refs = tuple([seal_node(encode_trusted(RefNode(refs=chunk))) for chunk in chunks])
        depth += 1
    return manifest if depth == 0 else replace(manifest, refs=refs, depth=depth)


async def flatten(
    manifest: FileManifest, read_node: Callable[[BlockRef], Awaitable[bytes]]
) -> FileManifest:
    """The manifest with all data blocks (depth 0). Raises DataError and what `read_node` does."""
    refs = manifest.refs
    most = min(block_count(manifest.size), MOST_REFS)
    for _ in range(manifest.depth):
        refs = await _level(refs, most, read_node)
    return replace(manifest, refs=refs, depth=0)


async def _level(
    nodes: tuple[BlockRef, ...], most: int, read_node: Callable[[BlockRef], Awaitable[bytes]]
) -> tuple[BlockRef, ...]:
    """What these nodes hold. A hostile author could otherwise make us expand without end: one node
    named a thousand times on each of four levels is a thousand million references."""
    if len({ref.id for ref in nodes}) != len(nodes):
        raise DataError("manifest: a node of references is named twice")
    found: list[BlockRef] = []
    for ref in nodes:
        below = decode(RefNode, await read_node(ref)).refs
        check_digests(below)
        found += below
        if len(found) > most:
            raise DataError("manifest: more blocks than the size allows")
    return tuple(found)

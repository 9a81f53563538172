"""Figures in docs/protocol.md that production must reproduce.

Data flow: production's encoding and sealing -> sizes == the document's table.
"""

from parsec_fs.protocol.codec import decode
from parsec_fs.protocol.ids import BlockId, DeviceId, Hash, ObjectId, OrgId, RealmId
from parsec_fs.protocol.limits import INLINE_MAX_SIZE, MIB
from parsec_fs.protocol.manifests import (
    Attributes,
    BlockRef,
    FileManifest,
    block_count,
    encode_manifest,
)
from parsec_fs.protocol.sealing import ManifestContext, RealmKey, seal_manifest
from tests.support import reference as ref
from tests.support.vector_manifests import ATTRIBUTES

CONTEXT = ManifestContext(
    org=OrgId(bytes(32)),
    realm=RealmId(bytes(32)),
    object=ObjectId(bytes(16)),
    version=1,
    author=DeviceId(bytes(16)),
)


def file_sizes(size: int) -> tuple[int, int, int, int]:
    """(manifest, payload, number of blocks, bytes of all sealed blocks) of a file."""
    inline = bytes(size) if size <= INLINE_MAX_SIZE else b""
    blocks = 0 if inline or not size else block_count(size)
    ref_of_block = BlockRef(id=BlockId(bytes(16)), key=bytes(32), digest=Hash(bytes(32)), size=MIB)
    manifest = encode_manifest(
        FileManifest(
            attributes=decode(Attributes, ref.pack(ATTRIBUTES)),
            size=size,
            inline=inline,
            depth=0,
            refs=(ref_of_block,) * blocks,
        )
    )
    sealed = seal_manifest(manifest, key=RealmKey(1, bytes(32)), context=CONTEXT, salt=bytes(32))
    return len(manifest), len(sealed), blocks, size + 16 * blocks if blocks else 0

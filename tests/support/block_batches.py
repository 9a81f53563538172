"""Several blocks in one request, as a device sends them or as it should not.

Data flow: ids and bytes -> signed `blocks/put` -> what the server says of each.
"""

from collections.abc import Mapping

from parsec_fs.protocol.block_batches import PutBlocks, SealedBlock
from parsec_fs.protocol.codec import encode_trusted
from parsec_fs.protocol.commands import Outcome
from parsec_fs.protocol.errors import OfflineError, RefusedError
from parsec_fs.protocol.hashing import sha256
from parsec_fs.protocol.ids import BlockId, Hash, RealmId
from parsec_fs.remote.blocks import BlockClient
from tests.support.devices import RawDevice


async def put_many(
    device: RawDevice,
    realm: RealmId,
    blocks: Mapping[BlockId, bytes],
    *,
    digests: Mapping[BlockId, Hash] | None = None,
) -> list[str]:
    """Names of the outcomes in the order of the ids; `digests` other than the true ones. Raises
    RefusedError if all of it is refused."""
    sealed = tuple(
        SealedBlock(id=id, digest=(digests or {}).get(id, sha256(data)), sealed=data)
        for id, data in sorted(blocks.items())
    )
    body = encode_trusted(PutBlocks(realm=realm, blocks=sealed))
    client = BlockClient(device.signer, realm)
    found = await client.put_many(body, len(sealed), digest=sha256(body))
    return [_name(one) for one in found]


def _name(found: RefusedError | OfflineError | None) -> str:
    if found is None:
        return Outcome.OK.name
    return found.outcome if isinstance(found, RefusedError) else Outcome.UNAVAILABLE.name

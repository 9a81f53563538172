"""A member puts other bytes under the id of another's block, hidden among blocks of their own.

Data flow: bob's signed `blocks/put` -> real server -> what alice gets for her block.

Two things refuse it (rule 18), each alone: the server's database, which knows the digest of the
block, and its store, which creates and never replaces. Without both of them alice's bytes are gone
from the server; the digest in her signed manifest still keeps bob's from being read (rule 5).
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import delete

from parsec_fs.protocol.certificates import CONTRIBUTOR
from parsec_fs.protocol.errors import VerificationError
from parsec_fs.protocol.ids import BlockId, RealmId
from parsec_fs.protocol.sealing import block_ref, open_block, seal_block
from parsec_fs.remote.blocks import BlockClient
from server.blocks.base import BlockStore, Stored, block_name
from server.blocks.directory import DirectoryStore
from server.store import schema
from tests.support.block_batches import put_many
from tests.support.devices import new_org
from tests.support.server import in_process, outside


class Replacing(DirectoryStore):
    """A store that puts what comes in the place of what is there."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self._place = root

    async def put(self, realm: RealmId, blocks: Mapping[BlockId, bytes]) -> dict[BlockId, Stored]:
        for block, data in blocks.items():
            path = self._place / block_name(realm, block)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        return dict.fromkeys(blocks, Stored.DURABLE)


@pytest.mark.parametrize("knows", [True, False], ids=["known", "forgotten"])
@pytest.mark.parametrize("store", [DirectoryStore, Replacing])
async def test_other_bytes_among_good_blocks(
    tmp_path: Path, store: type[DirectoryStore], knows: bool
) -> None:
    blocks: BlockStore = store(tmp_path / "blocks")
    pieces = replace(outside(tmp_path / "server"), blocks=blocks)
    async with in_process(tmp_path / "server", pieces=pieces) as running, running.http() as http:
        alice = await new_org(http, running.identity.registration)
        bob, realm = await alice.add_user(http), await alice.create_realm()
        await alice.give(realm, bob.secrets.user, CONTRIBUTOR)
        block, key = BlockId(b"5" * 16), bytes(32)
        sealed = seal_block(b"hers", realm=realm, block_id=block, key=key)
        ref = block_ref(sealed, block_id=block, key=key)
        assert await put_many(alice, realm, {block: sealed}) == ["OK"]
        if not knows:
            await pieces.database.write(lambda one: one.execute(delete(schema.blocks)))

        own = {BlockId(bytes((number,)) * 16): b"bob's" for number in range(10)}
        found = await put_many(bob, realm, own | {block: b"other"})

        checked = knows or store is DirectoryStore
        assert found == ["OK"] * 10 + ["EXISTS" if checked else "OK"]
        client = BlockClient(alice.signer, realm)
        assert [await client.get(one) for one in own] == [b"bob's"] * 10
        left = await client.get(block)
        assert left == (sealed if checked else b"other")
        if not checked:
            with pytest.raises(VerificationError):
                open_block(left, ref, realm=realm)

"""A server whose statement keys changed is audited, and convicted, as before.

Data flow: HonestServer with new keys, and its lies -> AuditedDevice -> word, evidence.

Whoever has only the anchor, with the first keys in it, follows: statements carry the change. What
the new keys sign convicts; a change that the old keys did not sign is no statement of the server.
"""

import pytest

from parsec_fs.audit.checks import ALL_CHECKS
from parsec_fs.audit.client_state import Word
from parsec_fs.audit.verdict import Kind
from parsec_fs.protocol.keys import CoSigningKey, SigningKey
from tests.attack.test_history_attacks import Scene, anchor_wrong_map, roll_back

pytestmark = pytest.mark.allows_log("audit: ")

NEW = b"n" * 32


@pytest.fixture
async def scene() -> Scene:
    """The keys changed, and an epoch under the new ones is verified."""
    found = Scene(ALL_CHECKS)
    await found.start()
    found.server.change_keys(NEW)
    found.chain.publish(found.server.cut())
    assert await found.device.audit() is Word.VERIFIED
    return found


async def test_audit_follows_both_pairs(scene: Scene) -> None:
    for number in range(3):
        scene.server.commit(scene.bob)
        await scene.device.pull()
        scene.server.change_keys(bytes([number + 1]) * 32)
        scene.chain.publish(scene.server.cut())
        assert await scene.device.audit() is Word.VERIFIED
    scene.in_peace()


async def test_rollback_under_new_keys_convicts(scene: Scene) -> None:
    await roll_back(scene)
    scene.convicted_of(Kind.BROKEN_PROMISE)


async def test_split_view_under_new_keys_convicts(scene: Scene) -> None:
    await anchor_wrong_map(scene)
    scene.convicted_of(Kind.SPLIT_VIEW)


async def test_change_that_the_old_keys_did_not_sign_is_nobodys(scene: Scene) -> None:
    """Validators would not take it (`test_abci_rules`); a device does not either, and accuses no
    one: anybody could have made it."""
    thief = SigningKey(bytes(32)), CoSigningKey(bytes(32))
    scene.server.change_keys(bytes(32), before=thief)
    scene.chain.publish(scene.server.cut())
    await scene.device.audit()
    scene.only_suspect()

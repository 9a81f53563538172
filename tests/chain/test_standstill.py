"""After a standstill, blocks first carry the time of the last one before it (BFT time lags).

A fresh statement then seems to come from the future. It must be anchored within a few blocks, not
heartbeats later. The pause is longer than the slack of rule 17 for these settings (16 s).
"""

from pathlib import Path

import trio

from tests.support.chain import running_chain
from tests.support.chain_clients import head_of_epoch, light_client, publish
from tests.support.servers import FakePublisher

PAUSE_S = 18


async def test_statement_after_a_standstill_is_anchored_at_once(tmp_path: Path) -> None:
    publisher = FakePublisher()
    async with running_chain(tmp_path, [publisher.registration]) as net:
        await publish(net, publisher)
        client = light_client(net, publisher)
        await head_of_epoch(client, 0)
        await net.nodes[0].kill()
        await trio.sleep(PAUSE_S)  # the pause is what is tested
        await net.nodes[0].start()
        await net.nodes[0].wait_until_up()
        await publish(net, publisher)
        head = await head_of_epoch(client, 1, timeout_s=2)
        assert head.statement.root == publisher.tree.root()

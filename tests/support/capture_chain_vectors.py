"""Capture real answers of CometBFT as fixtures: `python -m tests.support.capture_chain_vectors`.

Four validators; one is frozen for a while, so that commits with an absent vote and with a round
above zero are among them. The answers are kept as the node sent them.
"""

import json
import tempfile
import time
from pathlib import Path

import trio

from parsec_fs.protocol import chain_rpc
from parsec_fs.protocol.simple_map import HEADS_PATH, log_key
from tests.support.chain import ChainNet, RunningNode, running_chain
from tests.support.servers import FakePublisher

TARGET = Path(__file__).parent.parent / "fixtures/chain"
HEIGHTS = 8


async def capture(net: ChainNet, publisher: FakePublisher) -> dict[str, object]:
    """All answers of one node, by name."""
    first, *_, last = net.nodes
    await first.broadcast(publisher.next_tx(time.time_ns() // 1_000_000))
    await first.wait_above(4)
    last.freeze()
    await first.wait_above(HEIGHTS, timeout_s=60)
    last.thaw()
    key = log_key(publisher.registration.server_log)
    query = chain_rpc.query_params(HEADS_PATH, key, prove=True)
    return {
        "genesis": json.loads(net.genesis()),
        "head": json.loads(await first.rpc.call("abci_query", query)),
        "commits": [await _answer(first, "commit", one) for one in range(1, HEIGHTS + 1)],
        "validators": [await _answer(first, "validators", one) for one in range(1, HEIGHTS + 1)],
    }


async def _answer(node: RunningNode, method: str, height: int) -> object:
    params = chain_rpc.height_params(height)
    if method == "validators":
        params = chain_rpc.validators_params(height)
    return json.loads(await node.rpc.call(method, params))


async def main() -> None:
    """Run the network and write the file."""
    publisher = FakePublisher()
    with tempfile.TemporaryDirectory() as folder:
        async with running_chain(Path(folder), [publisher.registration], validators=4) as net:
            answers = await capture(net, publisher)
    TARGET.mkdir(parents=True, exist_ok=True)
    (TARGET / "four_validators.json").write_text(json.dumps(answers, indent=1) + "\n")


if __name__ == "__main__":
    trio.run(main)

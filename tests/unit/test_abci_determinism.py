"""Two processes with different hash seeds compute the same hashes for the same blocks."""

import os
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import sys
from abci_app.application import Application
from tests.support.abci import START_MS, MemoryStore, init_chain, run_block
from tests.support.servers import FakePublisher

txs = [bytes.fromhex(line) for line in sys.stdin.read().split()]
names = [b"server-%d" % number for number in range(5)]
publishers = [FakePublisher(name=name, seed=name.ljust(32)) for name in names]
app = Application(MemoryStore(), version="test")
print(app.handle(init_chain(*publishers)).init_chain.app_hash.hex())
for height in range(1, len(txs) // 4 + 1):
    block = txs[4 * height - 4 : 4 * height]
    answer = run_block(app, height, block, time_ms=START_MS + height * 1000)
    print(answer.app_hash.hex(), [one.code for one in answer.tx_results])
"""


def blocks() -> str:
    """Statements of five servers mixed with forks, repetitions and junk."""
    from tests.support.abci import START_MS
    from tests.support.servers import FakePublisher

    names = [b"server-%d" % number for number in range(5)]
    txs: list[bytes] = []
    for name in names:
        publisher = FakePublisher(name=name, seed=name.ljust(32))
        fork = publisher.sign(publisher.statement(START_MS, content=b"fork"))
        txs += [publisher.next_tx(START_MS), fork, fork[:-1], publisher.next_tx(START_MS + 2_000)]
    return "\n".join(tx.hex() for tx in txs)


def run(seed: int, given: str) -> str:
    root = Path(__file__).parent.parent.parent
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        input=given,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        cwd=root,
        env={**os.environ, "PYTHONHASHSEED": str(seed)},
    )
    return done.stdout


def test_same_blocks_same_hashes_in_any_process() -> None:
    given = blocks()
    first = run(1, given)
    assert first == run(2, given)
    assert len(set(first.splitlines())) == 6

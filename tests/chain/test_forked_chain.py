"""The validator itself is dishonest: it runs two chains under one key and shows each to some.

With a single validator this is all that the chain's promise hangs on (rule 29, self-anchored):
a client that asks both nodes finds the fork and gets evidence that anyone can check.
"""

from pathlib import Path

import pytest

from parsec_fs.audit.chain_evidence import check_chain_fork
from parsec_fs.protocol.errors import ForkError, VerificationError
from tests.support.chain import RunningNode, running_chain
from tests.support.chain_clients import light_client, now_ms
from tests.support.servers import FakePublisher
from tests.support.simulated_chain import operators


async def test_two_chains_under_one_key_are_proven(tmp_path: Path) -> None:
    publisher = FakePublisher()
    async with running_chain(tmp_path / "net", [publisher.registration]) as net:
        first = net.nodes[0]
        await first.kill()
        second = first.clone(tmp_path / "fork")
        try:
            await _run_both(publisher, first, second)
            client = light_client(net, publisher, [first.rpc, second.rpc])
            with pytest.raises(ForkError) as caught:
                await client.newest_head()
            anchor = net.anchor(trusted_from_ns=0)
        finally:
            await second.kill()
        evidence = caught.value.evidence[0]
        finding = check_chain_fork(evidence, anchor)
        assert finding.chain_id == anchor.chain_id
        assert set(finding.double_voters) <= {one.address for one in anchor.validators}
        assert client.trust.height == 0
        with pytest.raises(VerificationError):
            check_chain_fork(evidence, operators(1, 2, 3, 4).anchor())


async def _run_both(publisher: FakePublisher, first: RunningNode, second: RunningNode) -> None:
    """Each goes on from the same past with another statement of epoch 0."""
    fork = publisher.sign(publisher.statement(now_ms(), content=b"fork"))
    honest = publisher.next_tx(now_ms())
    for node, tx in ((first, honest), (second, fork)):
        await node.start()
        await node.wait_until_up()
        assert (await node.broadcast(tx)).code == 0
        await node.wait_above((await node.status()).latest_height + 1)

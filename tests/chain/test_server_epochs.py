"""The real server publishes epochs on a real chain, and devices can open them.

Data flow: `parsec-server run` -> CometBFT with the application -> statements -> epoch/read.
"""

from pathlib import Path

import httpx

from parsec_fs.protocol.epochs import open_epoch
from parsec_fs.protocol.ids import LogId
from parsec_fs.protocol.keys import CoVerifyKey, VerifyKey
from parsec_fs.protocol.merkle import Frontier
from parsec_fs.protocol.records import LogState
from parsec_fs.protocol.statements import verify_statement
from tests.support.chain import running_chain
from tests.support.devices import RawDevice, new_object, new_org
from tests.support.server import make_home, server_process
from tests.support.waiting import eventually


async def test_promised_epochs_become_final(tmp_path: Path) -> None:
    identity = make_home(tmp_path / "server")
    async with (
        running_chain(tmp_path / "chain", [identity.registration]) as net,
        server_process(
            tmp_path / "server", rpc_urls=[node.node.rpc_url for node in net.nodes]
        ) as process,
        httpx.AsyncClient(base_url=process.url, trust_env=False) as http,
    ):
        await eventually(lambda: is_open(http), timeout_s=20)
        alice = await new_org(http, identity.registration)
        realm = await alice.create_realm()
        await alice.write(realm, new_object())
        head = await alice.pull(realm)
        logs = (LogId(alice.anchor.org), LogId(realm))

        async def final() -> bool:
            found = await alice.server.read_epochs(0, 0, logs)
            return found.final > head.due_epoch

        await eventually(final, timeout_s=30)
        states = await opened(alice, logs, identity.registration.co_key)
        assert states[-1][1] is not None
        assert states[-1][1].size == head.size
        await process.kill()
        await process.start()
        await eventually(lambda: is_open(http), timeout_s=20)
        assert (await alice.pull(realm)).size == head.size


async def is_open(http: httpx.AsyncClient) -> bool:
    """The chain has confirmed the server's copy."""
    try:
        return (await http.post("/v1/session/open", content=b"")).status_code == 400
    except httpx.HTTPError:
        return False


async def opened(
    alice: RawDevice, logs: tuple[LogId, ...], co_key: bytes
) -> list[tuple[LogState | None, ...]]:
    """States at every epoch, each verified to extend the one before."""
    found = await alice.server.read_epochs(0, 1000, logs)
    tree, states = Frontier(), list[tuple[LogState | None, ...]]()
    server = alice.anchor.server
    for number, proof in enumerate(found.epochs):
        statement = verify_statement(
            proof.statement,
            expected_chain_id=alice.anchor.chain.chain_id,
            expected_server_log=server.server_log,
            head_key=VerifyKey(server.head_key),
            co_key=CoVerifyKey(co_key),
        )
        tree, state = open_epoch(
            proof,
            statement,
            expected_epoch=number,
            expected_org=alice.anchor.org,
            expected_logs=logs,
            before=tree,
        )
        states.append(state)
    return states

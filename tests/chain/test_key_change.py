"""A server changes the keys of its statements: a real chain follows both pairs, and nobody else.

Data flow: FakePublisher, `parsec-server change-keys` -> one CometBFT validator -> light clients.
"""

import sys
from pathlib import Path

import httpx
import trio

from abci_app.codes import Code
from parsec_fs.protocol.codec import decode
from parsec_fs.protocol.ids import LogId
from parsec_fs.protocol.keys import CoSigningKey, SigningKey
from parsec_fs.protocol.statements import SignedStatement
from tests.chain.test_server_epochs import is_open, opened
from tests.support.chain import running_chain
from tests.support.chain_clients import head_of_epoch, light_client, publish
from tests.support.devices import new_org
from tests.support.server import make_home, server_process
from tests.support.servers import CHAIN_ID, FakePublisher
from tests.support.waiting import eventually

NEW, OTHER = b"n" * 32, b"o" * 32


async def test_light_clients_follow_a_change_of_keys(tmp_path: Path) -> None:
    publisher = FakePublisher()
    async with running_chain(tmp_path, [publisher.registration]) as net:
        await publish(net, publisher)
        old_friend = light_client(net, publisher)
        await head_of_epoch(old_friend, 0)

        thief = publisher.changed(NEW, before=(SigningKey(NEW), CoSigningKey(NEW)))
        attempt = thief.sign(thief.statement(publisher.earliest_ms()))
        assert (await net.nodes[0].broadcast(attempt)).code == Code.BAD_SIGNATURE

        changed = publisher.changed(NEW)
        tx = await publish(net, changed)
        for client in (old_friend, light_client(net, publisher)):
            head = await head_of_epoch(client, 1)
            assert head.statement_bytes == tx
            assert client.lying == {}

        publisher.tree = changed.tree
        for retired in (publisher, publisher.changed(OTHER)):
            attempt = retired.sign(retired.statement(changed.earliest_ms()))
            assert (await net.nodes[0].broadcast(attempt)).code == Code.WRONG_KEYS
        await publish(net, changed)
        assert (await head_of_epoch(old_friend, 2)).statement.root == changed.tree.root()


async def test_server_goes_on_under_new_keys(tmp_path: Path) -> None:
    home = tmp_path / "server"
    identity = make_home(home)
    async with (
        running_chain(tmp_path / "chain", [identity.registration]) as net,
        server_process(home, rpc_urls=[node.node.rpc_url for node in net.nodes]) as process,
        httpx.AsyncClient(base_url=process.url, trust_env=False) as http,
    ):
        await eventually(lambda: is_open(http), timeout_s=20)
        alice = await new_org(http, identity.registration)
        logs = (LogId(alice.anchor.org),)

        async def final(count: int) -> bool:
            return (await alice.server.read_epochs(0, 0, logs)).final >= count

        await eventually(lambda: final(2), timeout_s=30)
        await process.kill()
        program = str(Path(sys.executable).parent / "parsec-server")
        command = [program, "change-keys", "--home", str(home), "--chain-id", CHAIN_ID.decode()]
        await trio.run_process(command, check=True, capture_stdout=True)
        await process.start()
        await eventually(lambda: is_open(http), timeout_s=20)
        await eventually(lambda: final(5), timeout_s=30)
        found = await alice.server.read_epochs(0, 1000, logs)
        carried = [len(one.statement.changes) for one in found.epochs]
        assert carried == sorted(carried)
        assert set(carried) == {0, 1}
        states = await opened(alice, logs, identity.registration.co_key)
        assert len(states) >= 5
        known = FakePublisher()
        known.registration = identity.registration
        head = await head_of_epoch(light_client(net, known), 4)
        assert len(decode(SignedStatement, head.statement_bytes).changes) == 1

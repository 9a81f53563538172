"""Genesis, network files and the command line of the chain application."""

import json
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from abci_app.cli import app
from abci_app.devnet import (
    TEST_TIMING,
    Network,
    Node,
    app_command,
    genesis_document,
    load_network,
    node_config,
)
from abci_app.genesis import app_state, parse_app_state
from parsec_fs.protocol.codec import encode
from parsec_fs.protocol.errors import DataError, InputError
from tests.support.servers import FakePublisher

FIRST = FakePublisher().registration
SECOND = FakePublisher(name=b"second", seed=bytes(32)).registration


def node(number: int) -> Node:
    return Node(
        home=f"/net/node{number}",
        rpc_port=1000 + number,
        p2p_port=2000 + number,
        app_address=f"unix:///net/node{number}/abci.sock",
        node_id=f"{number:040x}",
    )


def test_app_state_round_trip_in_one_order() -> None:
    data = json.dumps(app_state([FIRST, SECOND], operators=3)).encode()
    assert json.loads(data) == app_state([SECOND, FIRST], operators=3)
    servers, operators = parse_app_state(data)
    assert sorted(servers, key=lambda one: one.name) == [SECOND, FIRST]
    assert operators == 3


@pytest.mark.parametrize("operators", [None, 0, -1, 101, True, "4", 1.0])
def test_a_genesis_declares_its_operators(operators: Any) -> None:
    """Rule 29: the genesis states the policy."""
    with pytest.raises(DataError):
        parse_app_state(json.dumps({**app_state([FIRST]), "operators": operators}).encode())
    documents: list[Any] = [[], {}, {"servers": []}, {"operators": 1}, {**app_state([]), "more": 1}]
    for document in documents:
        with pytest.raises(DataError):
            parse_app_state(json.dumps(document).encode())


@pytest.mark.parametrize(
    "change",
    [
        {"server_log": "00" * 32},
        {"head_key": "01" + "00" * 31},
        {"co_key": "00" * 1311},
        {"epoch_ms": "2000"},
        {"epoch_ms": True},
        {"heartbeat_ms": -1},
        {"name": None},
        {"name": "zz"},
    ],
)
def test_damaged_registration_is_refused(change: dict[str, Any]) -> None:
    state: dict[str, Any] = app_state([FIRST])
    state["servers"][0].update(change)
    with pytest.raises(DataError):
        parse_app_state(json.dumps(state).encode())


def test_every_validator_binds_loopback_and_knows_the_others() -> None:
    nodes = [node(number) for number in range(4)]
    for one in nodes:
        config = tomllib.loads(node_config(one, nodes, TEST_TIMING))
        assert config["rpc"]["laddr"] == f"tcp://127.0.0.1:{one.rpc_port}"
        assert config["p2p"]["laddr"] == f"tcp://127.0.0.1:{one.p2p_port}"
        peers = config["p2p"]["persistent_peers"].split(",")
        assert len(peers) == 3
        assert not any(peer.startswith(one.node_id) for peer in peers)
        assert config["p2p"]["pex"] is False
        assert config["consensus"]["create_empty_blocks"] is False


def test_genesis_does_not_depend_on_the_order_of_servers() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    one = genesis_document("chain", ["a2V5"], [FIRST, SECOND], now=now)
    assert one == genesis_document("chain", ["a2V5"], [SECOND, FIRST], now=now)


def test_command_line_names_socket_and_home() -> None:
    command = app_command(node(1), retain_blocks=7)
    assert command[command.index("--socket") + 1] == "unix:///net/node1/abci.sock"
    assert command[command.index("--retain-blocks") + 1] == "7"


@pytest.mark.parametrize("text", ["", "[]", '{"chain_id": "c"}', '{"chain_id":"c","nodes":[1]}'])
def test_damaged_network_file_is_an_input_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "network.json").write_text(text)
    with pytest.raises(InputError):
        load_network(tmp_path)


def test_network_file_round_trip(tmp_path: Path) -> None:
    network = Network(chain_id="chain", nodes=(node(0), node(1)))
    network.save(tmp_path)
    assert load_network(tmp_path) == network


def registration_file(folder: Path, name: str, registration: object) -> str:
    path = folder / name
    path.write_bytes(encode(registration))
    return str(path)


def test_genesis_command_prints_and_merges(tmp_path: Path) -> None:
    first = registration_file(tmp_path, "first", FIRST)
    second = registration_file(tmp_path, "second", SECOND)
    printed = CliRunner().invoke(app, ["genesis", "--registration", first])
    assert json.loads(printed.stdout) == app_state([FIRST])
    target = tmp_path / "genesis.json"
    target.write_text('{"chain_id": "chain"}')
    for one in (first, second):
        arguments = ["genesis", "--registration", one, "--merge", str(target)]
        assert CliRunner().invoke(app, arguments).exit_code == 0
    document = json.loads(target.read_text())
    assert document == {"chain_id": "chain", "app_state": app_state([FIRST, SECOND])}
    arguments = ["genesis", "--merge", str(target), "--registration", first, "--operators", "4"]
    target.write_text('{"chain_id": "chain"}')
    assert CliRunner().invoke(app, arguments).exit_code == 0
    assert json.loads(target.read_text())["app_state"] == app_state([FIRST], operators=4)


def test_genesis_command_refuses_what_is_no_registration(tmp_path: Path) -> None:
    junk = tmp_path / "junk"
    junk.write_bytes(b"junk")
    result = CliRunner().invoke(app, ["genesis", "--registration", str(junk)])
    assert isinstance(result.exception, InputError)


def test_inspect_of_an_empty_folder(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["inspect", "--home", str(tmp_path)])
    assert json.loads(result.stdout) == {"height": 0}

"""Files and command lines of a chain on one machine: quickstart, test network, tests.

Data flow: registrations, timing -> `create_network` -> one folder per validator -> processes.

Pure writers for configuration and genesis, and a thin shell that lets CometBFT draw the keys.
Everything binds loopback. Each validator has its own ports and its own application, as on separate
machines; that one person runs them all is what `self-anchored` means (rule 29).
"""

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from abci_app.genesis import app_state
from parsec_fs.protocol.errors import InputError
from parsec_fs.protocol.statements import ServerRegistration

COMETBFT_VERSION: Final = "0.38.25"
NETWORK_FILE: Final = "network.json"
_SOCKET_PATH_MAX_SIZE: Final = 100
_TRUSTING_PERIOD_NS: Final = 30 * 86_400 * 1_000_000_000
_POWER: Final = 10
_PORTS: Final = range(10_240, 32_768)
"""Linux takes the ports of outgoing connections from 32768 on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Milliseconds. No empty blocks but the heartbeat, which bounds how old a header can be."""

    heartbeat_ms: int = 60_000
    commit_ms: int = 1_000
    propose_ms: int = 3_000
    vote_ms: int = 1_000


QUICKSTART_TIMING: Final = Timing(heartbeat_ms=10_000, commit_ms=200)
TEST_TIMING: Final = Timing(heartbeat_ms=2_000, commit_ms=200, propose_ms=1_000, vote_ms=500)


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One validator: a CometBFT process and its application."""

    home: str
    rpc_port: int
    p2p_port: int
    app_address: str
    node_id: str

    @property
    def rpc_url(self) -> str:
        """Where clients and the publisher reach it."""
        return f"http://127.0.0.1:{self.rpc_port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """All validators of one chain on this machine."""

    chain_id: str
    nodes: tuple[Node, ...]

    def save(self, root: Path) -> None:
        """For `load_network`."""
        (root / NETWORK_FILE).write_text(json.dumps(asdict(self), indent=2))


def node_config(node: Node, peers: Sequence[Node], timing: Timing) -> str:
    """Text of config.toml; every key left out has CometBFT's default."""
    others = ",".join(f"{one.node_id}@127.0.0.1:{one.p2p_port}" for one in peers if one != node)
    return f"""\
proxy_app = "{node.app_address}"
abci = "socket"
moniker = "{Path(node.home).name}"
log_level = "error"

[rpc]
laddr = "tcp://127.0.0.1:{node.rpc_port}"

[p2p]
laddr = "tcp://127.0.0.1:{node.p2p_port}"
persistent_peers = "{others}"
pex = false
addr_book_strict = false
allow_duplicate_ip = true
flush_throttle_timeout = "10ms"

[mempool]
size = 1000
max_txs_bytes = 67108864
max_tx_bytes = 524288

[consensus]
timeout_propose = "{timing.propose_ms}ms"
timeout_prevote = "{timing.vote_ms}ms"
timeout_precommit = "{timing.vote_ms}ms"
timeout_commit = "{timing.commit_ms}ms"
create_empty_blocks = false
create_empty_blocks_interval = "{timing.heartbeat_ms}ms"
peer_gossip_sleep_duration = "10ms"

[tx_index]
indexer = "null"

[storage]
discard_abci_responses = true
"""


def genesis_document(
    chain_id: str,
    validator_keys: Sequence[str],
    registrations: Sequence[ServerRegistration],
    *,
    now: datetime,
) -> dict[str, Any]:
    """The genesis that every validator must have byte for byte. Keys in base64."""
    validators = [
        {
            "pub_key": {"type": "tendermint/PubKeyEd25519", "value": key},
            "power": str(_POWER),
            "name": f"validator-{index}",
        }
        for index, key in enumerate(validator_keys)
    ]
    return {
        "genesis_time": now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "chain_id": chain_id,
        "initial_height": "1",
        "consensus_params": _consensus_params(),
        "validators": validators,
        "app_hash": "",
        "app_state": app_state(registrations),
    }


def _consensus_params() -> dict[str, Any]:
    return {
        "block": {"max_bytes": "1048576", "max_gas": "-1"},
        # Evidence must stay punishable as long as clients trust old keys.
        "evidence": {
            "max_age_num_blocks": "10000000",
            "max_age_duration": str(_TRUSTING_PERIOD_NS),
            "max_bytes": "65536",
        },
        "validator": {"pub_key_types": ["ed25519"]},
        "version": {"app": "1"},
        "abci": {"vote_extensions_enable_height": "0"},
    }


def app_command(node: Node, *, retain_blocks: int = 0) -> list[str]:
    """Command line of the application."""
    home = str(Path(node.home) / "app")
    command = [sys.executable, "-m", "abci_app", "run", "--home", home]
    return [*command, "--socket", node.app_address, "--retain-blocks", str(retain_blocks)]


def node_command(cometbft: Path, node: Node) -> list[str]:
    """Command line of CometBFT."""
    return [str(cometbft), "node", "--home", node.home]


def find_cometbft(checkout: Path | None = None) -> Path:
    """The pinned binary: of this checkout, or on PATH. Raises InputError."""
    checkout = checkout or Path(__file__).resolve().parent.parent
    on_path = shutil.which("cometbft")
    candidates = [checkout / ".tools/bin/cometbft", *([Path(on_path)] if on_path else [])]
    for candidate in candidates:
        if os.access(candidate, os.X_OK) and cometbft_version(candidate) == COMETBFT_VERSION:
            return candidate
    raise InputError(f"CometBFT {COMETBFT_VERSION} not found: run scripts/install-cometbft")


def cometbft_version(binary: Path) -> str:
    """What the binary says it is."""
    done = subprocess.run(
        [str(binary), "version"], capture_output=True, text=True, timeout=30, check=False
    )
    return done.stdout.strip().removeprefix("v")


def create_network(
    root: Path,
    registrations: Sequence[ServerRegistration],
    *,
    chain_id: str,
    validators: int,
    timing: Timing,
    cometbft: Path,
    now: datetime,
    ports: Sequence[int] | None = None,
) -> Network:
    """Draw keys and write every file below `root`. Nothing is started. Raises InputError.

    `ports`: three for each validator; by default any that are free now, which suits a network that
    does not come back after a while."""
    ports = ports or free_ports(3 * validators)
    nodes = []
    for index in range(validators):
        home = root / f"node{index}"
        _run(cometbft, "init", home)
        nodes.append(
            Node(
                home=str(home),
                rpc_port=ports[3 * index],
                p2p_port=ports[3 * index + 1],
                app_address=_app_address(home, ports[3 * index + 2]),
                node_id=_run(cometbft, "show-node-id", home),
            )
        )
    keys = [_validator_key(Path(node.home)) for node in nodes]
    genesis = json.dumps(genesis_document(chain_id, keys, registrations, now=now), indent=2)
    for node in nodes:
        config = Path(node.home) / "config"
        (config / "config.toml").write_text(node_config(node, nodes, timing))
        (config / "genesis.json").write_text(genesis)
    network = Network(chain_id=chain_id, nodes=tuple(nodes))
    network.save(root)
    return network


def load_network(root: Path) -> Network:
    """What `create_network` wrote. Raises InputError."""
    try:
        document = json.loads((root / NETWORK_FILE).read_text())
        nodes = tuple(Node(**fields) for fields in document["nodes"])
        return Network(chain_id=document["chain_id"], nodes=nodes)
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise InputError(f"{root}: holds no chain ({error})") from error


def free_ports(count: int) -> list[int]:
    """Loopback ports that nobody listens on right now. Drawn below those that systems give to
    outgoing connections, so that few others can take one before it is used."""
    ports: list[int] = []
    while len(ports) < count:
        port = secrets.choice(_PORTS)
        if port not in ports and _is_free(port):
            ports.append(port)
    return ports


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _app_address(home: Path, port: int) -> str:
    path = home / "abci.sock"
    if len(os.fsencode(path)) <= _SOCKET_PATH_MAX_SIZE:
        return f"unix://{path}"
    return f"tcp://127.0.0.1:{port}"


def _validator_key(home: Path) -> str:
    document = json.loads((home / "config/priv_validator_key.json").read_text())
    key: str = document["pub_key"]["value"]
    return key


def _run(cometbft: Path, command: str, home: Path) -> str:
    done = subprocess.run(
        [str(cometbft), command, "--home", str(home)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if done.returncode:
        raise InputError(f"cometbft {command}: {done.stderr.strip()[-500:]}")
    return done.stdout.strip()

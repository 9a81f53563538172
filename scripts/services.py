"""Servers of one folder: metadata server, validators with their applications, one supervisor.

Data flow: quickstart, testnet -> `create` writes plan.json -> `start` -> supervisor -> programs.

Everything lies below one folder and binds loopback. Ports are chosen once and remembered, because
devices pin the addresses. The plan is written last: a folder without one is half-finished, holds
nothing that anyone relies on, and is made anew.
"""

import fcntl
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from abci_app.devnet import (
    QUICKSTART_TIMING,
    Network,
    Timing,
    app_command,
    create_network,
    find_cometbft,
    load_network,
    node_command,
)
from parsec_fs.protocol.codec import decode, encode
from parsec_fs.protocol.commands import ReadMail
from parsec_fs.protocol.statements import ServerRegistration

PLAN_FILE = "plan.json"
LOCK_FILE = "supervisor.lock"
START_S = 60.0
STOP_S = 60.0
EPOCH_MS = 10_000
Step = Callable[[str], None]


class ServiceError(Exception):
    """What happened, and the way out, for people."""


@dataclass(frozen=True, kw_only=True)
class Addresses:
    """What devices pin."""

    server_port: int
    rpc_ports: list[int]

    @property
    def server_url(self) -> str:
        """Metadata server."""
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def rpc_urls(self) -> list[str]:
        """One node of each validator."""
        return [f"http://127.0.0.1:{port}" for port in self.rpc_ports]


class Services:
    """The folder `root` and what runs in it."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def logs(self) -> Path:
        """One file per program."""
        return self.root / "logs"

    @property
    def genesis(self) -> Path:
        """The chain's genesis, whose validators a device pins."""
        return self.root / "chain/node0/config/genesis.json"

    def exist(self) -> bool:
        """Has `create` come to its end?"""
        return (self.root / PLAN_FILE).exists()

    def addresses(self) -> Addresses:
        """Where the programs listen."""
        return Addresses(**self._plan()["addresses"])

    def _plan(self) -> dict[str, Any]:
        try:
            plan: dict[str, Any] = json.loads((self.root / PLAN_FILE).read_text())
            return plan
        except (OSError, ValueError) as error:
            raise ServiceError(f"{self.root / PLAN_FILE}: {error}") from error

    def create(
        self,
        *,
        validators: int,
        epoch_ms: int = EPOCH_MS,
        timing: Timing = QUICKSTART_TIMING,
        server_options: Sequence[str] = (),
    ) -> None:
        """Draw keys, choose ports, write every file. Nothing is started."""
        shutil.rmtree(self.root, ignore_errors=True)
        self.logs.mkdir(parents=True, mode=0o700)
        try:
            self._create(validators, epoch_ms, timing, server_options)
        except BaseException:
            shutil.rmtree(self.root, ignore_errors=True)
            raise

    def _create(
        self, validators: int, epoch_ms: int, timing: Timing, server_options: Sequence[str]
    ) -> None:
        server = self.root / "server"
        intervals = ("--epoch-ms", str(epoch_ms), "--heartbeat-ms", str(timing.heartbeat_ms))
        run_server("init", "--home", str(server), "--name", "quickstart", *intervals)
        registration = decode(ServerRegistration, (server / "registration").read_bytes())
        server_port, *chain_ports = lasting_ports(1 + 3 * validators)
        network = create_network(
            self.root / "chain",
            [registration],
            chain_id=f"parsec-{registration.server_log.hex()[:12]}",
            validators=validators,
            timing=timing,
            cometbft=find_cometbft(),
            now=datetime.now(UTC),
            ports=chain_ports,
        )
        addresses = Addresses(
            server_port=server_port,
            rpc_ports=[node.rpc_port for node in network.nodes],
        )
        plan = {
            "addresses": asdict(addresses),
            "groups": self._groups(network, addresses, server_options),
        }
        temporary = self.root / (PLAN_FILE + ".new")
        temporary.write_text(json.dumps(plan, indent=2))
        temporary.replace(self.root / PLAN_FILE)

    def _groups(
        self, network: Network, addresses: Addresses, server_options: Sequence[str]
    ) -> list[dict[str, Any]]:
        groups = [
            {
                "name": f"validator{index}",
                "programs": [
                    {"name": f"abci{index}", "command": app_command(node)},
                    {"name": f"cometbft{index}", "command": node_command(find_cometbft(), node)},
                ],
            }
            for index, node in enumerate(network.nodes)
        ]
        command = server_command(
            "run",
            "--home",
            str(self.root / "server"),
            "--listen",
            f"127.0.0.1:{addresses.server_port}",
            "--chain-id",
            network.chain_id,
            *(part for url in addresses.rpc_urls for part in ("--rpc", url)),
            *server_options,
        )
        return [*groups, {"name": "server", "programs": [{"name": "server", "command": command}]}]

    def draw_token(self) -> Path:
        """A file with a one-time token for founding an organization; the caller removes it."""
        return Path(run_server("token", "--home", str(self.root / "server")).strip())

    def pid(self) -> int | None:
        """The supervisor's, if it runs: who holds the lock is alive, whatever a file says."""
        try:
            with (self.root / LOCK_FILE).open("r+") as lock:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError:
                    return int(lock.read() or 0) or None
        except (FileNotFoundError, ValueError):
            pass
        return None

    def start(self, step: Step) -> None:
        """Start the supervisor and wait until everything answers."""
        if self.pid() is not None:
            self._wait_until_up(step)
            return
        self._check_ports()
        with (self.logs / "supervisor.log").open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, str(Path(__file__).parent / "supervisor.py"), str(self.root)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        try:
            self._wait_until_up(step, process)
        except BaseException:
            process.terminate()
            process.wait(STOP_S)
            raise
        process.returncode = 0  # it lives on by intent: nobody waits for it, nobody is warned

    def _check_ports(self) -> None:
        addresses = self.addresses()
        network = load_network(self.root / "chain")
        p2p_ports = [node.p2p_port for node in network.nodes]
        for port in [addresses.server_port, *addresses.rpc_ports, *p2p_ports]:
            if not is_free(port):
                raise ServiceError(
                    f"port {port}, which this installation uses, is taken by another program.\n"
                    f"Find it with: ss -ltnp 'sport = :{port}'   then end it and run this again."
                )

    def _wait_until_up(self, step: Step, process: subprocess.Popen[bytes] | None = None) -> None:
        addresses = self.addresses()
        deadline = time.monotonic() + START_S
        waiting = [
            *(("the chain", url, has_block) for url in addresses.rpc_urls),
            ("the server", addresses.server_url, is_open),
        ]
        while waiting:
            name, url, is_up = waiting[0]
            step(f"waiting for {name}")
            if is_up(url):
                waiting.pop(0)
                continue
            if process is not None and process.poll() is not None:
                raise ServiceError(f"the supervisor ended:\n{self.tail('supervisor')}")
            if time.monotonic() > deadline:
                raise ServiceError(f"{name} does not answer at {url}.\n{self._all_tails()}")
            time.sleep(0.1)

    def stop(self, step: Step) -> bool:
        """End the supervisor and with it all that it started. False if it did not run."""
        pid = self.pid()
        if pid is None:
            return False
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + STOP_S
        while self.pid() is not None:
            step("stopping the servers")
            if time.monotonic() > deadline:
                raise ServiceError(f"process {pid} does not end; see {self.logs}")
            time.sleep(0.1)
        return True

    def tail(self, program: str, lines: int = 8) -> str:
        """The end of a program's log."""
        try:
            text = (self.logs / f"{program}.log").read_text(errors="replace")
        except OSError:
            return ""
        return "\n".join(f"  {program}: {line}" for line in text.splitlines()[-lines:])

    def _all_tails(self) -> str:
        return "\n".join(filter(None, (self.tail(one.stem) for one in self.logs.glob("*.log"))))


def server_command(*arguments: str) -> list[str]:
    """Command line of the metadata server."""
    return [str(Path(sys.executable).parent / "parsec-server"), *arguments]


def run_server(*arguments: str) -> str:
    """A short command of the metadata server; what it prints."""
    done = subprocess.run(
        server_command(*arguments), capture_output=True, text=True, timeout=60, check=False
    )
    if done.returncode:
        raise ServiceError(f"parsec-server {arguments[0]}: {done.stderr.strip()[-500:]}")
    return done.stdout


def has_block(rpc_url: str) -> bool:
    """Does this node answer, with at least one block?"""
    try:
        with urllib.request.urlopen(f"{rpc_url}/status", timeout=2) as answer:
            document = json.loads(answer.read(1 << 20))
        return int(document["result"]["sync_info"]["latest_block_height"]) >= 1
    except (OSError, ValueError, LookupError, TypeError):
        return False


def is_open(server_url: str) -> bool:
    """Does the server take commands? It is asked for a letter that nobody wrote: not found."""
    body = encode(ReadMail(address=bytes(32), slot=0))
    request = urllib.request.Request(f"{server_url}/v1/mailbox/read", data=body)
    try:
        with urllib.request.urlopen(request, timeout=2):
            return True
    except urllib.error.HTTPError as error:
        return error.code == 404
    except OSError:
        return False


def is_free(port: int) -> bool:
    """Could a program listen there now?"""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def lasting_ports(count: int) -> list[int]:
    """Free ports below the range from which the kernel takes ports for outgoing connections, so
    that they are free again when this installation is started the next time."""
    first = 20_000 + os.getpid() % 10_000
    candidates = (*range(first, 32_000), *range(20_000, first))
    found = list(itertools.islice(filter(is_free, candidates), count))
    if len(found) < count:
        raise ServiceError("not enough free ports between 20000 and 32000")
    return found

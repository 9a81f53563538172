"""The whole product as people run it: server, chain and daemons, each a process of its own.

Data flow: test -> `Product` (processes, folders) -> `Machine` (command line, mount) -> files.

Nothing here looks inside: devices are driven by the command line, the mount and its virtual files,
the hostile server by its control port. Whatever happens, every process that was started here is
killed and every mount is taken away.
"""

import contextlib
import errno
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from abci_app.devnet import (
    TEST_TIMING,
    Node,
    app_command,
    create_network,
    free_ports,
    node_command,
)
from parsec_fs.config import Home
from parsec_fs.device_file import DeviceFile
from parsec_fs.identity import Identity
from parsec_fs.protocol.codec import decode
from parsec_fs.protocol.ids import RealmId
from parsec_fs.protocol.statements import ServerRegistration
from tests.support.chain import require_cometbft
from tests.support.pairs import exchange

Json = dict[str, Any]
T = TypeVar("T")

ROOT = Path(__file__).resolve().parents[2]
CHAIN_ID = "parsec-test"
EPOCH_MS = 2_000
WORKSPACE = "docs"
START_S = 40.0
LOOK_S = 0.05


def poll(
    condition: Callable[[], T | None],
    timeout_s: float = 20.0,
    what: Callable[[], object] = lambda: "",
) -> T:
    """First result that is neither None nor False; AssertionError with `what` at the deadline."""
    deadline = time.monotonic() + timeout_s
    while True:
        result = condition()
        if result is not None and result is not False:
            return result
        if time.monotonic() > deadline:
            raise AssertionError(f"nothing after {timeout_s} s: {what()}")
        time.sleep(LOOK_S)


class Programs:
    """Processes by name, each the leader of its own group, all gone at the end."""

    def __init__(self, logs: Path) -> None:
        self.logs = logs
        self.logs.mkdir(parents=True, exist_ok=True)
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(
        self, name: str, command: Sequence[str], *, pass_fds: Sequence[int] = ()
    ) -> subprocess.Popen[bytes]:
        """Start a program; its output goes to a log."""
        setpriv = shutil.which("setpriv")
        prefix = [setpriv, "--pdeathsig", "KILL", "--"] if setpriv else []
        with self.log(name).open("ab") as output:
            process = subprocess.Popen(
                [*prefix, *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                process_group=0,
                cwd=ROOT,
                pass_fds=pass_fds,
            )
        self._running[name] = process
        return process

    def log(self, name: str) -> Path:
        """What a program writes."""
        return self.logs / f"{name}.log"

    def send(self, name: str, number: signal.Signals) -> None:
        """A signal to one program."""
        self._running[name].send_signal(number)

    def kill(self, name: str) -> None:
        """SIGKILL, and wait until it is gone."""
        process = self._running.pop(name, None)
        if process is not None:
            process.kill()
            process.wait(30)

    def end(self, name: str) -> int:
        """SIGTERM, and wait; the exit code."""
        process = self._running.pop(name)
        process.terminate()
        return process.wait(30)

    def is_running(self, name: str) -> bool:
        """Has it been started and not ended?"""
        process = self._running.get(name)
        return process is not None and process.poll() is None

    def wait(self, name: str, timeout_s: float = 30.0) -> int:
        """Exit code of a program that ends by itself."""
        return self._running.pop(name).wait(timeout_s)

    def kill_all(self) -> None:
        """Stopped ones as well: SIGKILL needs no SIGCONT."""
        for name in reversed(list(self._running)):
            self.kill(name)


class Machine:
    """One device: state folder, mountpoint, command line, at most one mounted workspace."""

    def __init__(self, product: "Product", name: str) -> None:
        self.product = product
        self.name = name
        self.home = Home(root=product.root / name)
        self.path = product.root / f"{name}.mnt"
        self.evidence = self.home.evidence
        self.program_module = ["-Pm", "parsec_fs"]
        """What stands for `parsec-fs` on this device."""

    # Command line

    def run(self, *arguments: str, stdin: str = "", timeout_s: float = 60.0) -> tuple[int, Json]:
        """A command; exit code and JSON document."""
        done = subprocess.run(
            self.command(*arguments),
            input=stdin.encode(),
            capture_output=True,
            timeout=timeout_s,
            cwd=ROOT,
            check=False,
        )
        try:
            document: Json = json.loads(done.stdout)
        except ValueError:
            document = {"output": done.stdout.decode(), "error": done.stderr.decode()}
        return done.returncode, document

    def cli(self, *arguments: str, stdin: str = "", timeout_s: float = 60.0) -> Json:
        """A command that must succeed."""
        code, document = self.run(*arguments, stdin=stdin, timeout_s=timeout_s)
        assert code == 0, f"{arguments}: exit code {code}, {document}\n{self.log_tail()}"
        return document

    def command(self, *arguments: str) -> list[str]:
        """Command line of parsec-fs for this device."""
        options = ["--json", "--home", str(self.home.root)]
        return [sys.executable, *self.program_module, *options, *arguments]

    def started(self, *arguments: str) -> "subprocess.Popen[str]":
        """A command that talks on, with its three pipes."""
        pipe = subprocess.PIPE
        command = self.command(*arguments)
        return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, cwd=ROOT)

    def device_id(self) -> str:
        """In hex."""
        return self.identity().secrets.device.hex()

    def identity(self) -> Identity:
        """Keys of this device: what a colluding member hands to a server."""
        return DeviceFile(self.home.device).load()

    def use_nodes(self, *urls: str) -> None:
        """Ask these chain nodes from the next mount on."""
        file, identity = DeviceFile(self.home.device), self.identity()
        anchor = replace(identity.anchor, rpc_urls=tuple(url.encode() for url in urls))
        file.save(replace(identity, anchor=anchor), random=os.urandom)

    # Mount

    def mount(
        self, *options: str, without: str | None = None, program: Sequence[str] = ()
    ) -> "Machine":
        """Mount the workspace; `without` names the one check that this daemon leaves out;
        `program` replaces the daemon, as options of Python."""
        self.path.mkdir(exist_ok=True)
        if without:
            program = ("-m", "tests.support.victim", without)
        program = program or self.program_module
        reading, writing = os.pipe()
        command = [sys.executable, *program, "--home", str(self.home.root), "mount", WORKSPACE]
        command += [str(self.path), "--ready-fd", str(writing), *options]
        with os.fdopen(reading, "rb") as pipe:
            try:
                self.product.programs.start(self.program, command, pass_fds=[writing])
            finally:
                os.close(writing)
            self._wait_until_ready(pipe)
        return self

    def _wait_until_ready(self, pipe: Any) -> None:
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            ready, _, _ = select.select([pipe], [], [], 1.0)
            line = pipe.readline() if ready else None
            if line is None:
                continue
            document = json.loads(line) if line else {"error": "ended"}
            if "ready" in document:
                return
            assert "error" not in document, f"{document}\n{self.log_tail()}"
        raise AssertionError(f"not mounted after {START_S} s\n{self.log_tail()}")

    @property
    def program(self) -> str:
        """Name of the daemon's process."""
        return f"daemon-{self.name}"

    def log_tail(self) -> str:
        """The end of the daemon's log."""
        log = self.product.programs.log(self.program)
        return log.read_text(errors="replace")[-3000:] if log.exists() else ""

    def unmount(self) -> None:
        """As a user does; the daemon must end without an error."""
        subprocess.run(["fusermount3", "-u", str(self.path)], check=True, timeout=30)
        assert self.product.programs.wait(self.program) == 0, self.log_tail()

    def kill(self) -> None:
        """SIGKILL of the daemon; the dead mount is taken away."""
        self.product.programs.kill(self.program)
        lazy_unmount(self.path)

    # What the mount says

    def status(self) -> Json:
        """`.status.json` of the mount."""
        document: Json = json.loads((self.path / ".status.json").read_bytes())
        return document

    def word(self) -> str:
        """State of the client."""
        word: str = self.status()["state"]["word"]
        return word

    def epochs(self) -> int:
        """Verified epochs."""
        count: int = self.status()["state"]["epochs"]
        return count

    def wait(self, state: str = "audited", timeout_s: float = 20.0) -> None:
        """`parsec-fs wait`: everything changed so far has reached a state."""
        self.cli("wait", f"--{state}", "--timeout", str(timeout_s), timeout_s=timeout_s + 20)

    def wait_word(self, *words: str, timeout_s: float = 20.0) -> str:
        """Until the client is in one of these states."""

        def probe() -> str | None:
            word = self.word()
            return word if word in words else None

        return poll(probe, timeout_s, lambda: (self.name, words, self.status()["state"]))

    def wait_replayed(self, timeout_s: float = 30.0) -> None:
        """Until a device that began with a snapshot has replayed the log from before it."""
        poll(
            lambda: "bootstrapped" not in self.status()["state"]["qualifiers"],
            timeout_s,
            lambda: (self.name, self.status()["state"]),
        )

    def wait_file(self, name: str, content: bytes, timeout_s: float = 20.0) -> None:
        """Until a file shows this content."""
        poll(lambda: self.read(name) == content, timeout_s, lambda: (name, self.status()))

    def read(self, name: str) -> bytes | None:
        """Content of a file, None if it is not there."""
        try:
            return (self.path / name).read_bytes()
        except FileNotFoundError:
            return None

    def errno_of(self, action: Callable[[], object]) -> int:
        """errno of a system call, 0 if it succeeds."""
        try:
            action()
        except OSError as error:
            return error.errno or 0
        return 0

    def evidence_files(self) -> list[Path]:
        """Evidence that this device holds."""
        return sorted(self.evidence.iterdir()) if self.evidence.exists() else []

    def verify(self) -> int:
        """Exit code of `parsec-fs verify`."""
        return self.run("verify", WORKSPACE)[0]

    def live_on(self, epochs: int) -> None:
        """Until this many epochs are verified."""
        poll(lambda: self.epochs() >= epochs, 30, lambda: (epochs, self.status()["state"]))

    # What the threat model says about the end of an attack

    def in_peace(self) -> None:
        """Nothing is suspected, nobody is accused, changes are taken."""
        self.wait_word("verified", "pending")
        self.wait_replayed()
        code, report = self.run("verify", WORKSPACE)
        assert code == 0, report
        assert self.evidence_files() == []
        assert self.errno_of(lambda: (self.path / "writable").write_bytes(b"")) == 0

    def only_suspect(self, timeout_s: float = 20.0) -> None:
        """Something is wrong, nobody is accused; changes are taken and stay on this device."""
        self.wait_word("suspect", timeout_s=timeout_s)
        assert self.verify() == 1
        assert self.evidence_files() == []
        assert self.errno_of(lambda: (self.path / "stays-here").write_bytes(b"")) == 0
        assert os.getxattr(self.path / "stays-here", "user.parsec.state") == b"local"

    def convicted_of(self, *codes: str, timeout_s: float = 20.0) -> None:
        """Frozen for good; a stranger with nothing but the anchor is convinced by the file."""
        self.wait_word("convicted", timeout_s=timeout_s)
        assert self.errno_of(lambda: (self.path / "refused").write_bytes(b"")) == errno.EROFS
        assert self.verify() == 30
        assert self.run("status")[0] == 30
        assert self.proven() <= set(codes), self.proven()
        assert self.proven()

    def proven(self) -> set[str]:
        """Types of the evidence files, as a stranger's offline check names them."""
        stranger = Machine(self.product, "stranger")
        anchor = self.product.root / "anchor"
        if not anchor.exists():
            self.cli("org", "anchor", str(anchor))
        options = ("--anchor", str(anchor))
        files = self.evidence_files()
        return {stranger.cli("proof", "--check", str(one), *options)["type"] for one in files}


@dataclass(kw_only=True)
class Product:
    """Everything under one folder. The chain has one validator, or as many as asked for."""

    root: Path
    programs: Programs
    registration: ServerRegistration
    nodes: Sequence[Node]
    server_port: int
    control_port: int
    node_port: int
    hostile: bool
    cometbft: Path
    keep: bool = False
    machines: list[Machine] = field(default_factory=list)

    # Servers

    @property
    def node(self) -> Node:
        """The first validator."""
        return self.nodes[0]

    @property
    def server_home(self) -> Path:
        """Keys, database and blocks of the server."""
        return self.root / "server"

    @property
    def server_url(self) -> str:
        """Where devices reach it."""
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def lying_node_url(self) -> str:
        """The chain node that the hostile server runs beside the real one."""
        return f"http://127.0.0.1:{self.node_port}"

    def start_chain(self) -> None:
        """Applications, then CometBFT, until there is a block."""
        for index in range(len(self.nodes)):
            self.start_app(index)
        for index in range(1, len(self.nodes)):
            self.start_validator(index, wait=False)
        self.start_validator()

    def start_app(self, index: int = 0) -> None:
        """The chain's application, of one validator."""
        node = self.nodes[index]
        self.programs.start(f"app{index or ''}", app_command(node))
        socket = Path(node.app_address.removeprefix("unix://"))
        poll(lambda: not node.app_address.startswith("unix://") or socket.exists(), START_S)

    def start_validator(self, index: int = 0, *, wait: bool = True) -> None:
        """CometBFT, of one validator."""
        node = self.nodes[index]
        self.programs.start(f"validator{index or ''}", node_command(self.cometbft, node))
        if wait:
            poll(lambda: self._has_block(node), START_S, lambda: "no first block")

    def _has_block(self, node: Node) -> bool:
        try:
            document = get_json(f"{node.rpc_url}/status")
        except OSError:
            return False
        return int(document["result"]["sync_info"]["latest_block_height"]) >= 1

    def start_server(self, *, wait: bool = True) -> None:
        """The honest or the hostile one, over the same folder."""
        listen = f"127.0.0.1:{self.server_port}"
        arguments = ["--home", str(self.server_home), "--chain-id", CHAIN_ID]
        arguments += [part for node in self.nodes for part in ("--rpc", node.rpc_url)]
        arguments += ["--listen", listen]
        if self.hostile:
            command = [sys.executable, "-m", "tests.support.hostile_server", *arguments]
            command += ["--control", str(self.control_port), "--node", str(self.node_port)]
        else:
            command = [str(Path(sys.executable).parent / "parsec-server"), "run", *arguments]
        self.programs.start("server", command)
        if wait:
            poll(self.is_open, START_S, lambda: "the server is not open")

    def is_open(self) -> bool:
        """Does the server take requests? It is asked for a letter that nobody wrote."""
        assert self.programs.is_running("server"), self.programs.log("server").read_text()[-3000:]
        body = b"\x92\xc4\x20" + bytes(32) + b"\x00"
        request = urllib.request.Request(f"{self.server_url}/v1/mailbox/read", data=body)
        try:
            with urllib.request.urlopen(request, timeout=5):
                return True
        except urllib.error.HTTPError as error:
            return error.code == 404
        except OSError:
            return False

    def tell(self, **lie: object) -> Json:
        """Tell the hostile server what to do; what it answers."""
        data = json.dumps(lie).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.control_port}/", data=data)
        with urllib.request.urlopen(request, timeout=60) as answer:
            document: Json = json.loads(answer.read())
        assert "error" not in document, document
        return document

    def draw_token(self) -> str:
        """File with a one-time token for founding an organization."""
        program = str(Path(sys.executable).parent / "parsec-server")
        command = [program, "token", "--home", str(self.server_home)]
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
        return done.stdout.strip()

    # Devices

    def machine(self, name: str) -> Machine:
        """A device that is not enrolled yet."""
        machine = Machine(self, name)
        self.machines.append(machine)
        return machine

    def first_device(self, name: str, *, module: Sequence[str] = ()) -> Machine:
        """The device that founds the organization and creates the workspace. `module` replaces the
        program, as options of Python."""
        machine = self.machine(name)
        machine.program_module = list(module) or machine.program_module
        genesis = Path(self.node.home) / "config/genesis.json"
        founding: tuple[str, ...] = ("org", "create", "acme", "--server", self.server_url)
        founding += ("--chain", self.node.rpc_url, "--genesis", str(genesis))
        token = ("--token-file", self.draw_token())
        machine.cli(*founding, *token, "--device", name, "--user", "alice")
        machine.cli("workspace", "create", WORKSPACE)
        return machine

    def next_device(self, inviter: Machine, name: str, *, module: Sequence[str] = ()) -> Machine:
        """Another device of the same user, by a link and two codes."""
        machine = self.machine(name)
        machine.program_module = list(module) or machine.program_module
        with (
            inviter.started("device", "add") as adding,
            machine.started("device", "join", "--name", name) as joining,
        ):
            exchange(adding, joining, timeout_s=60)
        return machine

    def victim(self, inviter: Machine, name: str, *, without: str | None = None) -> Machine:
        """Another device, mounted, with nothing to complain about so far."""
        machine = self.next_device(inviter, name).mount(without=without)
        machine.wait_word("verified")
        machine.wait_replayed()
        return machine

    def show(self, branch: str, *machines: Machine) -> None:
        """Show a branch of the hostile server to these devices from now on."""
        self.tell(do="route", devices=[one.device_id() for one in machines], branch=branch)

    def final_epochs(self) -> int:
        """How many epochs are final on the chain."""
        count: int = self.tell(do="epochs")["final"]
        return count

    def realm(self) -> RealmId:
        """The workspace's id."""
        (folder,) = self.machines[0].home.workspaces.iterdir()
        return RealmId(bytes.fromhex(folder.name))

    def close(self) -> None:
        """No process, no mount, no file stays behind."""
        for machine in self.machines:
            lazy_unmount(machine.path)
        self.programs.kill_all()
        for machine in self.machines:
            lazy_unmount(machine.path)
        if not (self.keep or os.environ.get("PARSEC_KEEP_PRODUCT")):
            shutil.rmtree(self.root, ignore_errors=True)


def lazy_unmount(path: Path) -> None:
    """Also of a mount whose daemon is dead; not being mounted is fine."""
    subprocess.run(["fusermount3", "-uz", str(path)], capture_output=True, timeout=30, check=False)


def get_json(url: str) -> Json:
    """A JSON document over HTTP. Raises OSError."""
    with urllib.request.urlopen(url, timeout=5) as answer:
        document: Json = json.loads(answer.read())
    return document


@contextlib.contextmanager
def product(
    *,
    hostile: bool = False,
    epoch_ms: int = EPOCH_MS,
    validators: int = 1,
    root: Path | None = None,
    keep: bool = False,
) -> Iterator[Product]:
    """Chain and server running, no device yet. `root`: where, instead of a temporary folder; what
    lies there stays in the end if it is to be kept."""
    cometbft = require_cometbft()
    root = root or Path(tempfile.mkdtemp(prefix="pfs-"))
    server_home = root / "server"
    init = [str(Path(sys.executable).parent / "parsec-server"), "init", "--name", "server"]
    timing = ["--epoch-ms", str(epoch_ms), "--heartbeat-ms", str(TEST_TIMING.heartbeat_ms)]
    subprocess.run(
        [*init, "--home", str(server_home), *timing], check=True, capture_output=True, timeout=60
    )
    registration = decode(ServerRegistration, (server_home / "registration").read_bytes())
    network = create_network(
        root / "chain",
        [registration],
        chain_id=CHAIN_ID,
        validators=validators,
        timing=TEST_TIMING,
        cometbft=cometbft,
        now=datetime.now(UTC),
    )
    server_port, control_port, node_port = free_ports(3)
    running = Product(
        root=root,
        programs=Programs(root / "logs"),
        registration=registration,
        nodes=network.nodes,
        server_port=server_port,
        control_port=control_port,
        node_port=node_port,
        hostile=hostile,
        cometbft=cometbft,
        keep=keep,
    )
    try:
        running.start_chain()
        running.start_server()
        yield running
    finally:
        running.close()

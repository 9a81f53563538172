"""What one epoch costs the auditor of a device: bytes that it fetches, time that it computes.

usage: bench_audit.py HOME EPOCHS

Data flow: scripts/bench_scale -> this (a process of its own) -> the daemon's own parts without a
    mount, its network door counted -> one JSON document.

In each epoch one folder is made and logged, so that the realm's log has something to show. Counted
is what `Auditor.audit_once` does when a new epoch is there (openings of the server and headers of
the chain node come over the real socket), and once more by itself what it does for this epoch's
openings: verify them, and compare them with this device's own logs. The workspace must not be
mounted.
"""

import json
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT)]
import httpx  # noqa: E402
import trio  # noqa: E402
from bench_fill import new, push_all  # noqa: E402

from parsec_fs.audit.auditor import Auditor  # noqa: E402
from parsec_fs.audit.checks import ALL_CHECKS  # noqa: E402
from parsec_fs.audit.comparison import Comparison  # noqa: E402
from parsec_fs.audit.server_door import ServerDoor  # noqa: E402
from parsec_fs.audit.trusted_state import REALM, TrustedState, open_next  # noqa: E402
from parsec_fs.cli.running import known  # noqa: E402
from parsec_fs.config import Home, MountOptions  # noqa: E402
from parsec_fs.connection import connect  # noqa: E402
from parsec_fs.daemon_parts import Kernel, Parts, open_parts  # noqa: E402
from parsec_fs.device_file import DeviceFile  # noqa: E402
from parsec_fs.lockfile import held  # noqa: E402
from parsec_fs.protocol.codec import encode  # noqa: E402
from parsec_fs.protocol.errors import VerificationError  # noqa: E402
from parsec_fs.remote.transport import TIMEOUT  # noqa: E402
from parsec_fs.workspace.assembly import STORES  # noqa: E402
from parsec_fs.workspace.nodes import ROOT_INODE, TYPE_FOLDER  # noqa: E402

DEADLINE_S = 600.0
REPEATED = 20


class Counted(httpx.AsyncHTTPTransport):
    """Bytes of the bodies of answers, apart for the metadata server (`/v1/`) and chain nodes."""

    def __init__(self) -> None:
        super().__init__()
        self.server = self.chain = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Passed on, and counted by what the answer says of its length."""
        answer = await super().handle_async_request(request)
        length = int(answer.headers.get("content-length", 0))
        if request.url.path.startswith("/v1/"):
            self.server += length
        else:
            self.chain += length
        return answer


@contextmanager
def nothing_fails() -> Iterator[list[VerificationError]]:
    """Collects what synchronisation finds wrong. Raises the first of it."""
    found: list[VerificationError] = []
    yield found
    if found:
        raise found[0]


async def measure(home: Home, epochs: int) -> dict[str, float]:
    """Medians per epoch."""
    identity = DeviceFile(home.device).load()
    (named,) = known(home, identity)
    counted = Counted()

    def client() -> httpx.AsyncClient:
        return httpx.AsyncClient(timeout=TIMEOUT, trust_env=False, transport=counted)

    with held(home.workspace(named.realm).lock), nothing_fails() as failures:
        async with connect(home, identity, clients=client) as connection:
            parts = open_parts(
                home,
                named,
                "",
                MountOptions(),
                connection=connection,
                kernel=Kernel(),
                checks=ALL_CHECKS,
                stores=STORES,
                auditor_type=Auditor,
                on_failure=failures.append,
            )
            try:
                return await _measure(parts, counted, epochs)
            finally:
                parts.workspace.close()


async def _measure(parts: Parts, counted: Counted, epochs: int) -> dict[str, float]:
    workspace = parts.workspace
    workspace.filesystem.open()
    async with trio.open_nursery() as nursery:
        await nursery.start(workspace.filesystem.run)
        await workspace.sync.pull_once()
        await _catch_up(parts)
        rows = [await _epoch(parts, counted) for _ in range(epochs)]
        nursery.cancel_scope.cancel()
    medians = {name: statistics.median(row[name] for row in rows) for name in rows[0]}
    return {"records": float(workspace.replica.size()), **medians}


async def _catch_up(parts: Parts) -> None:
    """Everything from before is audited."""
    size = parts.workspace.replica.size()
    with trio.fail_after(DEADLINE_S):
        while parts.auditor.verified_index(parts.workspace.replica.log) < size:
            await parts.auditor.audit_once()
            await trio.sleep(0.5)


async def _epoch(parts: Parts, counted: Counted) -> dict[str, float]:
    """One change, and the round of the auditor that verifies the epoch which anchors it."""
    log = parts.workspace.replica.log
    new(parts.workspace, ROOT_INODE, b"audit-%d" % time.time_ns(), TYPE_FOLDER | 0o755)
    await push_all(parts.workspace)
    size = parts.workspace.replica.size()
    with trio.fail_after(DEADLINE_S):
        while True:
            before, seen = parts.auditor.state, (counted.server, counted.chain)
            wall, cpu = time.perf_counter(), time.process_time()
            await parts.auditor.audit_once()
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            if (
                parts.auditor.epochs == before.epochs + 1
                and parts.auditor.verified_index(log) >= size
            ):
                return {
                    "server_bytes": counted.server - seen[0],
                    "chain_bytes": counted.chain - seen[1],
                    "round_cpu_ms": cpu * 1000,
                    "round_ms": wall * 1000,
                    **await _openings(parts, before),
                }
            await trio.sleep(0.5)


async def _openings(parts: Parts, before: TrustedState) -> dict[str, float]:
    """The newest epoch's openings alone: bytes of the realm's, CPU to verify and compare all."""
    connection, replica = parts.connection, parts.workspace.replica
    anchor, door = connection.identity.anchor, ServerDoor(connection.server)
    (proof,) = (await door.read_epochs(before.epochs, 1, before.logs)).epochs[:1]
    histories = (connection.org, replica)
    comparison = Comparison(anchor=anchor, server=door, histories=histories, checks=ALL_CHECKS)
    start = time.process_time()
    for _ in range(REPEATED):
        opened = open_next(before, proof, anchor=anchor, checks=ALL_CHECKS)
        for place in range(len(histories)):
            await comparison.compare(place, opened, before)
    spent = time.process_time() - start
    return {
        "cpu_ms": spent * 1000 / REPEATED,
        "realm_bytes": len(encode(proof.logs[REALM])),
        "statement_bytes": len(encode(proof.statement)),
    }


if __name__ == "__main__":
    print(json.dumps(trio.run(measure, Home(root=Path(sys.argv[1])), int(sys.argv[2]))))

"""What the auditor is given of this device: store, evidence folder, server, clock.

Data flow: audit/ports (interfaces) <- these -> realm.db, device/evidence, server client, clocks.
"""

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import trio

from parsec_fs.protocol.commands import Epochs
from parsec_fs.protocol.errors import DataError
from parsec_fs.protocol.ids import LogId
from parsec_fs.protocol.records import LeafHeader
from parsec_fs.remote.server_client import ServerClient
from parsec_fs.storage.realm_store import RealmStore

_AUDIT: Final = "audit"
_LEAVES_PER_READ: Final = 1000


class StoredAudit:
    """The audit's floor in realm.db, its evidence in files of their own."""

    def __init__(self, store: RealmStore, evidence: Path) -> None:
        self._store = store
        self._evidence = evidence

    def load(self) -> bytes | None:
        """The last saved record."""
        return self._store.fact(_AUDIT)

    async def save(self, record: bytes) -> None:
        """Durable when this returns."""
        async with self._store.writing() as write:
            write.fact(_AUDIT, record)

    async def keep_evidence(self, name: str, file: bytes) -> None:
        """Durable when this returns; writing the same again is fine."""
        await trio.to_thread.run_sync(_write_durably, self._evidence / name, file)


def _write_durably(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = path.with_name(path.name + ".new")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


class AuditServer:
    """The server as the audit asks it; answers are unverified."""

    def __init__(self, client: ServerClient) -> None:
        self._client = client

    async def read_epochs(self, start: int, most: int, logs: tuple[LogId, ...]) -> Epochs:
        """Openings of consecutive epochs."""
        return await self._client.read_epochs(start, most, logs)

    async def read_headers(self, log: LogId, size: int) -> Sequence[LeafHeader]:
        """The first `size` leaves as the server shows them now."""
        headers: list[LeafHeader] = []
        while len(headers) < size:
            most = min(size - len(headers), _LEAVES_PER_READ)
            answer = await self._client.read_leaves(log, len(headers), most)
            if not answer.leaves:
                raise DataError("the server shows fewer leaves than it anchored")
            headers += [leaf.header for leaf in answer.leaves[:most]]
        return headers


class SystemClock:
    """Clocks of this machine. The monotonic one counts through suspend and is never set (T12)."""

    def monotonic_ns(self) -> int:
        """Nanoseconds since the machine started."""
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME)

    def now_ns(self) -> int:
        """Unix time in nanoseconds."""
        return time.time_ns()

"""The audit's floor and the evidence on this device's disk.

Data flow: auditor -> org.db (floor, convictions, epochs of leaves), device/evidence/ -> auditor.

Several workspaces share one org.db, so each has its own floor. An evidence file is durable before
the conviction that names it; the folder is for people to copy from, the conviction does not need
the file to stay.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import trio

from parsec_fs.audit.ports import AuditRecord
from parsec_fs.audit.trusted_state import AnchoredRange
from parsec_fs.protocol.codec import decode
from parsec_fs.protocol.ids import LogId
from parsec_fs.storage.org_store import OrgStore

_FLOOR: Final = "audit:"


class DeviceAuditStore:
    """What one workspace's auditor keeps."""

    def __init__(self, store: OrgStore, realm: LogId, evidence: Path) -> None:
        self._store = store
        self._name = _FLOOR + realm.hex()
        self._evidence = evidence

    @staticmethod
    def all(store: OrgStore, evidence: Path) -> "list[DeviceAuditStore]":
        """Of every workspace that was audited here, named or not."""
        names = [one.removeprefix(_FLOOR) for one in store.fact_names(_FLOOR)]
        return [DeviceAuditStore(store, LogId(bytes.fromhex(one)), evidence) for one in names]

    @staticmethod
    def convicts(store: OrgStore) -> bool:
        """True iff the audit of any workspace has proven fraud. Raises DataError."""
        kept = (store.fact(name) for name in store.fact_names(_FLOOR))
        return any(decode(AuditRecord, one).convictions for one in kept if one is not None)

    def load(self) -> bytes | None:
        """The last saved record."""
        return self._store.fact(self._name)

    async def save(self, record: bytes, anchored: Sequence[AnchoredRange] = ()) -> None:
        """Durable when this returns, all of it or nothing."""
        ranges = [(one.log, one.first, one.size, one.epoch) for one in anchored]
        await self._store.save_fact(self._name, record, ranges)

    async def keep_evidence(self, name: str, file: bytes) -> None:
        """Write and sync the file and its folder entry."""
        await trio.to_thread.run_sync(_write, self._evidence, name, file)


def _write(folder: Path, name: str, data: bytes) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = folder / f"{name}.new"
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(folder / name)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

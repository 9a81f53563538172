"""Commits of this device that come back with the log.

Data flow: replica (verified leaves) -> this -> outbox, journal watermark.

Rule 26: a commit of this device that it does not remember means that its state was restored.
"""

from parsec_fs.protocol.codec import encode_trusted
from parsec_fs.protocol.errors import ForkError
from parsec_fs.protocol.ids import DeviceId
from parsec_fs.protocol.records import COMMIT
from parsec_fs.storage.realm_store import RealmStore
from parsec_fs.storage.realm_writer import RealmWriter
from parsec_fs.workspace.leaf_groups import LeafGroup


def take_from_outbox(
    write: RealmWriter, store: RealmStore, group: LeafGroup, device: DeviceId
) -> None:
    """Own commits that are logged need not be sent again; the last of a capture moves the journal
    watermark, in the transaction that stores its effects."""
    logged = {row.record for row in group.leaves if row.author == device}
    for entry in store.outbox.entries() if logged else ():
        if entry.record in logged:
            write.posted(entry.sequence)
            if entry.position is not None:
                write.journal_position(entry.position)


def unremembered(store: RealmStore, group: LeafGroup, device: DeviceId) -> bool:
    """True iff a commit of this device is new to this device (rule 26). Raises ForkError if it was
    refused (P6)."""
    for row in group.leaves:
        if row.author != device or row.header.kind != COMMIT or row.record is None:
            continue
        refusal = store.refusal(row.record)
        if refusal is not None:
            evidence = (refusal, encode_trusted(row.header))
            raise ForkError("a refused commit is in the log (P6)", evidence=evidence)
        if not store.outbox.has(row.record):
            return True
    return False

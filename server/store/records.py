"""What goes with commits and rotations: refusals, repeated records, payloads, key boxes, blocks.

Data flow: BatchEffects, RealmEffects -> rows; repeated and read requests -> rows -> answers.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sqlalchemy import bindparam, insert, select, update

from parsec_fs.protocol.certificates import KeyBox
from parsec_fs.protocol.codec import decode, encode
from parsec_fs.protocol.ids import BlockId, Hash, LogId, UserId
from parsec_fs.protocol.records import Refusal, Signed
from server.store.database import Transaction
from server.store.rows import chunks, insert_new, one_of
from server.store.schema import accepted, blocks, boxes, logs, payloads, refusals


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredBlock:
    """What is known of a block whose contents are in the block store."""

    digest: Hash
    size: int


_ACCEPTED = select(accepted.c.record, accepted.c.idx).where(
    (accepted.c.log == bindparam("log")) & one_of(accepted.c.record)
)
_REFUSED = select(refusals.c.record, refusals.c.signed).where(
    (refusals.c.log == bindparam("log")) & one_of(refusals.c.record)
)
_PAYLOADS = select(payloads.c.hash, payloads.c.data).where(
    (payloads.c.log == bindparam("log")) & one_of(payloads.c.hash)
)
_BLOCKS = select(blocks.c.block, blocks.c.digest, blocks.c.size).where(
    (blocks.c.log == bindparam("log")) & one_of(blocks.c.block)
)
_ADD_BLOCKS = insert(blocks)
_COUNT = (
    update(logs)
    .where(logs.c.log == bindparam("counted"))
    .values(bytes=logs.c.bytes + bindparam("more"))
)
_PAYLOAD_NAMES = select(payloads.c.hash).where(
    (payloads.c.log == bindparam("log")) & one_of(payloads.c.hash)
)


def accepted_records(
    transaction: Transaction, log: LogId, records: Iterable[Hash]
) -> dict[Hash, int]:
    """Leaf indexes of those records that are in the log."""
    found: dict[Hash, int] = {}
    for some in chunks(records):
        rows = transaction.execute(_ACCEPTED, {"log": log, "keys": some})
        found.update((Hash(record), index) for record, index in rows)
    return found


def refused_records(
    transaction: Transaction, log: LogId, records: Iterable[Hash]
) -> dict[Hash, Signed]:
    """Refusals of those records that were refused, as they were first sent (rule 15)."""
    found: dict[Hash, Signed] = {}
    for some in chunks(records):
        rows = transaction.execute(_REFUSED, {"log": log, "keys": some})
        found.update((Hash(record), decode(Signed, signed)) for record, signed in rows)
    return found


def add_refusals(transaction: Transaction, signed: Iterable[tuple[Refusal, Signed]]) -> None:
    """Store refusals before they are sent."""
    rows = [
        {
            "log": refusal.context.log,
            "record": refusal.record,
            "device": refusal.device,
            "sequence": refusal.sequence,
            "signed": encode(one),
        }
        for refusal, one in signed
    ]
    if rows:
        transaction.execute(insert(refusals), rows)


def stored_payloads(transaction: Transaction, log: LogId, hashes: Iterable[Hash]) -> set[Hash]:
    """Those payloads that are here."""
    found = set[Hash]()
    for some in chunks(hashes):
        rows = transaction.execute(_PAYLOAD_NAMES, {"log": log, "keys": some})
        found |= {Hash(row.hash) for row in rows}
    return found


def add_payloads(transaction: Transaction, log: LogId, data: Mapping[Hash, bytes]) -> None:
    """Store sealed manifests."""
    rows = [{"log": log, "hash": name, "data": sealed} for name, sealed in data.items()]
    insert_new(transaction, payloads, rows)


def read_payloads(
    transaction: Transaction, log: LogId, hashes: tuple[Hash, ...], *, most_bytes: int
) -> list[bytes] | None:
    """The first payloads that fit, at least one, in the order asked for; None if one is missing."""
    result, used = list[bytes](), 0
    for some in chunks(hashes, 32):
        rows = transaction.execute(_PAYLOADS, {"log": log, "keys": some})
        found = {row.hash: row.data for row in rows}
        for name in some:
            if name not in found:
                return None
            used += len(found[name]) + 8
            if result and used > most_bytes:
                return result
            result.append(found[name])
    return result


def add_boxes(
    transaction: Transaction, log: LogId, key_index: int, members: tuple[KeyBox, ...]
) -> None:
    """Store the boxes of a rotation in their order."""
    rows = [
        {
            "log": log,
            "key_index": key_index,
            "position": position,
            "user": one.user,
            "generation": one.generation,
            "box": one.box,
        }
        for position, one in enumerate(members)
    ]
    if rows:
        transaction.execute(insert(boxes), rows)


def read_boxes(transaction: Transaction, log: LogId, key_index: int) -> list[KeyBox]:
    """All boxes of a rotation in their order."""
    query = (
        select(boxes)
        .where((boxes.c.log == log) & (boxes.c.key_index == key_index))
        .order_by(boxes.c.position)
    )
    return [
        KeyBox(user=UserId(row.user), generation=row.generation, box=row.box)
        for row in transaction.execute(query)
    ]


def stored_blocks(
    transaction: Transaction, log: LogId, ids: Iterable[BlockId]
) -> dict[BlockId, StoredBlock]:
    """Digest and size of those blocks whose contents are stored."""
    found = dict[BlockId, StoredBlock]()
    for some in chunks(ids):
        for row in transaction.execute(_BLOCKS, {"log": log, "keys": some}):
            found[BlockId(row.block)] = StoredBlock(digest=Hash(row.digest), size=row.size)
    return found


def add_blocks(transaction: Transaction, log: LogId, stored: Mapping[BlockId, StoredBlock]) -> None:
    """Enter blocks whose contents are durable, and count the bytes of new ones (rule 19)."""
    known = stored_blocks(transaction, log, stored)
    new = {block: one for block, one in stored.items() if block not in known}
    if new:
        rows = [
            {"log": log, "block": block, "digest": one.digest, "size": one.size}
            for block, one in new.items()
        ]
        transaction.execute(_ADD_BLOCKS, rows)
        transaction.execute(_COUNT, {"counted": log, "more": sum(one.size for one in new.values())})

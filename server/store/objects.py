"""Objects of realms: newest states, and all former ones, so that the map at any size is a query.

Data flow: LogChange.writes -> `write` -> rows -> decisions, restoration, `items_at` -> snapshots.

A state is valid in the sizes from its `write_index` + 1 to its `until_leaf`, the leaf that replaced
it. What is replaced moves to a table of its own in the same transaction, in order of the leaves:
that costs commits a row at the end of a table, and a snapshot a look at what was written since,
which is what its reader has to replay anyway (rule 34).
"""

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import BigInteger, Select, bindparam, func, insert, select, union_all

from parsec_fs.protocol.codec import decode
from parsec_fs.protocol.commits import ObjectRecord
from parsec_fs.protocol.ids import Hash, LogId, ObjectId
from parsec_fs.protocol.records import ObjectState
from parsec_fs.protocol.snapshots import SnapshotItem
from server.decisions.effects import Write
from server.store.database import Transaction
from server.store.rows import Row, chunks, one_of, upsert
from server.store.schema import former_objects as former
from server.store.schema import objects

_STATE = ("object", "version", "write_index", "write", "operations", "history", "flags")
_ITEM = (*_STATE, "commit_hash", "record")
_STATES = select(*(objects.c[name] for name in _STATE)).where(
    (objects.c.log == bindparam("log")) & one_of(objects.c.object)
)
_INSERT_FORMER = insert(former)
_RETIRE = insert(former).from_select(
    ["log", *_ITEM, "until_leaf"],
    select(
        objects.c.log, *(objects.c[name] for name in _ITEM), bindparam("until", type_=BigInteger)
    ).where((objects.c.log == bindparam("of_log")) & (objects.c.object == bindparam("of_object"))),
)


def write(transaction: Transaction, log: LogId, writes: Sequence[Write]) -> None:
    """Store new versions, in their order: the last one of each object is the newest, what it
    replaces is kept as former."""
    newest = dict[ObjectId, Write]()
    retired, passed = list[Row](), list[Row]()
    for one in writes:
        before, until = newest.get(one.object), one.state.write_index
        if before is not None:
            passed.append(_row(log, before) | {"until_leaf": until})
        elif one.state.version > 1:
            retired.append({"of_log": log, "of_object": one.object, "until": until})
        newest[one.object] = one
    if retired:
        transaction.execute(_RETIRE, retired)
    if passed:
        transaction.execute(_INSERT_FORMER, passed)
    upsert(transaction, objects, [_row(log, one) for one in newest.values()])


def read_states(
    transaction: Transaction, log: LogId, ids: Sequence[ObjectId]
) -> dict[ObjectId, ObjectState]:
    """States of these objects, as far as they exist."""
    found: dict[ObjectId, ObjectState] = {}
    for some in chunks(ids):
        rows = transaction.execute(_STATES, {"log": log, "keys": some})
        found.update(_state(*row) for row in rows)
    return found


def all_states(transaction: Transaction, log: LogId) -> Iterator[tuple[ObjectId, ObjectState]]:
    """States of all objects of a realm, streamed."""
    query = select(*(objects.c[name] for name in _STATE)).where(objects.c.log == log)
    with transaction.execute(query, execution_options={"yield_per": 1000}) as rows:
        for row in rows:
            yield _state(*row)


def all_items(transaction: Transaction, log: LogId) -> Iterator[SnapshotItem]:
    """All objects of a realm with their last writes, in order of their ids, streamed."""
    query = select(*(objects.c[name] for name in _ITEM)).where(objects.c.log == log)
    ordered = query.order_by(objects.c.object)
    with transaction.execute(ordered, execution_options={"yield_per": 1000}) as rows:
        for row in rows:
            yield _item(*row)


def all_former(transaction: Transaction, log: LogId) -> Iterator[tuple[int, SnapshotItem]]:
    """All former states with the leaves that replaced them, in order of those and of ids."""
    query = select(former.c.until_leaf, *(former.c[name] for name in _ITEM))
    ordered = query.where(former.c.log == log).order_by(former.c.until_leaf, former.c.object)
    with transaction.execute(ordered, execution_options={"yield_per": 1000}) as rows:
        for until, *row in rows:
            yield until, _item(*row)


def items_at(
    transaction: Transaction, log: LogId, size: int, after: ObjectId | None, most: int
) -> list[SnapshotItem]:
    """The first `most` objects after an id (None: of all) in the map of the first `size` leaves."""
    now, then = _parts(log, size, _ITEM)
    if after is not None:
        now, then = now.where(objects.c.object > after), then.where(former.c.object > after)
    query = union_all(now, then).order_by("object").limit(most)
    return [_item(*row) for row in transaction.execute(query)]


def count_at(transaction: Transaction, log: LogId, size: int) -> int:
    """How many objects there are in the map of the first `size` leaves."""
    parts = union_all(*_parts(log, size, ("object",))).subquery()
    query = select(func.count()).select_from(parts)
    return int(transaction.execute(query).scalar_one())


def _parts(log: LogId, size: int, names: Sequence[str]) -> tuple[Select[Any], Select[Any]]:
    """Objects not written since, and of the others the state that was valid then."""
    now = select(*(objects.c[name] for name in names)).where(
        (objects.c.log == log) & (objects.c.write_index < size)
    )
    then = (
        select(*(former.c[name] for name in names))
        .where((former.c.log == log) & (former.c.until_leaf >= size))
        .where(former.c.write_index < size)
    )
    return now, then


def _row(log: LogId, one: Write) -> Row:
    state = one.state
    return {
        "log": log,
        "object": one.object,
        "version": state.version,
        "write_index": state.write_index,
        "write": state.write,
        "operations": state.operations,
        "history": state.history,
        "flags": state.flags,
        "commit_hash": one.commit,
        "record": one.record,
    }


def _state(
    object_id: bytes,
    version: int,
    write_index: int,
    write: bytes,
    operations: int,
    history: bytes,
    flags: int,
) -> tuple[ObjectId, ObjectState]:
    state = ObjectState(
        version=version,
        write_index=write_index,
        write=Hash(write),
        operations=operations,
        history=Hash(history),
        flags=flags,
    )
    return ObjectId(object_id), state


def _item(*row: Any) -> SnapshotItem:
    """Raises DataError: the columns of `_ITEM`, the last one encoded."""
    *columns, commit, record = row
    object_id, state = _state(*columns)
    return SnapshotItem(
        object=object_id, state=state, commit=Hash(commit), record=decode(ObjectRecord, record)
    )

"""Verified leaves on their way into the store, in groups that are stored in one transaction.

Data flow: replica (leaf, transition) -> `LeafGroups.add` -> groups -> payloads fetched -> store.

Pure. A group holds the newest version of each object that its leaves changed; after each group the
store is a verified prefix of the log, with every payload that it names. What was signed here and
what others wrote are never in one group: the tree shows the own version already, so what others
changed must be compared with that, not with what the store said before both.
"""

from dataclasses import dataclass, field
from typing import Final

from parsec_fs.protocol.commits import ObjectRecord
from parsec_fs.protocol.ids import DeviceId, Hash, ObjectId
from parsec_fs.protocol.limits import MIB
from parsec_fs.protocol.realm_state import RealmState, Transition
from parsec_fs.protocol.records import CERTIFICATE, Leaf, ObjectState
from parsec_fs.storage.realm_store import RealmStore
from parsec_fs.storage.realm_writer import LeafRow

GROUP_OBJECTS: Final = 4000
GROUP_BYTES: Final = 64 * MIB
"""Payloads of a group are in memory together: full ones would be 4 GiB (exhaustion)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangedObject:
    """Newest version of an object in a group, and who wrote it."""

    record: ObjectRecord
    state: ObjectState
    author: DeviceId


@dataclass(slots=True)
class LeafGroup:
    """Consecutive leaves; `state` is the realm after the last of them. `own`: they were waiting in
    the outbox, and the tree shows what they say."""

    state: RealmState
    own: bool = False
    leaves: list[LeafRow] = field(default_factory=list)
    objects: dict[ObjectId, ChangedObject] = field(default_factory=dict)
    operations: list[tuple[ObjectId, int, int]] = field(default_factory=list)
    payload_bytes: int = 0

    def authors(self) -> set[DeviceId]:
        """Whose chains have grown."""
        return {row.author for row in self.leaves if row.author is not None}


class LeafGroups:
    """Collects transitions; `view` is the state of objects after all of them. `device` is this
    one."""

    def __init__(self, state: RealmState, store: RealmStore, *, device: DeviceId) -> None:
        self.state = state
        self._device = device
        self.groups: list[LeafGroup] = []
        self._store = store
        self._changed: dict[ObjectId, ObjectState] = {}

    def view(self, id: ObjectId) -> ObjectState | None:
        """Map value of an object after the leaves so far."""
        return self._changed.get(id) or self._store.state(id)

    def add(self, leaf: Leaf, transition: Transition) -> None:
        """A verified leaf and what it does."""
        size = sum(record.payload_size for record, _ in transition.objects)
        group = self._group(len(transition.objects), size, own=self._is_own(transition))
        group.payload_bytes += size
        group.state = self.state = transition.state
        group.leaves.append(_row(leaf, transition))
        author = transition.author
        for record, state in transition.objects:
            assert author is not None
            self._changed[record.object] = state
            change = ChangedObject(record=record, state=state, author=author)
            group.objects[record.object] = change
            group.operations.append((record.object, state.version, leaf.header.index))

    def _is_own(self, transition: Transition) -> bool:
        if transition.author != self._device or transition.record is None:
            return False
        return self._store.outbox.has(transition.record)

    def _group(self, objects: int, size: int, *, own: bool) -> LeafGroup:
        last = self.groups[-1] if self.groups else None
        if (
            last is None
            or last.own != own
            or len(last.objects) + objects > GROUP_OBJECTS
            or (last.leaves and last.payload_bytes + size > GROUP_BYTES)
        ):
            last = LeafGroup(state=self.state, own=own)
            self.groups.append(last)
        return last


def _row(leaf: Leaf, transition: Transition) -> LeafRow:
    signed = transition.author is not None
    record: Hash | None = transition.record if signed else None
    return LeafRow(
        header=leaf.header,
        author=transition.author,
        record=record,
        log_root=transition.state.position.root(),
        map_root=transition.state.map.root(),
        certificate=leaf.body if leaf.header.kind == CERTIFICATE else None,
    )

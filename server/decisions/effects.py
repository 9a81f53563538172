"""What a decision does, as values: the shells carry it out in one transaction.

Data flow: decision -> `LogChange` -> store.logs.append -> durable -> the state in memory.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple, TypeVar

from parsec_fs.protocol.certificates import KeyBox
from parsec_fs.protocol.hashing import body_hash
from parsec_fs.protocol.ids import DeviceId, Hash, ObjectId, UserId
from parsec_fs.protocol.log_state import DeviceChain, LogPosition
from parsec_fs.protocol.membership import OrgState
from parsec_fs.protocol.realm_state import RealmState
from parsec_fs.protocol.records import Context, Leaf, LeafHeader, ObjectState, Refusal

K = TypeVar("K")
V = TypeVar("V")


def no_entries() -> Mapping[K, V]:
    """An immutable empty mapping."""
    return MappingProxyType({})


class Write(NamedTuple):
    """A new version of an object: its state, the commit that made it, the encoded object record."""

    object: ObjectId
    state: ObjectState
    commit: Hash
    record: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class LogChange:
    """New leaves of one log, and every summary that changes with them.

    `position` and `map_root` are those after the leaves. `accepted` are the hashes of the devices'
    records with their leaf indexes. `writes` are all new versions of objects in order, so that none
    is lost that another of the same batch replaces. `bytes_added` is what the payloads need."""

    context: Context
    position: LogPosition
    map_root: Hash
    leaves: tuple[Leaf, ...] = ()
    accepted: tuple[tuple[Hash, int], ...] = ()
    refusals: tuple[Refusal, ...] = ()
    chains: Mapping[DeviceId, DeviceChain] = field(default_factory=no_entries)
    writes: tuple[Write, ...] = ()
    roles: Mapping[UserId, int] = field(default_factory=no_entries)
    payloads: Mapping[Hash, bytes] = field(default_factory=no_entries)
    key_index: int = 0
    boxes: tuple[KeyBox, ...] = ()

    @property
    def objects(self) -> Mapping[ObjectId, ObjectState]:
        """Newest states of the objects that change."""
        return {one.object: one.state for one in self.writes}

    @property
    def bytes_added(self) -> int:
        """Bytes of the new payloads, for the realm's quota."""
        return sum(len(data) for data in self.payloads.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class OrgEffects:
    """The org log's next state and what leads to it."""

    state: OrgState
    change: LogChange


@dataclass(frozen=True, slots=True, kw_only=True)
class RealmEffects:
    """A realm log's next state and what leads to it."""

    state: RealmState
    change: LogChange


def next_leaf(
    position: LogPosition, kind: int, body: bytes, *, map_root: Hash, org_size: int, now_ms: int
) -> Leaf:
    """The leaf that follows a prefix. Times strictly increase even where the clock stands still."""
    return Leaf(
        header=LeafHeader(
            index=position.size,
            kind=kind,
            time_ms=max(now_ms, position.time_ms + 1),
            org_size=org_size,
            map_root=map_root,
            body=body_hash(body),
        ),
        body=body,
    )

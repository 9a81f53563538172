"""Groups of leaves and their payloads: what hostile sizes may cost a replica's memory.

Data flow: transitions with declared sizes -> groups; a group, a lying member's payload -> rows.
"""

from dataclasses import replace
from typing import Any

import pytest

from parsec_fs.protocol.commits import ObjectRecord
from parsec_fs.protocol.errors import DataError
from parsec_fs.protocol.hashing import payload_hash
from parsec_fs.protocol.ids import (
    NO_HASH,
    DeviceId,
    Hash,
    LogId,
    ObjectId,
    OrgId,
    RealmId,
    ServerLogId,
)
from parsec_fs.protocol.limits import MIB
from parsec_fs.protocol.realm_state import RealmState, Transition
from parsec_fs.protocol.records import COMMIT, Context, Leaf, LeafHeader, ObjectState
from parsec_fs.workspace.leaf_groups import GROUP_BYTES, LeafGroups
from parsec_fs.workspace.payloads import PayloadReader
from parsec_fs.workspace.slices import Slices

CONTEXT = Context(
    chain_id=b"c",
    genesis=NO_HASH,
    server_log=ServerLogId(b"s" * 32),
    org=OrgId(b"o" * 32),
    log=LogId(b"l" * 32),
)
AUTHOR = DeviceId(b"a" * 16)
OWN = DeviceId(b"d" * 16)
IN_OUTBOX = Hash(b"o" * 32)
STATE = ObjectState(version=1, write_index=0, write=NO_HASH, operations=1, history=NO_HASH, flags=0)


def transition(number: int, *sizes: int) -> Transition:
    records = [
        ObjectRecord(
            object=ObjectId(bytes((number, place)) * 8),
            version=1,
            base=NO_HASH,
            payload=payload_hash(bytes((number, place))),
            payload_size=size,
            blocks_root=NO_HASH,
            flags=0,
        )
        for place, size in enumerate(sizes)
    ]
    objects = tuple((record, STATE) for record in records)
    return Transition(state=RealmState(context=CONTEXT), objects=objects, author=AUTHOR)


def leaf(index: int) -> Leaf:
    header = LeafHeader(
        index=index, kind=COMMIT, time_ms=index, org_size=1, map_root=NO_HASH, body=NO_HASH
    )
    return Leaf(header=header, body=b"body")


def grouped(*transitions: Transition) -> LeafGroups:
    bare: Any = Bare(b"")
    groups = LeafGroups(RealmState(context=CONTEXT), bare, device=OWN)
    for index, one in enumerate(transitions):
        groups.add(leaf(index), one)
    return groups


def test_full_payloads_are_not_all_in_memory_at_once() -> None:
    commits = [transition(number, *[MIB] * 12) for number in range(100)]
    groups = grouped(*commits).groups
    assert len(groups) == 20
    assert all(group.payload_bytes <= GROUP_BYTES for group in groups)
    assert sum(len(group.leaves) for group in groups) == 100


def test_small_payloads_share_a_group_and_a_large_commit_has_its_own() -> None:
    small = [transition(number, 500) for number in range(100)]
    assert len(grouped(*small).groups) == 1
    large = transition(200, *[MIB] * 100)
    assert [len(one.leaves) for one in grouped(small[0], large, small[1]).groups] == [1, 1, 1]


def test_what_waits_in_the_outbox_shares_no_group_with_what_others_wrote() -> None:
    """The tree shows the own version: others' changes count from there. An own commit from long
    ago is like anybody's."""
    mine = replace(transition(1, 9), author=OWN, record=IN_OUTBOX)
    old = replace(transition(2, 9), author=OWN, record=NO_HASH)
    groups = grouped(transition(0, 9), old, mine, mine, transition(3, 9)).groups
    assert [(len(one.leaves), one.own) for one in groups] == [(2, False), (2, True), (1, False)]


class Bare:
    """A store that knows one commit that was sent, and a server that has one payload."""

    def __init__(self, payload: bytes) -> None:
        self.served, self.outbox = payload, self

    def has(self, record: Hash) -> bool:
        return record == IN_OUTBOX

    async def read_payloads(self, realm: RealmId, hashes: tuple[Hash, ...]) -> tuple[bytes, ...]:
        return (self.served,) * len(hashes)

    def open_bytes(self, sealed: bytes, id: ObjectId, version: int, author: DeviceId) -> bytes:
        raise DataError(f"{len(sealed)} bytes do not open")


@pytest.mark.expects_log("0 bytes do not open")
async def test_a_payload_longer_than_declared_is_damage_and_is_not_kept() -> None:
    """A server and a contributor together could otherwise fill the memory behind small sizes."""
    payload = bytes(1000)
    record, state = transition(1, 999).objects[0]
    record = replace(record, payload=payload_hash(payload))
    group = grouped(replace(transition(1), objects=((record, state),))).groups[0]
    bare: Any = Bare(payload)
    reader = PayloadReader(
        bare, bare, bare, realm=RealmId(b"l" * 32), device=DeviceId(bytes(16)), read_node=bare
    )
    found = await reader.read(group, Slices())
    assert [(row.kind, row.sealed) for row in found.rows] == [(0, b"")]

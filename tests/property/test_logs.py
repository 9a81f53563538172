"""Honest logs verify and mean what the reference says; any single change is refused.

Data flow: a generated story -> honest leaves -> replay; a lie in one place -> an error or another
root than the signed head's.
"""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parsec_fs.protocol import membership
from parsec_fs.protocol.certificates import (
    ADMIN,
    AUDITOR,
    CONTRIBUTOR,
    MANAGER,
    OWNER,
    READER,
    STANDARD,
)
from parsec_fs.protocol.codec import decode, encode
from parsec_fs.protocol.errors import DataError, VerificationError
from parsec_fs.protocol.hashing import body_hash
from parsec_fs.protocol.ids import ObjectId
from parsec_fs.protocol.membership import OrgState
from parsec_fs.protocol.realm_state import RealmState, verify_leaf
from parsec_fs.protocol.records import Leaf, ObjectState
from tests.support import reference_logs
from tests.support.honest_logs import HonestOrg, HonestRealm, Person

steps = st.lists(
    st.sampled_from(
        ["new", "many", "change", "delete", "stamp", "role", "rotate", "person", "renew"]
    ),
    min_size=1,
    max_size=12,
)


class Story:
    """An organization in which the named things happen, whoever may do them."""

    def __init__(self, what: list[str], choose: Any) -> None:
        self.choose = choose
        self.org = HonestOrg(b"story")
        self.realm = HonestRealm(self.org, self.org.alice)
        self.people = [self.org.alice]
        for one in what:
            getattr(self, one)()

    def pick(self, options: list[Any]) -> Any:
        return options[self.choose(len(options))]

    def writer(self) -> Person:
        state = self.realm.state
        allowed = [one for one in self.people if state.role(one.user) >= CONTRIBUTOR]
        person: Person = self.pick(allowed)
        return person

    def known(self) -> list[ObjectId]:
        alive = [one for one, state in self.realm.objects.items() if not state.flags]
        return sorted(alive) or [self.realm.new_object()]

    def new(self) -> None:
        self.realm.commit([self.realm.new_object()], self.writer())

    def many(self) -> None:
        self.realm.commit([self.realm.new_object() for _ in range(9)], self.writer())

    def change(self) -> None:
        self.realm.commit(self.known()[:3], self.writer())

    def delete(self) -> None:
        self.realm.commit([self.pick(self.known())], self.writer(), deleted=True)

    def stamp(self) -> None:
        self.realm.stamp(2)

    def role(self) -> None:
        if len(self.people) > 1:
            role = self.pick([AUDITOR, READER, CONTRIBUTOR, MANAGER, OWNER, 0])
            self.realm.give(self.pick(self.people[1:]), role)

    def rotate(self) -> None:
        self.realm.rotate(self.writer())

    def renew(self) -> None:
        self.org.renew(self.pick(self.people))

    def person(self) -> None:
        self.people.append(self.org.add_person(profile=self.pick([ADMIN, STANDARD])))


def story(what: list[str], data: st.DataObject) -> Story:
    return Story(what, lambda count: data.draw(st.integers(0, count - 1)))


def replay_org(leaves: list[Leaf]) -> OrgState:
    state = membership.found(leaves[0])
    for leaf in leaves[1:]:
        state = membership.append(state, leaf)
    return state


def replay_realm(told: Story, leaves: list[Leaf]) -> RealmState:
    state = RealmState(context=told.realm.context)
    objects: dict[ObjectId, ObjectState] = {}
    for leaf in leaves:
        transition = verify_leaf(state, leaf, org=told.org.state, objects=objects.get)
        state = transition.state
        objects |= {record.object: after for record, after in transition.objects}
    return state


@settings(max_examples=25)
@given(steps, st.data())
def test_honest_logs_mean_what_the_reference_says(what: list[str], data: st.DataObject) -> None:
    told = story(what, data)
    realm = reference_logs.replay([encode(leaf) for leaf in told.realm.leaves])
    assert realm.log_root() == told.realm.state.position.root()
    assert realm.map_root() == told.realm.state.map.root()
    assert set(realm.states) == set(told.realm.objects)
    for object_id, state in told.realm.objects.items():
        fields = [state.version, state.write_index, state.write, state.operations, state.history]
        assert realm.states[object_id] == [*fields, state.flags]
    org = reference_logs.replay([encode(leaf) for leaf in told.org.leaves])
    assert (org.log_root(), org.map_root()) == (
        told.org.state.position.root(),
        told.org.state.map.root(),
    )
    assert replay_org(told.org.leaves) == told.org.state
    assert replay_realm(told, told.realm.leaves) == told.realm.state


def same_roots(one: OrgState | RealmState, other: OrgState | RealmState) -> bool:
    """The signed head names log root and map root; both must fit (rule 31)."""
    return one.position.root() == other.position.root() and one.map.root() == other.map.root()


@settings(max_examples=40)
@given(steps, st.data())
def test_any_changed_byte_shows(what: list[str], data: st.DataObject) -> None:
    """Somebody changes one byte on the way: an error, or not the roots of the signed head."""
    told = story(what, data)
    for log, honest in ((told.org, told.org.state), (told.realm, told.realm.state)):
        leaves = list(log.leaves)
        at = data.draw(st.integers(0, len(leaves) - 1))
        encoded = bytearray(encode(leaves[at]))
        encoded[data.draw(st.integers(0, len(encoded) - 1))] ^= data.draw(st.integers(1, 255))
        try:
            leaves[at] = decode(Leaf, bytes(encoded))
            state = replay_org(leaves) if log is told.org else replay_realm(told, leaves)
        except (DataError, VerificationError):
            continue
        assert not same_roots(state, honest)


@settings(max_examples=40)
@given(steps, st.data())
def test_server_cannot_change_what_devices_signed(what: list[str], data: st.DataObject) -> None:
    """A server that lies changes a body and makes its header fit: refused at that leaf."""
    told = story(what, data)
    for log in (told.org, told.realm):
        signed = [index for index, leaf in enumerate(log.leaves) if leaf.header.kind != 3]
        at = data.draw(st.sampled_from(signed))
        body = bytearray(log.leaves[at].body)
        body[data.draw(st.integers(0, len(body) - 1))] ^= data.draw(st.integers(1, 255))
        header = replace(log.leaves[at].header, body=body_hash(bytes(body)))
        leaves = [*log.leaves[:at], Leaf(header=header, body=bytes(body))]
        with pytest.raises((DataError, VerificationError)):
            if log is told.org:
                replay_org(leaves)
            else:
                replay_realm(told, leaves)


@settings(max_examples=40)
@given(steps, st.data())
def test_server_cannot_drop_repeat_or_reorder(what: list[str], data: st.DataObject) -> None:
    """The server renumbers, retimes and renames roots as it likes; device chains and versions stop
    it, except for leaves of stamps, which no device chain holds together."""
    told = story([*what, "new", "change", "rotate", "change"], data)
    leaves = told.realm.leaves
    signed = [index for index, leaf in enumerate(leaves) if leaf.header.kind != 3]
    at = data.draw(st.sampled_from(signed[:-1]))
    later = data.draw(st.sampled_from([index for index in signed if index > at]))
    bodies = [(leaf.header.kind, leaf.body) for leaf in leaves]
    match data.draw(st.sampled_from(["drop", "repeat", "swap"])):
        case "drop":
            author = _author(told, at)
            if author not in {_author(told, index) for index in signed if index > at}:
                return  # the last records of a device can be withheld; heads and epochs show that
            del bodies[at]
        case "repeat":
            bodies.insert(later + 1, bodies[at])
        case _:
            if _author(told, at) != _author(told, later):
                return  # records of different devices may be independent
            bodies[at], bodies[later] = bodies[later], bodies[at]
    with pytest.raises((DataError, VerificationError)):
        replay_lying(told, bodies)


def _author(told: Story, index: int) -> bytes:
    state = RealmState(context=told.realm.context)
    objects: dict[ObjectId, ObjectState] = {}
    for leaf in told.realm.leaves[: index + 1]:
        transition = verify_leaf(state, leaf, org=told.org.state, objects=objects.get)
        state = transition.state
        objects |= {record.object: after for record, after in transition.objects}
    assert transition.author is not None
    return transition.author


def replay_lying(told: Story, bodies: list[tuple[int, bytes]]) -> RealmState:
    """Replays bodies under headers that a lying server makes to fit."""
    state = RealmState(context=told.realm.context)
    objects: dict[ObjectId, ObjectState] = {}
    org_size = told.org.state.position.size
    for index, (kind, body) in enumerate(bodies):
        header = replace(
            told.realm.leaves[0].header,
            index=index,
            kind=kind,
            time_ms=index + 1,
            org_size=org_size,
            map_root=state.map.root(),
            body=body_hash(body),
        )
        leaf = Leaf(header=header, body=body)
        transition = verify_leaf(state, leaf, org=told.org.state, objects=objects.get)
        state = transition.state
        objects |= {record.object: after for record, after in transition.objects}
    return state

"""Snapshots of random realms: true at every size, and no changed byte goes unnoticed (rule 34).

Data flow: random history -> naive snapshot -> state == replay; mutated bytes -> error or the same.
"""

from hypothesis import given, settings
from hypothesis import strategies as st

from parsec_fs.protocol.codec import decode, encode
from parsec_fs.protocol.errors import DataError, VerificationError
from parsec_fs.protocol.ids import ObjectId
from parsec_fs.protocol.realm_state import RealmState
from parsec_fs.protocol.snapshots import SnapshotPage, SnapshotStart, open_start
from tests.support.honest_logs import HonestRealm, workspace_of_three
from tests.support.honest_snapshots import keys_of, pages, told_at

STEPS = st.lists(st.sampled_from(("new", "write", "delete", "rotate", "role", "stamp")), max_size=8)


def realm_of(steps: list[str]) -> HonestRealm:
    """A realm in which this happened."""
    realm, bob, carol = workspace_of_three(b"property")
    alive: list[ObjectId] = []
    for count, step in enumerate(steps):
        if step == "rotate":
            realm.rotate(bob)
        elif step == "role":
            realm.give(carol, count % 5)
        elif step == "stamp":
            realm.stamp(2)
        elif step == "new" or not alive:
            alive.append(realm.new_object())
            realm.commit([alive[-1]])
        else:
            realm.commit([alive[0]], deleted=step == "delete")
            alive = alive[step == "delete" :]
    return realm


def taken(realm: HonestRealm, start: bytes, told: list[bytes]) -> RealmState:
    """The state that these bytes lead to."""
    unverified = decode(SnapshotStart, start)
    snapshot = open_start(unverified, expected_context=realm.context, keys=keys_of(realm))
    for page in told:
        snapshot = snapshot.after(decode(SnapshotPage, page))
    return snapshot.finish()


@settings(deadline=None, max_examples=25)
@given(STEPS, st.integers(1, 4))
def test_snapshot_is_the_replay(steps: list[str], size: int) -> None:
    realm = realm_of(steps)
    told = told_at(realm, len(realm.leaves))
    state = taken(realm, encode(told.start), [encode(one) for one in pages(told.items, size)])
    assert (state.position, state.roles) == (realm.state.position, realm.state.roles)
    assert (state.key, state.rotations) == (realm.state.key, realm.state.rotations)
    assert state.map.root() == realm.state.map.root()


REALM = realm_of(["new", "new", "write", "delete", "rotate", "role"])
TOLD = told_at(REALM, len(REALM.leaves))
PARTS = [encode(TOLD.start), *(encode(one) for one in pages(TOLD.items, 1))]
TRUE = taken(REALM, PARTS[0], PARTS[1:])


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_no_changed_byte_changes_the_state(data: st.DataObject) -> None:
    parts = list(PARTS)
    which = data.draw(st.integers(0, len(parts) - 1))
    at = data.draw(st.integers(0, len(parts[which]) - 1))
    changed = bytearray(parts[which])
    changed[at] ^= data.draw(st.integers(1, 255))
    parts[which] = bytes(changed)
    try:
        state = taken(REALM, parts[0], parts[1:])
    except (DataError, VerificationError):
        return
    # Neither map nor signature covers former rotations, and what the newest has sealed.
    assert state.rotations != TRUE.rotations
    assert (state.position, state.roles, state.key) == (TRUE.position, TRUE.roles, TRUE.key)
    assert state.map.root() == TRUE.map.root()

"""The state map: production against the reference, whatever the order and grouping of insertions.

Data flow: random keys, also ones that differ in single bits -> roots, openings of both sides.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parsec_fs.protocol.errors import ProofError
from parsec_fs.protocol.hashing import EMPTY_MAP, map_inner, map_leaf, sha256
from parsec_fs.protocol.ids import Hash
from parsec_fs.protocol.prefix_map import MapProof, MapStep, PrefixMap, verify_opening
from tests.support import reference as ref

any_key = st.binary(min_size=32, max_size=32)
near_key = st.sets(st.integers(0, 255), max_size=3).map(
    lambda bits: sum(1 << bit for bit in bits).to_bytes(32, "big")
)
keys = st.one_of(any_key, near_key).map(Hash)
entries = st.dictionaries(keys, any_key.map(Hash), max_size=40)


def as_plain(proof: MapProof) -> ref.Plain:
    return [[*proof.leaf], [[step.bit, step.sibling] for step in proof.steps]]


@given(entries, st.data())
def test_root_depends_on_the_entries_alone(content: dict[Hash, Hash], data: st.DataObject) -> None:
    items = data.draw(st.permutations(list(content.items())))
    root = ref.map_root({**content})
    one_by_one = PrefixMap()
    for key, value in items:
        one_by_one = one_by_one.set(key, value)
    cut = data.draw(st.integers(0, len(items)))
    in_two = PrefixMap().set_many(items[:cut]).set_many(items[cut:])
    assert one_by_one.root() == in_two.root() == PrefixMap().set_many(items).root() == root
    assert list(one_by_one.items()) == sorted(content.items())


@given(entries, entries, st.integers(2, 9), keys)
def test_buckets_change_nothing(
    old: dict[Hash, Hash], new: dict[Hash, Hash], most: int, other: Hash
) -> None:
    full = PrefixMap().set_many(old.items()).set_many(new.items())
    saving = PrefixMap(most=most).set_many(old.items())
    for item in new.items():
        saving = saving.set(*item)
    assert saving.root() == full.root()
    assert list(saving.items()) == list(full.items())
    for key in [other, *old, *new]:
        assert saving.get(key) == full.get(key)
        assert saving.open(key) == full.open(key)


@given(entries, entries)
def test_old_versions_stay_as_they_were(old: dict[Hash, Hash], new: dict[Hash, Hash]) -> None:
    before = PrefixMap().set_many(old.items())
    after = before.set_many(new.items())
    assert before.root() == ref.map_root({**old})
    assert after.root() == ref.map_root({**old, **new})
    assert all(after.get(key) == value for key, value in {**old, **new}.items())
    assert all(before.get(key) == old.get(key) for key in new)


@given(entries, keys)
def test_opening_of_any_key(content: dict[Hash, Hash], key: Hash) -> None:
    full = PrefixMap().set_many(content.items())
    for one in [key, *content]:
        proof = full.open(one)
        assert as_plain(proof) == ref.map_opening({**content}, one)
        assert verify_opening(one, proof, expected_root=full.root()) == content.get(one)


@given(entries.filter(lambda content: len(content) > 1), keys, st.data())
def test_opening_proves_one_answer_only(
    content: dict[Hash, Hash], key: Hash, data: st.DataObject
) -> None:
    """No proof under this root gives another answer for this key."""
    full = PrefixMap().set_many(content.items())
    key = data.draw(st.sampled_from([key, *content]))
    other = full.open(data.draw(st.sampled_from(list(content))))
    leaf, steps = list(other.leaf), list(other.steps)
    match data.draw(st.sampled_from(["other", "drop", "leaf", "value", "bit", "sibling", "empty"])):
        case "drop":
            del steps[data.draw(st.integers(0, len(steps) - 1))]
        case "leaf":
            leaf[0] = key
        case "value":
            leaf[1] = data.draw(any_key)
        case "bit":
            at = data.draw(st.integers(0, len(steps) - 1))
            steps[at] = MapStep(bit=data.draw(st.integers(0, 255)), sibling=steps[at].sibling)
        case "sibling":
            at = data.draw(st.integers(0, len(steps) - 1))
            steps[at] = MapStep(bit=steps[at].bit, sibling=data.draw(keys))
        case "empty":
            leaf = []
    proof = MapProof(leaf=tuple(leaf), steps=tuple(steps))
    try:
        answer = verify_opening(key, proof, expected_root=full.root())
    except ProofError:
        return
    assert answer == content.get(key)


def test_empty_map() -> None:
    empty = PrefixMap()
    assert empty.root() == EMPTY_MAP == ref.map_root({})
    assert empty.get(EMPTY_MAP) is None
    assert empty.set_many([]) is empty
    assert verify_opening(EMPTY_MAP, empty.open(EMPTY_MAP), expected_root=EMPTY_MAP) is None


KEY = Hash(bytes(32))
FAR = Hash(b"\x80" + bytes(31))
VALUE = sha256(b"value")
TWO = PrefixMap().set_many([(KEY, VALUE), (FAR, VALUE)])


@pytest.mark.parametrize(
    ("proof", "root"),
    [
        (MapProof(leaf=(), steps=()), TWO.root()),
        (MapProof(leaf=(), steps=TWO.open(KEY).steps), EMPTY_MAP),
        (MapProof(leaf=(KEY,), steps=TWO.open(KEY).steps), TWO.root()),
        (MapProof(leaf=(KEY, VALUE), steps=TWO.open(KEY).steps * 2), TWO.root()),
        (TWO.open(FAR), TWO.root()),
        (TWO.open(KEY), EMPTY_MAP),
    ],
)
def test_malformed_opening_is_refused(proof: MapProof, root: Hash) -> None:
    with pytest.raises(ProofError):
        verify_opening(KEY, proof, expected_root=root)


def test_leaf_hidden_in_a_foreign_branch_is_refused() -> None:
    """A malicious server builds a tree in which KEY lies where only keys with bit 0 set belong, to
    prove it present to some and absent to others. The hashed bit gives it away."""
    hidden = map_inner(0, map_leaf(KEY, VALUE), map_leaf(KEY, sha256(b"other")))
    step = MapStep(bit=0, sibling=map_leaf(KEY, VALUE))
    swapped = MapProof(leaf=(KEY, sha256(b"other")), steps=(step,))
    with pytest.raises(ProofError):
        verify_opening(KEY, swapped, expected_root=hidden)
    with pytest.raises(ProofError):
        verify_opening(FAR, swapped, expected_root=hidden)

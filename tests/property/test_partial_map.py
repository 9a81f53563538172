"""A map rebuilt from openings behaves like the whole map, for the opened keys and no others.

Data flow: whole map -> openings of some keys -> `partial_map` -> same answers, same root after.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parsec_fs.protocol.errors import ProofError
from parsec_fs.protocol.hashing import EMPTY_MAP
from parsec_fs.protocol.ids import Hash
from parsec_fs.protocol.partial_map import partial_map
from parsec_fs.protocol.prefix_map import PrefixMap
from tests.property.test_prefix_map import any_key, entries, keys

changes = st.dictionaries(keys, any_key.map(Hash), max_size=12)


@given(entries, changes, st.data())
def test_transition_is_that_of_the_whole_map(
    content: dict[Hash, Hash], new: dict[Hash, Hash], data: st.DataObject
) -> None:
    for key in content:
        if data.draw(st.booleans()):
            new[key] = data.draw(any_key.map(Hash))
    whole = PrefixMap().set_many(content.items())
    part = partial_map({key: whole.open(key) for key in new}, expected_root=whole.root())
    assert all(part.get(key) == content.get(key) for key in new)
    if new:
        assert part.root() == whole.root()
        assert part.set_many(new.items()).root() == whole.set_many(new.items()).root()
        one_by_one = part
        for key, value in new.items():
            one_by_one = one_by_one.set_many([(key, value)])
        assert one_by_one.root() == whole.set_many(new.items()).root()


@given(entries.filter(bool), keys)
def test_key_that_was_not_opened_is_never_answered(content: dict[Hash, Hash], key: Hash) -> None:
    whole = PrefixMap().set_many(content.items())
    opened = min(content)
    part = partial_map({opened: whole.open(opened)}, expected_root=whole.root())
    if key != opened:
        with pytest.raises(ProofError):
            part.get(key)
        with pytest.raises(ProofError):
            part.set_many([(key, key)])


def test_openings_must_lead_to_the_root() -> None:
    key = Hash(bytes(32))
    whole = PrefixMap().set(key, key)
    with pytest.raises(ProofError):
        partial_map({key: whole.open(key)}, expected_root=EMPTY_MAP)
    empty = partial_map({key: PrefixMap().open(key)}, expected_root=EMPTY_MAP)
    assert empty.get(key) is None
    assert empty.set_many([(key, key)]).root() == whole.root()

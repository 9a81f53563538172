"""A folder shows the times of its latest change, whichever object carries them (rule 11)."""

from parsec_fs.workspace.times import NEVER, latest


def test_a_modification_time_set_back_later_wins_over_an_older_page():
    page, attributes = (2_000, 2_000), (5, 3_000)
    assert latest(attributes, page) == attributes


def test_a_name_added_later_wins_over_the_attributes():
    page, attributes = (4_000, 4_000), (5, 3_000)
    assert latest(attributes, page) == page


def test_anything_is_later_than_never():
    assert latest(NEVER, (-7, -7)) == (-7, -7)

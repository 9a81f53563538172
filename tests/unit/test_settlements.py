"""Records of settlements: those journalled to their end are replayed, others count for nothing."""

import pytest

from parsec_fs.protocol.errors import LocalError
from parsec_fs.protocol.ids import ObjectId
from parsec_fs.workspace import records
from parsec_fs.workspace.settlements import one_settlement, whole
from parsec_fs.workspace.tree import Tree

BEGIN, END, VOID = (records.SETTLING, 2), (records.SETTLED,), (records.ABANDONED,)
OLD_BEGIN = (records.SETTLING,)
A, B, C = (records.REVERT, b"a"), (records.REVERT, b"b"), (records.REVERT, b"c")


def kept(*journal: tuple[object, ...]) -> tuple[list[tuple[object, ...]], bool]:
    left, unfinished = whole(list(enumerate(journal, 1)))
    assert all(journal[position - 1] == record for position, record in left)
    return [record for _, record in left], unfinished


def test_a_settlement_that_ended_is_replayed() -> None:
    assert kept(A, BEGIN, B, END, C) == ([A, BEGIN, B, END, C], False)


def test_one_that_did_not_is_not() -> None:
    assert kept(A, BEGIN, B) == ([A], True)
    assert kept(A, BEGIN) == ([A], True)


def test_nor_when_the_program_has_gone_on_since() -> None:
    assert kept(A, BEGIN, B, VOID, C) == ([A, VOID, C], False)
    assert kept(A, BEGIN, B, VOID, BEGIN, C, END) == ([A, VOID, BEGIN, C, END], False)


def test_where_the_beginning_was_logged_the_rest_is_replayed() -> None:
    assert kept(B, END, C) == ([B, END, C], False)
    assert kept(VOID, C) == ([VOID, C], False)


def test_no_more_is_dropped_than_the_settlement_itself() -> None:
    """What follows was recorded, and may have been synced, after a settlement that failed."""
    assert kept(BEGIN, A, B, C) == ([BEGIN, A, B, C], False)
    assert kept(BEGIN, A, B, C, VOID) == ([BEGIN, A, B, C, VOID], False)
    assert kept((records.SETTLING, 0), A) == ([(records.SETTLING, 0), A], False)


def test_one_without_a_count_is_dropped_only_where_it_was_abandoned() -> None:
    assert kept(A, OLD_BEGIN, B, END, VOID, C) == ([A, OLD_BEGIN, B, END, VOID, C], False)
    assert kept(A, OLD_BEGIN, B, VOID, C) == ([A, VOID, C], False)
    assert kept(A, OLD_BEGIN, B) == ([A, OLD_BEGIN, B], False)


def test_what_was_done_before_an_error_is_in_the_journal_with_its_count() -> None:
    journal: list[tuple[int | bytes, ...]] = []
    tree = Tree(new_id=lambda: ObjectId(bytes(16)), emit=journal.append, position=7)
    with pytest.raises(LocalError), one_settlement(tree):
        tree.record((records.REVERT, b"a"))
        assert (tree.position, journal) == (9, [])
        raise LocalError("damaged")
    tree.record((records.REVERT, b"b"))
    assert journal == [(records.SETTLING, 1), A, B]
    assert tree.position == 7 + len(journal)
    assert kept(*journal) == (journal, False)

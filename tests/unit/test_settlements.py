"""Records of settlements: those journalled to their end are replayed, others count for nothing."""

from parsec_fs.workspace import records
from parsec_fs.workspace.settlements import whole

BEGIN, END, VOID = (records.SETTLING,), (records.SETTLED,), (records.ABANDONED,)
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

"""Whose version a conflict copy is: the name that it gets, and who is meant by it later.

Data flow: an org log with people and devices called alike -> `label`, `judge`.
"""

from dataclasses import replace

import pytest

from parsec_fs.authors import Whose, judge, label, name_in_copy
from parsec_fs.protocol.certificates import STANDARD
from parsec_fs.recovery import paper_keys
from parsec_fs.workspace.conflicts import conflict_name, split_conflict_name
from tests.support.honest_logs import HonestOrg, Person


def add_user(org: HonestOrg, name: bytes, email: bytes, device: bytes) -> Person:
    """A person with one device."""
    person = org.new_person()
    content = replace(org.user_of(person, profile=STANDARD), name=name, email=email)
    org.append(content, org.alice.device, org.alice.key)
    called = replace(org.device_of(person), label=device)
    org.append(called, org.alice.device, org.alice.key)
    return person


def add_device(org: HonestOrg, person: Person, name: bytes) -> Person:
    """Another device of this person."""
    device = replace(org.new_person(), user=person.user)
    org.append(replace(org.device_of(device), label=name), person.device, person.key)
    return device


def whose(org: HonestOrg, seen_from: Person, said: str) -> Whose:
    return judge(org.state, seen_from.device, said).whose


def test_a_person_with_one_device_is_named_alone() -> None:
    org = HonestOrg()
    bob = add_user(org, b"bob", b"bob@acme.example", b"desktop")
    carol = add_user(org, b"carol", b"carol@acme.example", b"tablet")
    said = label(org.state, bob.device)
    assert said == "bob"
    assert (whose(org, bob, said), whose(org, carol, said)) == (Whose.MINE, Whose.THEIRS)
    (device,) = judge(org.state, carol.device, said).devices
    assert device.label == b"desktop"


def test_of_several_devices_the_one_is_named_and_what_was_named_before_stays_the_person() -> None:
    org = HonestOrg()
    bob = add_user(org, b"bob", b"bob@acme.example", b"desktop")
    carol = add_user(org, b"carol", b"carol@acme.example", b"tablet")
    before = label(org.state, bob.device)
    laptop = add_device(org, bob, b"laptop")
    said = label(org.state, laptop.device)
    assert (said, label(org.state, bob.device)) == ("bob on laptop", "bob on desktop")
    assert [whose(org, one, said) for one in (laptop, bob, carol)] == [
        Whose.MINE,
        Whose.THEIRS,
        Whose.THEIRS,
    ]
    assert {whose(org, one, before) for one in (laptop, bob)} == {Whose.MINE}


def test_a_kit_on_paper_is_no_device_that_changes_files() -> None:
    org = HonestOrg()
    bob = add_user(org, b"bob", b"bob@acme.example", b"desktop")
    paper = paper_keys(bytes(16)).request(b"recovery kit")
    certificate = replace(
        org.device_of(bob), device=paper.device, label=paper.label, sign_key=paper.sign_key
    )
    org.append(replace(certificate, box_key=paper.box_key), bob.device, bob.key)
    assert label(org.state, bob.device) == "bob"


def test_two_people_of_one_name_are_told_apart_by_their_address() -> None:
    org = HonestOrg()
    first = add_user(org, b"bob", b"bob@acme.example", b"desktop")
    old = label(org.state, first.device)
    second = add_user(org, b"bob", b"bob@other.example", b"desktop")
    said = label(org.state, second.device)
    assert said == "bob@other.example"
    assert (whose(org, second, said), whose(org, first, said)) == (Whose.MINE, Whose.THEIRS)
    # A copy from before the second one came may be of either, for all that its name says.
    assert {whose(org, one, old) for one in (first, second)} == {Whose.UNSURE}
    assert len(judge(org.state, first.device, old).devices) == 2


def test_two_devices_of_one_name_are_not_told_apart() -> None:
    org = HonestOrg()
    bob = add_user(org, b"bob", b"bob@acme.example", b"laptop")
    again = add_device(org, bob, b"laptop")
    assert whose(org, again, label(org.state, again.device)) is Whose.UNSURE


def test_whoever_takes_the_name_of_another_ones_device_makes_it_unsure() -> None:
    """Else a member could have their version taken for mine."""
    org = HonestOrg()
    bob = add_user(org, b"bob", b"bob@acme.example", b"desktop")
    add_device(org, bob, b"laptop")
    said = label(org.state, bob.device)
    thief = add_user(org, said.encode(), b"thief@acme.example", b"x")
    assert label(org.state, thief.device) == said
    assert whose(org, bob, said) is Whose.UNSURE


def test_a_name_that_nobody_has_is_unknown() -> None:
    org = HonestOrg()
    assert whose(org, org.alice, "nobody") is Whose.UNKNOWN


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("bob", "bob"),
        ("bob's lap/top: *new*", "bob's laptop new"),
        (' "tablet" ', "tablet"),
        ("a\nb\x1b[2J", "anbx1b[2J"),
        ("x" * 200, "x" * 60),
        ("a" + "\u00e4" * 100, "a" + "\u00e4" * 29),
        ("x" * 59 + " y", "x" * 59),
        ('?<>|"', ""),
        ("bob (acme)", "bob acme"),
    ],
)
def test_what_a_name_becomes_in_the_name_of_a_file(name: str, shown: str) -> None:
    assert name_in_copy(name.encode()) == shown


def test_names_that_begin_alike_are_told_apart_at_the_size_that_is_used() -> None:
    """Beside a device there is less room for a person than alone."""
    org, begin = HonestOrg(), "Maximiliane M\u00fcller-L\u00fcdenscheidt"
    people = [
        add_user(org, f"{begin} {one}".encode(), f"{one}@acme.example".encode(), b"laptop")
        for one in ("junior", "senior")
    ]
    assert label(org.state, people[0].device) == f"{begin} junior"
    for one in people:
        add_device(org, one, b"desktop")
    junior, senior = (label(org.state, one.device) for one in people)
    assert (junior, senior) == (
        "junior@acme.example on laptop",
        "senior@acme.example on laptop",
    )
    assert [whose(org, people[0], one) for one in (junior, senior)] == [Whose.MINE, Whose.THEIRS]


def test_nobody_can_call_themselves_a_copy_of_somebody_else() -> None:
    org = HonestOrg()
    alice = add_user(org, b"alice", b"alice@acme.example", b"laptop")
    name = b"x 2026-01-01 10.10) (conflict, alice"
    thief = add_user(org, name, b"thief@acme.example", b"x")
    stamp = f"{label(org.state, thief.device)} 2026-08-02 10.12"
    said = split_conflict_name(conflict_name(b"report.odt", stamp.encode(), {}))
    assert said is not None
    assert whose(org, thief, said[1].decode()) is Whose.MINE
    assert whose(org, alice, said[1].decode()) is Whose.THEIRS


@pytest.mark.parametrize("name", ["x" * 200, "a" + "\u00e4" * 100, '?<>|"', "bob 2026-01-01 10.00"])
def test_whatever_somebody_is_called_their_copies_are_their_own(name: str) -> None:
    """Read again from the name of a file, a label is what it was."""
    org = HonestOrg()
    bob = add_user(org, name.encode()[:200], b"bob@acme.example", name.encode()[:200])
    for _ in range(2):
        said = label(org.state, bob.device)
        assert said == said.strip()
        assert 0 < len(said.encode()) <= 60
        assert whose(org, bob, said) is Whose.MINE
        add_device(org, bob, b"second")

"""Events of people and their epochs, from verified logs.

Data flow: honest logs -> events, documents, lines; ranges of anchored leaves -> places.
"""

import pytest

from parsec_fs.people_log import (
    Anchors,
    Json,
    Place,
    Since,
    change_documents,
    event_document,
    event_text,
    org_events,
    parse_since,
    realm_events,
)
from parsec_fs.protocol.certificates import ADMIN, AUDITOR, MANAGER, NO_ROLE, READER, STANDARD
from parsec_fs.protocol.errors import InputError
from parsec_fs.protocol.records import CERTIFICATE
from tests.support.honest_logs import HonestRealm, workspace_of_three

NOW_MS = 1_800_000_000_000
HOUR_MS = 3_600_000


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", Since(epoch=0)),
        ("812", Since(epoch=812)),
        ("12h", Since(time_ms=NOW_MS - 12 * HOUR_MS)),
        ("7d", Since(time_ms=NOW_MS - 7 * 24 * HOUR_MS)),
        ("2w", Since(time_ms=NOW_MS - 14 * 24 * HOUR_MS)),
        ("2026-08-02T00:00:00+00:00", Since(time_ms=1_785_628_800_000)),
    ],
)
def test_what_people_type(text: str, expected: Since) -> None:
    assert parse_since(text, now_ms=NOW_MS) == expected


@pytest.mark.parametrize("text", ["", "yesterday", "7m", "-3", "2026-13-01", "\u0667d", "1" * 40])
def test_what_cannot_be_understood_says_what_can(text: str) -> None:
    with pytest.raises(InputError, match=r"give an epoch \(812\), a time ago"):
        parse_since(text, now_ms=NOW_MS)


def test_places_are_exact_or_say_before_which_epoch() -> None:
    anchors = Anchors(ranges=[(4, 6, 9), (6, 7, 12), (9, 10, 20)], size=11, epochs=25)
    found = [anchors.place(index) for index in (0, 3, 4, 5, 6, 7, 9, 10, 11)]
    assert found == [
        Place(before=9),
        Place(before=9),
        Place(epoch=9),
        Place(epoch=9),
        Place(epoch=12),
        Place(before=20),
        Place(epoch=20),
        Place(before=25),
        Place(),
    ]
    assert [one.cell() for one in found[-3:]] == ["20", "before 25", "-"]
    assert Anchors().place(0) == Place()


def test_what_may_lie_on_both_sides_is_told() -> None:
    since = Since(epoch=10)
    told = {Place(epoch=10), Place(before=11), Place()}
    assert {one for one in (*told, Place(epoch=9), Place(before=10)) if since.includes(one, 0)} == (
        told
    )
    assert [Since(time_ms=5).includes(Place(), one) for one in (4, 5)] == [False, True]


def told(realm: HonestRealm) -> list[Json]:
    """Documents of both logs, all of them in epoch 3."""
    certificates = [
        (leaf.header, leaf.body) for leaf in realm.leaves if leaf.header.kind == CERTIFICATE
    ]
    events = [*org_events(realm.org.leaves), *realm_events(certificates, {})]
    titles = {realm.id: "plans"}
    return [event_document(one, Place(epoch=3), realm.org.state, titles) for one in events]


def test_another_profile_is_told_with_the_one_before() -> None:
    realm, bob, _ = workspace_of_three()
    org = realm.org
    for profile in (ADMIN, STANDARD):
        content = org.user_of(bob, profile=profile)
        org.append(content, org.alice.device, org.alice.key, replaces=org.user_value(bob))
    changed = [one for one in told(realm) if one["kind"] == "changed"]
    assert [(one["before"], one["profile"]) for one in changed] == [
        ("standard", "admin"),
        ("admin", "standard"),
    ]
    assert event_text(changed[0]).endswith("> is admin now, was standard")
    renamed = {**changed[0], "before": "admin", "name": "robert"}
    assert event_text(renamed).endswith(": called robert, profile admin")


def test_everybody_who_came_and_every_role_is_told() -> None:
    realm, bob, carol = workspace_of_three()
    realm.give(bob, MANAGER)
    realm.give(carol, AUDITOR, author=bob)
    realm.give(carol, NO_ROLE, author=bob)
    realm.rotate(bob)
    documents = told(realm)
    assert {one["epoch"] for one in documents} == {3}
    kinds = [one["kind"] for one in documents]
    assert kinds[:3] == ["founded", "joined", "device-added"]
    assert (kinds.count("joined"), kinds.count("device-added")) == (3, 3)
    roles = [
        (one["person"]["name"], one["before"], one["role"])
        for one in documents
        if one["kind"] == "role"
    ]
    names = [realm.org.state.users[one.user].name.decode() for one in (bob, carol)]
    assert roles[0][1:] == ("none", "owner")
    assert roles[3:] == [
        (names[0], "contributor", "manager"),
        (names[1], "reader", "auditor"),
        (names[1], "auditor", "none"),
    ]
    assert (documents[0]["by"], documents[-1]["by"]["name"]) == (None, names[0])
    assert [one["key"] for one in documents if one["kind"] == "workspace-key"] == [1, 2]
    lines = [event_text(one) for one in documents]
    assert lines[-2].startswith("plans: ")
    assert lines[-2].endswith("left, was auditor")
    assert lines[-1] == "plans: new key, number 2"
    for one in documents:
        assert event_text(one)


def test_roles_from_before_the_first_certificate_are_known() -> None:
    realm, _, carol = workspace_of_three()
    realm.give(carol, NO_ROLE)
    last = realm.leaves[-1]
    (event,) = realm_events([(last.header, last.body)], {carol.user: READER})
    assert dict(event.details) == {"role": "none", "before": "reader"}


def test_changes_are_added_up_by_device_and_epoch() -> None:
    realm, bob, _ = workspace_of_three()
    start = len(realm.leaves)
    realm.commit([realm.new_object(), realm.new_object()], bob)
    realm.commit([realm.new_object()], bob)
    realm.commit([realm.new_object()])
    commits = [
        (leaf.header, device, count)
        for leaf, device, count in zip(
            realm.leaves[start:],
            (bob.device, bob.device, realm.owner.device),
            (2, 1, 1),
            strict=True,
        )
    ]
    anchors = Anchors(ranges=[(start, start + 1, 5), (start + 1, start + 3, 6)])
    found = change_documents(commits, anchors, realm.org.state, Since(epoch=0))
    assert [(one["epoch"], one["commits"], one["operations"]) for one in found] == [
        (5, 1, 2),
        (6, 1, 1),
        (6, 1, 1),
    ]
    assert found[1]["time_ms"] == realm.leaves[start + 1].header.time_ms
    later = change_documents(commits, anchors, realm.org.state, Since(epoch=6))
    assert later == found[1:]

"""The link of an invitation, the codes of a greeting, and the files that keep it."""

import os
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from parsec_fs.greeting import (
    CHOICES,
    DEVICE,
    REQUEST,
    SYMBOLS,
    Answer,
    Codes,
    Hello,
    Link,
    Reveal,
    answer,
    choices,
    codes,
    format_link,
    open_answer,
    parse_link,
    say_hello,
)
from parsec_fs.lockfile import LockedError
from parsec_fs.pending import Greeting, GreetingFiles, JoiningFile
from parsec_fs.person_joining import new_joining
from parsec_fs.protocol.errors import DecryptionError, DeviceFileError, InputError
from parsec_fs.protocol.sealing import BoxKey
from tests.support.greetings import person_invitation, sealed_greeting, until_request
from tests.support.identities import CountingRandom, founded

LINK = Link(secret=bytes(range(16)), invitation=b"i" * 32, server_url="https://files.acme.example")


def both_sides(
    draw: CountingRandom, link: Link = LINK
) -> tuple[Hello, Answer, Reveal, Codes, Codes]:
    """An undisturbed greeting: messages, and the codes of both sides."""
    key, shared, nonce = BoxKey(draw(96)), draw(32), draw(32)
    hello = say_hello(key, nonce)
    answered = answer(hello, link=link, shared=shared, nonce=draw(32))
    reveal = Reveal(nonce=nonce)
    there = codes(hello, answered, reveal, link=link, shared=open_answer(answered, key, link))
    return hello, answered, reveal, codes(hello, answered, reveal, link=link, shared=shared), there


def test_both_sides_get_the_same_codes() -> None:
    *_, inviter, joiner = both_sides(CountingRandom())
    assert (inviter.joiner, inviter.inviter) == (joiner.joiner, joiner.inviter)
    assert inviter.session == joiner.session
    assert len(inviter.joiner) == len(inviter.inviter) == SYMBOLS
    assert inviter.joiner != inviter.inviter
    assert inviter.joiner not in repr(inviter)


def test_any_change_on_the_way_changes_the_codes() -> None:
    draw = CountingRandom()
    hello, answered, reveal, honest, _ = both_sides(draw)
    shared = draw(32)
    other_hello = say_hello(BoxKey(draw(96)), reveal.nonce)
    for changed in (
        codes(hello, answered, reveal, link=LINK, shared=shared),
        codes(other_hello, answered, reveal, link=LINK, shared=shared),
        codes(hello, replace(answered, nonce=draw(32)), reveal, link=LINK, shared=shared),
        codes(hello, answered, reveal, link=replace(LINK, invitation=b"j" * 32), shared=shared),
    ):
        assert changed.joiner != honest.joiner
        assert changed.inviter != honest.inviter


def test_another_nonce_than_promised_is_refused() -> None:
    hello, answered, _, _, _ = both_sides(CountingRandom())
    with pytest.raises(DecryptionError, match="changed its nonce"):
        codes(hello, answered, Reveal(nonce=bytes(32)), link=LINK, shared=bytes(32))


def test_answer_opens_for_its_greeting_alone() -> None:
    draw = CountingRandom()
    key = BoxKey(draw(96))
    answered = answer(say_hello(key, draw(32)), link=LINK, shared=draw(32), nonce=draw(32))
    with pytest.raises(DecryptionError):
        open_answer(answered, key, replace(LINK, invitation=b"j" * 32))
    with pytest.raises(DecryptionError):
        open_answer(answered, BoxKey(draw(96)), LINK)


def test_the_right_code_is_at_every_place_about_as_often() -> None:
    draw, places = CountingRandom(), Counter[int]()
    for _ in range(600):
        shown = choices("TP9W", draw)
        assert len(set(shown)) == CHOICES
        places[shown.index("TP9W")] += 1
    assert all(150 < places[place] < 250 for place in range(CHOICES))


def test_link_survives_line_breaks_and_has_its_secret_in_the_fragment() -> None:
    text = format_link(LINK)
    assert parse_link(f" {text[:40]}\n{text[40:]}\n") == LINK
    before, _, fragment = text.partition("#")
    assert before == "https://files.acme.example/join"
    assert len(fragment) < 80
    assert fragment not in repr(LINK)


@pytest.mark.parametrize(
    "text", ["", "hello", "https://x/join", "https://x/join#", "ftp://x/join#a"]
)
def test_other_text_is_no_link(text: str) -> None:
    with pytest.raises(InputError):
        parse_link(text)


def test_link_of_the_other_kind_names_its_command() -> None:
    device = replace(LINK, kind=DEVICE)
    assert parse_link(format_link(device), kind=DEVICE) == device
    with pytest.raises(InputError, match=r"another device .*Type: parsec-fs device join"):
        parse_link(format_link(device))
    with pytest.raises(InputError, match=r"a person; .*Type: parsec-fs user join"):
        parse_link(format_link(LINK), kind=DEVICE)


@pytest.mark.parametrize("place", [1, 20, -1])
def test_mistyped_link_is_noticed(place: int) -> None:
    before, _, fragment = format_link(LINK).partition("#")
    at = place % len(fragment)
    wrong = fragment[:at] + ("A" if fragment[at] != "A" else "B") + fragment[at + 1 :]
    with pytest.raises(InputError, match="mistyped"):
        parse_link(f"{before}#{wrong}")


def test_invitations_are_kept_sealed_until_they_expire(tmp_path: Path) -> None:
    identity = founded()[1]
    files = GreetingFiles(tmp_path, bytes(32))
    early = sealed_greeting(person_invitation(identity, "bob", expires_ms=1_000))
    late = sealed_greeting(person_invitation(identity, "carol", expires_ms=2_000))
    for one in (early, late):
        files.save(one)
    stored = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"bob" not in stored
    assert early.secret not in stored
    assert sorted(one.terms().name for one in files.all(999)) == [b"bob", b"carol"]
    assert [one.terms().name for one in files.all(1_000)] == [b"carol"]
    assert len(list(tmp_path.iterdir())) == 1
    with pytest.raises(DeviceFileError, match="damaged"):
        GreetingFiles(tmp_path, bytes(31) + b"1").all(0)
    files.remove(late)
    assert files.all(0) == []


def test_what_is_in_use_does_not_expire_and_is_not_shared(tmp_path: Path) -> None:
    """A process that greets holds its nonce in memory: another one must not begin anew with it."""
    files = GreetingFiles(tmp_path, bytes(32))
    old = sealed_greeting(person_invitation(founded()[1], "bob", expires_ms=1_000))
    files.save(old)
    with files.using(old) as now:
        assert now == old
        assert files.all(2_000) == []
        with pytest.raises(LockedError), files.using(old):
            raise AssertionError("used twice")
        later = replace(now, mails=(*now.mails, b"mail"))
        files.save(later)
    with files.using(old) as now:
        assert now == later
    assert files.all(2_000) == []
    assert list(tmp_path.iterdir()) == []


def test_who_has_sent_keys_is_not_forgotten(tmp_path: Path) -> None:
    files = GreetingFiles(tmp_path, bytes(32))
    fresh = sealed_greeting(person_invitation(founded()[1], "bob", expires_ms=1_000))
    known, _ = until_request(fresh, new_joining(fresh.link(), "tablet"))
    files.save(known)
    assert files.all(2_000) == [known]
    over = replace(known, mails=(*known.mails, b"admission"))
    files.save(over)
    assert files.all(2_000) == [over]
    assert files.all(2_000 + 31 * 24 * 3_600_000) == []
    files.save(replace(known, mails=known.mails[:REQUEST]))
    assert files.all(2_000) == []


def test_exchanged_invitation_is_refused(tmp_path: Path) -> None:
    identity = founded()[1]
    honest = sealed_greeting(person_invitation(identity, "bob"))
    other = sealed_greeting(person_invitation(identity, "eve"), secret=honest.secret)
    with pytest.raises(DecryptionError, match="not the one that the link names"):
        replace(honest, mails=other.mails).terms()
    assert isinstance(honest, Greeting)


def test_joining_goes_on_with_the_same_keys(tmp_path: Path) -> None:
    file = JoiningFile(tmp_path / "device")
    assert file.load() is None
    joining = new_joining(LINK, "tablet")
    file.save(joining)
    assert file.load() == joining
    (path,) = (tmp_path / "device").iterdir()
    assert path.stat().st_mode & 0o077 == 0
    path.write_bytes(os.urandom(64))
    with pytest.raises(DeviceFileError, match="damaged"):
        file.load()
    file.remove()
    assert file.load() is None

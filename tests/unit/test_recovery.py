"""Kits on paper: the keys that a secret gives, words and shares, and what they refuse.

Data flow: secret -> keys, vectors; kit -> words -> kit; damage -> the error that says which.
"""

import hashlib
import hmac
from dataclasses import replace

import pytest

from parsec_fs.enrolment import device_content
from parsec_fs.identity import Identity
from parsec_fs.protocol.codec import encode
from parsec_fs.protocol.errors import DataError, InputError, TrustchainError
from parsec_fs.protocol.hashing import EMPTY_MAP, EMPTY_TREE
from parsec_fs.protocol.ids import LogId
from parsec_fs.protocol.records import LogState
from parsec_fs.recovery import (
    Kit,
    RecoveryRecord,
    is_paper,
    kit_of,
    make_kit,
    open_record,
    paper_id,
    paper_keys,
    paper_secrets,
    record_digest,
)
from parsec_fs.recovery_words import (
    SHARE_WORDS,
    is_complete,
    kit_shares,
    kit_words,
    read_kit,
    split_words,
)
from tests.support.identities import founded

SECRET = bytes(range(16))
KIT = Kit(secret=SECRET, digest=bytes(range(16, 32)))
KIT_WORDS = (
    "abandon amount liar amount expire adjust cage candy arch gather drum bullet "
    "absurd math era live bid rhythm alien crouch range attend journey unaware"
)
"""BIP-39's own vector for the bytes 0 to 31."""
KIT_SHARES = (
    "garden pregnant academic acid animal grocery album amount grill glance diagnose metric "
    "demand practice emphasis flash pumps mobile greatest muscle skin briefing observe evil "
    "nuclear mouse device starting rich spit aspect legend spray",
    "garden pregnant academic always airline leaf acne equip extra kitchen priest valid home "
    "voter adequate plot tackle human lamp dramatic repeat adorn mother bishop category "
    "escape document isolate building oasis upgrade provide hunting",
)
"""The first and the third of three shares of the same kit, of which two are needed. Frozen."""


def record_of(identity: Identity) -> RecoveryRecord:
    log = LogId(identity.anchor.org)
    state = LogState(log=log, size=3, log_root=EMPTY_TREE, map_root=EMPTY_MAP, org_size=3)
    return RecoveryRecord(anchor=identity.anchor, user=identity.secrets.user, org_state=state)


def reference_keys(secret: bytes) -> bytes:
    """RFC 5869 by hand: 160 bytes."""
    info = b"parsec-fs/1/paper-device-keys\x00"
    key = hmac.new(bytes(32), secret, hashlib.sha256).digest()
    okm = block = b""
    for number in range(1, 6):
        block = hmac.new(key, block + info + bytes((number,)), hashlib.sha256).digest()
        okm += block
    return okm


def test_keys_are_those_of_rfc_5869() -> None:
    keys = paper_keys(SECRET)
    assert keys.sign_seed + keys.box_seed + keys.local_key == reference_keys(SECRET)


def test_keys_and_id_never_change() -> None:
    """Frozen: papers out there stand for these."""
    request = paper_keys(SECRET).request(b"")
    frozen = (request.device.hex(), request.sign_key.hex(), paper_keys(SECRET).local_key.hex())
    assert frozen == (
        "1502fdf21b04db058d9fc05d5e27dc2e",
        "208dfdeb493cc9aea10a78a9349d16116fd5d50bb9d31e5c3cd2100486b3ed15",
        "99002efdd768081757a3792097935e41f7a7e689ba1f02d0bdb958649023b57f",
    )
    assert (
        hashlib.sha256(request.box_key).hexdigest()
        == "440a586d63546afdbf518caff76d3fb75d0d544f165b4db57a49f23681da6214"
    )


def test_record_digest_never_changes() -> None:
    _, identity = founded()
    assert record_digest(record_of(identity), SECRET).hex() == "40e5361ba43f649d5934c0624a495690"


def test_paper_devices_are_known_by_their_id() -> None:
    _, identity = founded()
    own = identity.secrets
    paper = device_content(paper_secrets(SECRET, org=own.org, user=own.user), b"kit")
    assert is_paper(paper)
    assert not is_paper(device_content(own, b"laptop"))
    assert not is_paper(replace(paper, sign_key=bytes(32)))
    assert paper.device == paper_id(paper.sign_key, paper.box_key)


def test_record_is_pinned_in_every_part() -> None:
    _, identity = founded()
    record = record_of(identity)
    kit = make_kit(SECRET, record)
    assert open_record(encode(record), kit) == record
    anchor = record.anchor
    for other in (
        replace(record, anchor=replace(anchor, root_key=bytes(32))),
        replace(record, anchor=replace(anchor, rpc_urls=(b"http://evil",))),
        replace(record, anchor=replace(anchor, chain=replace(anchor.chain, chain_id=b"evil"))),
        replace(record, org_state=replace(record.org_state, size=2)),
        replace(record, user=type(record.user)(bytes(16))),
    ):
        with pytest.raises(TrustchainError, match="another organization"):
            open_record(encode(other), kit)
    with pytest.raises(TrustchainError):
        open_record(encode(record), Kit(secret=bytes(16), digest=kit.digest))
    with pytest.raises(DataError):
        open_record(b"rubbish", kit)


def test_words_are_those_of_bip_39() -> None:
    words = kit_words(KIT)
    assert " ".join(words) == KIT_WORDS
    assert read_kit(words) == KIT
    assert is_complete(words)
    assert not is_complete(words[:23])


def test_words_are_read_as_people_type_them() -> None:
    typed = "\n".join(f" {place:2}. {word.upper()}" for place, word in enumerate(kit_words(KIT), 1))
    assert read_kit(split_words(typed)) == KIT


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda words: words[:-1], "23 words"),
        (lambda words: [], "0 words"),
        (lambda words: ["liar", *words[1:]], "checksum"),
        (lambda words: [words[1], words[0], *words[2:]], "checksum"),
        (lambda words: [*words[:4], "zzz", *words[5:]], "word 5 is not in the list"),
    ],
)
def test_misread_words_say_what_is_wrong(change: object, reason: str) -> None:
    words = change(list(kit_words(KIT)))  # type: ignore[operator]
    with pytest.raises(InputError, match=reason) as caught:
        read_kit(words)
    shown = str(caught.value).split()
    assert caught.value.__cause__ is None
    assert not {"liar", "zzz", "abandon", "unaware"} & set(shown)


def test_any_two_of_three_shares_suffice() -> None:
    one, two, three = kit_shares(KIT, 2, 3)
    assert {len(share) for share in (one, two, three)} == {SHARE_WORDS}
    for pair in ((one, two), (three, one), (two, three)):
        assert read_kit(pair[0] + pair[1]) == KIT
        assert is_complete(pair[0] + pair[1])
    assert read_kit(one + two + three) == KIT
    assert not is_complete(one)


def test_too_few_or_wrong_shares_say_so() -> None:
    one, two, _ = kit_shares(KIT, 2, 3)
    other = kit_shares(KIT, 2, 3)[0]
    damaged = (*two[:-1], "academic" if two[-1] != "academic" else "acid")
    for words, reason in (
        (one, "1 different shares, this kit takes 2"),
        (one + one, "1 different shares, this kit takes 2"),
        (one + other, "different kits"),
        (one + damaged, "share 2 is misread"),
        (one[:-1], "32 words"),
    ):
        with pytest.raises(InputError, match=reason):
            read_kit(words)


def test_shares_on_paper_stay_readable() -> None:
    assert read_kit(split_words("\n".join(KIT_SHARES))) == KIT


@pytest.mark.parametrize(("needed", "count"), [(1, 3), (3, 2), (2, 17), (0, 0)])
def test_shares_in_reasonable_numbers_only(needed: int, count: int) -> None:
    with pytest.raises(InputError, match="--shares 2/3"):
        kit_shares(KIT, needed, count)


def test_nothing_shows_a_secret() -> None:
    shown = f"{KIT} {paper_keys(SECRET)!r} {kit_of(KIT.encode())!r}"
    assert SECRET.hex() not in shown
    assert "\\x01\\x02" not in shown

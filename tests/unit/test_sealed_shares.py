"""A share for a colleague: opened by them alone, from the owner's device, of a kit in the log.

Data flow: honest org log -> `seal_share` -> file -> `check_share_file`, `open_share`.
"""

from dataclasses import replace
from typing import Any

import pytest

from parsec_fs.protocol.certificates import DeviceRevoked
from parsec_fs.protocol.codec import decode, encode
from parsec_fs.protocol.errors import (
    DataError,
    DecryptionError,
    InputError,
    SignatureError,
    TrustchainError,
    VerificationError,
)
from parsec_fs.protocol.hashing import map_key
from parsec_fs.protocol.ids import NO_HASH, DeviceId, OrgId, UserId
from parsec_fs.protocol.membership import org_of
from parsec_fs.sealed_shares import (
    SealedShare,
    ShareFile,
    check_in_force,
    check_share_file,
    open_share,
)
from tests.support.colleagues import give_kit, member, secrets_of, share_for
from tests.support.honest_logs import HonestOrg, Person


@pytest.fixture
def people() -> tuple[HonestOrg, Person, Person]:
    """Alice has a kit; Bob is a colleague."""
    org = HonestOrg()
    give_kit(org, org.alice)
    return org, org.alice, member(org)


def checked(org: HonestOrg, file: bytes) -> SealedShare:
    return check_share_file(file, org.state, expected_org=org_of(org.state))


def end(org: HonestOrg, device: DeviceId) -> None:
    value = org.state.map.get(map_key(b"device", device)) or NO_HASH
    content = DeviceRevoked(device=device)
    org.append(content, org.alice.device, org.alice.key, replaces=value)


def test_the_colleague_opens_it_and_nobody_else(people: tuple[HonestOrg, Person, Person]) -> None:
    org, alice, bob = people
    words, file = share_for(org, bob, alice)
    share = check_in_force(checked(org, file), org.state)
    assert open_share(share, org.state, secrets_of(org, bob)) == words
    assert not any(word.encode() in file for word in words if len(word) > 5)
    with pytest.raises(InputError, match="nobody else can open it"):
        open_share(share, org.state, secrets_of(org, alice))
    thief = replace(secrets_of(org, alice), user=bob.user)
    with pytest.raises(DecryptionError):
        open_share(share, org.state, thief)


@pytest.mark.parametrize(
    "changed",
    [
        {"org": OrgId(bytes(32))},
        {"owner": UserId(bytes(16))},
        {"kit": DeviceId(bytes(16))},
        {"recipient": UserId(bytes(16))},
        {"generation": 2},
        {"place": 2},
        {"needed": 3},
        {"count": 4},
        {"server_url": b"https://else.example"},
    ],
)
def test_what_stands_beside_the_box_is_bound_to_it(
    people: tuple[HonestOrg, Person, Person], changed: dict[str, Any]
) -> None:
    org, alice, bob = people
    words, file = share_for(org, bob, alice)
    inner = decode(SealedShare, decode(ShareFile, file).share)
    # Bob's key under every name that the context could say: only the box can still refuse.
    seed = secrets_of(org, bob).user_keys[0]
    bobs = replace(secrets_of(org, bob), user_keys=(seed, replace(seed, generation=2)))
    assert open_share(inner, org.state, bobs) == words
    other = replace(inner, **changed)
    with pytest.raises(DecryptionError):
        open_share(other, org.state, replace(bobs, user=other.recipient))
    forged = encode(replace(decode(ShareFile, file), share=encode(other)))
    with pytest.raises(SignatureError):
        check_share_file(forged, org.state, expected_org=other.org)


def test_it_must_be_of_this_organization_and_of_a_kit_of_its_sender(
    people: tuple[HonestOrg, Person, Person],
) -> None:
    org, alice, bob = people
    _, file = share_for(org, bob, alice)
    with pytest.raises(TrustchainError, match="another organization"):
        check_share_file(file, org.state, expected_org=OrgId(bytes(32)))
    carol = member(org)
    _, of_carol = share_for(org, bob, carol)
    with pytest.raises(VerificationError, match="no recovery kit"):
        checked(org, of_carol)
    for bad in (b"", b"words", file[:-1], file + b"\0"):
        with pytest.raises(DataError):
            checked(org, bad)


def test_a_revoked_kit_or_sender_is_not_taken_but_what_is_kept_still_opens(
    people: tuple[HonestOrg, Person, Person],
) -> None:
    """The sender's device may be the very one that was lost: that day the share is needed."""
    org, alice, bob = people
    laptop = replace(org.new_person(), user=alice.user)
    org.append(org.device_of(laptop), alice.device, alice.key)
    words, file = share_for(org, bob, laptop)
    share = check_in_force(checked(org, file), org.state)
    end(org, laptop.device)
    with pytest.raises(InputError, match="whoever stole it"):
        check_in_force(checked(org, file), org.state)
    assert open_share(share, org.state, secrets_of(org, bob)) == words
    end(org, share.kit)
    with pytest.raises(InputError, match="worth nothing any more"):
        check_in_force(checked(org, file), org.state)

"""Shares that a device keeps: none is replaced, none is lost by another, none is shown in vain.

Data flow: honest org log -> files -> `keep_share`, `read_kept` -> what `share list` and `show` say.
"""

from dataclasses import replace
from pathlib import Path

import pytest

from parsec_fs.cli import shares as commands
from parsec_fs.cli.exit_codes import CommandError, ExitCode
from parsec_fs.cli.kept_shares import Kept, keep_share, read_kept
from parsec_fs.protocol.certificates import DeviceRevoked
from parsec_fs.protocol.errors import InputError
from parsec_fs.protocol.hashing import map_key
from parsec_fs.protocol.ids import NO_HASH, DeviceId
from parsec_fs.protocol.membership import org_of
from parsec_fs.recovery import Kit
from parsec_fs.sealed_shares import Standing, check_kit_in_force, check_share_file, standing
from tests.support.colleagues import give_kit, member, share_for
from tests.support.honest_logs import HonestOrg, Person

NEWER = Kit(secret=bytes(range(32, 48)), digest=bytes(range(16)))


@pytest.fixture
def people() -> tuple[HonestOrg, Person, Person]:
    """Alice has a kit; Bob is a colleague."""
    org = HonestOrg()
    give_kit(org, org.alice)
    return org, org.alice, member(org)


def keep(folder: Path, org: HonestOrg, data: bytes) -> Path:
    share = check_share_file(data, org.state, expected_org=org_of(org.state))
    return keep_share(folder, data, share, org.state)


def kept(folder: Path, org: HonestOrg) -> Kept:
    return read_kept(folder, org.state, expected_org=org_of(org.state))


def end(org: HonestOrg, device: DeviceId) -> None:
    value = org.state.map.get(map_key(b"device", device)) or NO_HASH
    content = DeviceRevoked(device=device)
    org.append(content, org.alice.device, org.alice.key, replaces=value)


@pytest.mark.parametrize("place", [1, 2])
def test_a_second_file_of_a_kit_does_not_take_the_place_of_the_first(
    people: tuple[HonestOrg, Person, Person], tmp_path: Path, place: int
) -> None:
    """Also with another place: `show` could not know which of the two is the good one."""
    org, alice, bob = people
    _, good = share_for(org, bob, alice)
    path = keep(tmp_path / "shares", org, good)
    assert keep(tmp_path / "shares", org, good) == path
    _, of_thief = share_for(org, bob, alice, place=place)
    with pytest.raises(CommandError, match="which one is right") as caught:
        keep(tmp_path / "shares", org, of_thief)
    assert caught.value.code is ExitCode.BUSY
    assert [one.data for one in kept(tmp_path / "shares", org).files] == [good]


def test_a_damaged_file_takes_no_other_away_and_can_be_kept_again(
    people: tuple[HonestOrg, Person, Person], tmp_path: Path
) -> None:
    org, alice, bob = people
    give_kit(org, alice, NEWER)
    _, good = share_for(org, bob, alice)
    _, other = share_for(org, bob, alice, kit=NEWER)
    keep(tmp_path, org, good)
    broken = keep(tmp_path, org, other)
    broken.write_bytes(other[:100])
    (tmp_path / "folder.share").mkdir()
    found = kept(tmp_path, org)
    assert [one.data for one in found.files] == [good]
    assert set(found.damaged) == {broken, tmp_path / "folder.share"}
    states = [commands._row(one)[-1] for one in commands._listed(found, org.state)]
    assert states[0] == "-"
    assert f"damaged: {broken}" in states
    assert commands._chosen(found, org.state, "") == found.files[0].share
    assert keep(tmp_path, org, other) == broken
    assert len(kept(tmp_path, org).files) == 2


def test_the_share_of_a_revoked_kit_or_person_is_not_shown(
    people: tuple[HonestOrg, Person, Person], tmp_path: Path
) -> None:
    org, alice, bob = people
    laptop = replace(org.new_person(), user=alice.user)
    org.append(org.device_of(laptop), alice.device, alice.key)
    _, file = share_for(org, bob, laptop)
    keep(tmp_path, org, file)
    (share,) = (one.share for one in kept(tmp_path, org).files)
    end(org, laptop.device)
    assert standing(share, org.state) is Standing.SENDER_REVOKED
    assert check_kit_in_force(share, org.state) == share
    assert "may be from the thief" in commands._may_be_a_thiefs(
        commands._document(share, org.state)
    )
    newer = give_kit(org, alice, NEWER)
    keep(tmp_path, org, share_for(org, bob, alice, kit=NEWER)[1])
    assert commands._chosen(kept(tmp_path, org), org.state, "").kit == newer
    end(org, share.kit)
    end(org, newer)
    with pytest.raises(InputError, match="worth nothing any more"):
        check_kit_in_force(commands._chosen(kept(tmp_path, org), org.state, ""), org.state)


def test_what_is_no_share_names_the_file(
    people: tuple[HonestOrg, Person, Person], tmp_path: Path
) -> None:
    org, _, _ = people
    with pytest.raises(CommandError, match=r"words\.txt is no share, or is damaged; nothing"):
        commands._checked(
            tmp_path / "words.txt", b"abandon", org.state, expected_org=org_of(org.state)
        )

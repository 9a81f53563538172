"""Who and which device is meant by what somebody typed.

Data flow: an org log with namesakes, hostile and revoked ones -> `find_user`, `find_device`.
"""

from dataclasses import replace

import pytest

from parsec_fs.admission import check_address_is_free
from parsec_fs.cli.exit_codes import CommandError
from parsec_fs.cli.questions import confirm_once
from parsec_fs.people import find_device, find_user, has_revoked_namesake
from parsec_fs.protocol.certificates import STANDARD, DeviceRevoked, UserRevoked
from parsec_fs.protocol.errors import InputError
from parsec_fs.protocol.hashing import map_key
from parsec_fs.protocol.ids import NO_HASH
from tests.support.honest_logs import HonestOrg, Person


def add_device(org: HonestOrg, person: Person, label: bytes) -> Person:
    """Another device of this person, called so."""
    device = replace(org.new_person(), user=person.user)
    org.append(replace(org.device_of(device), label=label), person.device, person.key)
    return device


def end_device(org: HonestOrg, device: Person) -> None:
    value = org.state.map.get(map_key(b"device", device.device)) or NO_HASH
    content = DeviceRevoked(device=device.device)
    org.append(content, org.alice.device, org.alice.key, replaces=value)


def add_user(org: HonestOrg, name: bytes, email: bytes) -> Person:
    person = org.new_person()
    content = replace(org.user_of(person, profile=STANDARD), name=name, email=email)
    org.append(content, org.alice.device, org.alice.key)
    return person


def end_user(org: HonestOrg, person: Person) -> None:
    content, value = UserRevoked(user=person.user), org.user_value(person)
    org.append(content, org.alice.device, org.alice.key, replaces=value)


def test_a_whole_id_wins_over_a_device_that_is_called_so() -> None:
    org = HonestOrg()
    thief = add_device(org, org.alice, b"stolen")
    decoy = add_device(org, org.alice, thief.device.hex().encode())
    assert find_device(org.state, thief.device.hex()).device.device == thief.device
    assert find_device(org.state, decoy.device.hex()[:8]).device.device == decoy.device
    begins = add_device(org, org.alice, thief.device.hex()[:8].encode())
    assert find_device(org.state, thief.device.hex()[:8]).device.device == begins.device
    assert find_device(org.state, thief.device.hex()[:9]).device.device == thief.device


def test_a_revoked_device_is_found_where_no_other_is_meant() -> None:
    org = HonestOrg()
    gone, here = (add_device(org, org.alice, b"tablet") for _ in range(2))
    with pytest.raises(InputError, match="several devices"):
        find_device(org.state, "tablet")
    end_device(org, gone)
    assert find_device(org.state, "tablet").device.device == here.device
    assert find_device(org.state, gone.device.hex()[:8]).revoked is not None
    end_device(org, here)
    with pytest.raises(InputError, match="several devices"):
        find_device(org.state, "tablet")
    with pytest.raises(InputError, match="no device"):
        find_device(org.state, gone.device.hex()[:7])


def test_a_command_typed_again_ends_no_namesake() -> None:
    org = HonestOrg()
    gone, _ = (add_device(org, org.alice, b"tablet") for _ in range(2))
    assert not has_revoked_namesake(org.state, "tablet")
    end_device(org, gone)
    bob = add_user(org, b"bob", b"bob@acme.example")
    end_user(org, bob)
    add_user(org, b"robert", b"bob@acme.example")
    for typed in ("tablet", "bob@acme.example", "bob"):
        assert has_revoked_namesake(org.state, typed)
        with pytest.raises(CommandError, match="revoked already"):
            confirm_once("Revoke?", yes=True, again=True)
    assert not has_revoked_namesake(org.state, "robert")
    confirm_once("Revoke?", yes=True, again=False)


def test_the_address_of_a_revoked_person_is_free_again() -> None:
    org, address = HonestOrg(), b"bob@acme.example"
    gone = add_user(org, b"bob", address)
    with pytest.raises(InputError, match="is in this organization already"):
        check_address_is_free(org.state, address)
    end_user(org, gone)
    check_address_is_free(org.state, address)
    assert find_user(org.state, "bob").user == gone.user
    here = add_user(org, b"bob", address)
    for typed in ("bob", "bob@acme.example", here.user.hex()[:8]):
        assert find_user(org.state, typed).user == here.user
    assert find_user(org.state, gone.user.hex()).user == gone.user
    with pytest.raises(InputError, match="is in this organization already"):
        check_address_is_free(org.state, address)

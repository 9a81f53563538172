"""Names for people: profiles, roles, and who is meant by what somebody typed.

Data flow: org state, text -> this -> commands; numbers of the protocol -> words.
"""

from collections.abc import Mapping
from typing import Any, Final

from parsec_fs.plain_text import plain_name
from parsec_fs.protocol.certificates import (
    ADMIN,
    CONTRIBUTOR,
    MANAGER,
    NO_ROLE,
    OUTSIDER,
    OWNER,
    READER,
    STANDARD,
    User,
)
from parsec_fs.protocol.enrolled import DeviceEntry
from parsec_fs.protocol.errors import InputError
from parsec_fs.protocol.membership import OrgState
from parsec_fs.protocol.realm_state import RealmState

PROFILES: Final[Mapping[str, int]] = {"admin": ADMIN, "standard": STANDARD, "outsider": OUTSIDER}
ROLES: Final[Mapping[str, int]] = {
    "owner": OWNER,
    "manager": MANAGER,
    "contributor": CONTRIBUTOR,
    "reader": READER,
}


def profile_name(profile: int) -> str:
    """admin, standard or outsider."""
    return next(name for name, number in PROFILES.items() if number == profile)


def role_name(role: int) -> str:
    """owner, manager, contributor, reader, or none."""
    return {number: name for name, number in ROLES.items()}.get(role, "none")


def find_user(org: OrgState, text: str) -> User:
    """By e-mail address, else by name if one has it, else by the beginning of the id. Raises
    InputError."""
    typed = text.strip()
    for found in (
        [one for one in org.users.values() if plain_name(one.email) == typed],
        [one for one in org.users.values() if plain_name(one.name) == typed],
        [one for one in org.users.values() if len(text) >= 8 and one.user.hex().startswith(text)],
    ):
        if len(found) == 1:
            return found[0]
        if found:
            raise InputError(f"several people are called {text}: give the e-mail address")
    raise InputError(f"nobody is called {text}; see: parsec-fs user list")


def find_device(org: OrgState, text: str) -> DeviceEntry:
    """A device that is not revoked, by its name if one has it, else by the beginning of its id.
    Raises InputError."""
    typed = text.strip()
    known = [one for one in org.devices.values() if one.revoked is None]
    for found in (
        [one for one in known if plain_name(one.device.label) == typed],
        [one for one in known if len(typed) >= 8 and one.device.device.hex().startswith(typed)],
    ):
        if len(found) == 1:
            return found[0]
        if found:
            raise InputError(
                f"several devices are called {text}: give the id; see: parsec-fs device list"
            )
    raise InputError(f"no device is called {text}; see: parsec-fs device list")


def members_of(org: OrgState, realm: RealmState) -> list[dict[str, Any]]:
    """Who has a role in a realm, the most powerful first, as commands show it."""
    held = [(role, org.users[id]) for id, role in realm.roles.items() if role != NO_ROLE]
    return [
        {
            "name": plain_name(user.name),
            "email": plain_name(user.email),
            "role": role_name(role),
            "devices": len(org.devices_of(user.user)),
            "revoked": not org.is_member(user.user),
            "id": user.user.hex(),
        }
        for role, user in sorted(held, key=lambda one: (-one[0], one[1].name))
    ]

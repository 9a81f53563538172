"""Names for people: profiles, roles, and who is meant by what somebody typed.

Data flow: org state, text -> this -> commands; numbers of the protocol -> words.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Any, Final, TypeVar

from parsec_fs.plain_text import plain_name
from parsec_fs.protocol.certificates import (
    ADMIN,
    AUDITOR,
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

T = TypeVar("T")

PROFILES: Final[Mapping[str, int]] = {"admin": ADMIN, "standard": STANDARD, "outsider": OUTSIDER}
ROLES: Final[Mapping[str, int]] = {
    "owner": OWNER,
    "manager": MANAGER,
    "contributor": CONTRIBUTOR,
    "reader": READER,
    "auditor": AUDITOR,
}


def profile_name(profile: int) -> str:
    """admin, standard or outsider."""
    return next(name for name, number in PROFILES.items() if number == profile)


def role_name(role: int) -> str:
    """owner, manager, contributor, reader, auditor, or none."""
    return {number: name for name, number in ROLES.items()}.get(role, "none")


def name_and_address(user: User) -> str:
    """Who is meant, where a name alone may be somebody else's too."""
    return f"{plain_name(user.name)} <{plain_name(user.email)}>"


def find_user(org: OrgState, text: str) -> User:
    """By the whole id, else by e-mail address, by name, by how the id begins; somebody who was
    revoked only if nobody else is meant, for their address may be another's now. Raises
    InputError."""
    found = _meant(
        org.users.values(),
        text.strip(),
        id=lambda one: one.user,
        names=(lambda one: one.email, lambda one: one.name),
        ended=lambda one: not org.is_member(one.user),
    )
    if len(found) == 1:
        return found[0]
    if found:
        raise InputError(
            f"several people are called {text}: give the e-mail address, or how the id begins; "
            "see: parsec-fs user list --verbose"
        )
    raise InputError(f"nobody is called {text}; see: parsec-fs user list")


def find_device(org: OrgState, text: str) -> DeviceEntry:
    """By the whole id, else by name, by how the id begins; a device that was revoked only if no
    other is meant. Raises InputError."""
    found = _meant(
        org.devices.values(),
        text.strip(),
        id=lambda one: one.device.device,
        names=(lambda one: one.device.label,),
        ended=lambda one: one.revoked is not None,
    )
    if len(found) == 1:
        return found[0]
    if found:
        raise InputError(
            f"several devices are called {text}: give how the id begins; "
            "see: parsec-fs device list --verbose"
        )
    raise InputError(f"no device is called {text}; see: parsec-fs device list")


def has_revoked_namesake(org: OrgState, text: str) -> bool:
    """Was a device or person revoked that this text names too? Who types a command again because
    its answer was lost must not end another one by it."""
    typed = text.strip()
    names = [one.device.label for one in org.devices.values() if one.revoked is not None]
    for gone in org.revoked_users:
        names += [org.users[gone].email, org.users[gone].name]
    return any(plain_name(name) == typed for name in names)


def _meant(
    known: Collection[T],
    typed: str,
    *,
    id: Callable[[T], bytes],
    names: tuple[Callable[[T], bytes], ...],
    ended: Callable[[T], bool],
) -> list[T]:
    """What the first rule finds that finds any. Names are chosen by their owners, ids are not:
    whoever types a whole id means that one, whatever somebody else is called."""
    whole = [one for one in known if id(one).hex() == typed]
    if whole:
        return whole
    for gone in (False, True):
        rest = [one for one in known if ended(one) is gone]
        for name in names:
            if found := [one for one in rest if plain_name(name(one)) == typed]:
                return found
        if found := [one for one in rest if len(typed) >= 8 and id(one).hex().startswith(typed)]:
            return found
    return []


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

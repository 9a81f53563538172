"""Names for people: profiles, roles, and who is meant by what somebody typed.

Data flow: org state, text -> this -> commands; numbers of the protocol -> words.
"""

from collections.abc import Mapping
from typing import Final

from parsec_fs.plain_text import plain_name
from parsec_fs.protocol.certificates import (
    ADMIN,
    CONTRIBUTOR,
    MANAGER,
    OUTSIDER,
    OWNER,
    READER,
    STANDARD,
    User,
)
from parsec_fs.protocol.errors import InputError
from parsec_fs.protocol.membership import OrgState

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


def person_name(user: User) -> str:
    """Name and address, as people see them."""
    name, email = plain_name(user.name), plain_name(user.email)
    return name if name == email else f"{name} <{email}>"


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

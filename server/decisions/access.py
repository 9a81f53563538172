"""Who may ask what in a realm: one and the same refusal for outsiders (A54).

Data flow: caller, org state, realm state if there is one -> role | Outcome -> every other decision.

Order everywhere: organization, author, role, then the rest. An outsider learns nothing about a
realm, not even whether it exists.
"""

from parsec_fs.protocol.certificates import NO_ROLE
from parsec_fs.protocol.commands import Outcome
from parsec_fs.protocol.errors import TrustchainError
from parsec_fs.protocol.ids import DeviceId, UserId
from parsec_fs.protocol.log_state import RevokedError
from parsec_fs.protocol.membership import OrgState
from parsec_fs.protocol.realm_state import RealmState


def user_of(org: OrgState, device: DeviceId) -> UserId | Outcome:
    """User of an authenticated device."""
    try:
        return org.device(device).check_at(org.position.size).device.user
    except RevokedError:
        return Outcome.REVOKED
    except TrustchainError:
        return Outcome.NOT_AUTHENTICATED


def role_in(org: OrgState, realm: RealmState | None, device: DeviceId, least: int) -> int | Outcome:
    """The caller's role if it is at least `least`, else the refusal."""
    user = user_of(org, device)
    if isinstance(user, Outcome):
        return user
    role = NO_ROLE if realm is None else realm.role(user)
    if role == NO_ROLE or role < least:
        return Outcome.NOT_ALLOWED
    return role


def is_outsider(org: OrgState, realm: RealmState | None, device: DeviceId) -> bool:
    """True for everyone without any role, and for everyone if there is no such realm."""
    user = user_of(org, device)
    return isinstance(user, Outcome) or realm is None or realm.role(user) == NO_ROLE

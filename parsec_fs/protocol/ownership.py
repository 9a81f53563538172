"""Who owns a workspace when owners were revoked: it keeps one, and a vacant one can be taken over.

Data flow: roles of a realm, verified org log up to a size -> these rules -> `realm_state`, which
           server and replicas run, and the commands, which ask before they send.

Everything is judged by the prefix of the org log that was in force at the leaf (rule 8): nobody
becomes owner because somebody says that the owners are gone (attack A20, R-36).
"""

from collections.abc import Mapping

from parsec_fs.protocol.certificates import NO_ROLE, OUTSIDER, OWNER, READER
from parsec_fs.protocol.ids import UserId
from parsec_fs.protocol.membership import OrgState

Roles = Mapping[UserId, int]


def live_owners(roles: Roles, *, org: OrgState, org_size: int) -> tuple[UserId, ...]:
    """Owners who are members after the first `org_size` leaves of the org log."""
    return tuple(
        user for user, role in roles.items() if role == OWNER and org.is_member_at(user, org_size)
    )


def leaves_vacant(roles: Roles, user: UserId, role: int, *, org: OrgState, org_size: int) -> bool:
    """True iff this role for this user takes the last owner that is left. Only an owner who steps
    down can do that: whoever takes the role of another owner is one."""
    others = [one for one in live_owners(roles, org=org, org_size=org_size) if one != user]
    return roles.get(user, NO_ROLE) == OWNER and role != OWNER and not others


def may_take_over(roles: Roles, user: UserId, *, org: OrgState, org_size: int) -> bool:
    """True iff no owner is left, and no member but those who may not own anything has a higher role
    than this user. An auditor never: the next key would be sealed to them."""
    own = roles.get(user, NO_ROLE)
    vacant = not live_owners(roles, org=org, org_size=org_size)
    higher = (one for one, role in roles.items() if role > own and _may_own(org, one, org_size))
    return vacant and own >= READER and _may_own(org, user, org_size) and not any(higher)


def _may_own(org: OrgState, user: UserId, org_size: int) -> bool:
    return org.is_member_at(user, org_size) and org.profile_at(user, org_size) != OUTSIDER

"""Adding whoever was invited to the organization's log, once and under ids that nobody has.

Data flow: terms of the invitation, the joiner's request, org log -> certificates -> server.

Ids and keys are chosen by the other side, whose code was recognized and who may be hostile all the
same: what is here already stays what it is.
"""

from typing import Final

from parsec_fs.connection import Connection
from parsec_fs.greeting import PersonInvitation, PersonRequest, Verdict
from parsec_fs.joining import JoinRequest
from parsec_fs.plain_text import plain_name
from parsec_fs.protocol.certificates import Device, User
from parsec_fs.protocol.errors import InputError
from parsec_fs.protocol.ids import UserId
from parsec_fs.protocol.log_state import DeviceChain
from parsec_fs.protocol.membership import OrgState


class AdmissionChecks:
    """What stops a joiner who is not whom the inviter means; tests leave one out to show that."""

    def verdict(self, said: Verdict, now: bool) -> bool:
        """What was said first counts, though it did not arrive: a "no" never becomes a "yes"."""
        return bool(said.same)

    def newcomer(self, org: OrgState, user: User, request: PersonRequest) -> None:
        """Nobody is here under this id, device or address, but for what an interrupted greeting
        added: or an invited person could become the administrator. Raises InputError."""
        known = org.users.get(user.user)
        devices = [one.device for one in org.devices.values() if one.device.user == user.user]
        device = org.devices.get(request.device.device)
        same_user = known is None or known == user
        same_device = device is None or device.device == device_of(request)
        if not same_user or not same_device or any(one != device_of(request) for one in devices):
            raise InputError(
                "the other side asks to be somebody who is here already: nobody was added, and the "
                "link is worth nothing now"
            )
        check_address_is_free(org, user.email, but_for=user.user)

    def new_device(self, org: OrgState, user: UserId, request: JoinRequest, *, since: int) -> None:
        """No device of this id is here, but for what an interrupted greeting added: a leaf from
        `since` on. Otherwise somebody would believe that a new device joined. Raises InputError."""
        known = org.devices.get(request.device)
        if known is None:
            return
        same = (known.device.user, known.device.label, known.device.sign_key, known.device.box_key)
        wanted = (user, request.label, request.sign_key, request.box_key)
        if same != wanted or known.index < since or known.revoked is not None:
            raise InputError(
                "the other side asks to be a device that is here already: nothing was added, and "
                "the link is worth nothing now"
            )


ADMISSION_CHECKS: Final = AdmissionChecks()


def check_address_is_free(org: OrgState, address: bytes, *, but_for: UserId | None = None) -> None:
    """Members are told apart by their addresses; that of a person who was revoked is free again,
    also for the same person under another id. Raises InputError."""
    taken = (one for one in org.users.values() if one.email == address and one.user != but_for)
    if any(org.is_member(one.user) for one in taken):
        raise InputError(f"{plain_name(address)} is in this organization already")


async def certify(
    connection: Connection,
    terms: PersonInvitation,
    request: PersonRequest,
    checks: AdmissionChecks = ADMISSION_CHECKS,
) -> int:
    """Append the user and the first device, what is missing of them; leaf index of the device.
    Raises InputError, RefusedError, OfflineError, VerificationError."""
    user = User(
        user=request.user,
        name=terms.name,
        email=terms.email,
        profile=terms.profile,
        generation=1,
        box_key=request.box_key,
    )
    org = await connection.org.pull()
    checks.newcomer(org, user, request)
    if org.users.get(request.user) != user:
        await _append(connection, user)
    org = await connection.org.pull()
    if request.device.device not in org.devices:
        await _append(connection, device_of(request))
    return (await connection.org.pull()).device(request.device.device).index


def device_of(request: PersonRequest) -> Device:
    """The certificate that a request asks for."""
    return Device(
        device=request.device.device,
        user=request.user,
        label=request.device.label,
        sign_key=request.device.sign_key,
        box_key=request.device.box_key,
        generation=1,
        user_key_box=b"",
    )


async def _append(connection: Connection, content: User | Device) -> None:
    org, author = connection.org, connection.author
    chain = org.state.chains.get(author.secrets.device, DeviceChain())
    header = author.header(org.state.context, chain, org.seen())
    await connection.server.append_certificate(org.log, author.sign(content, header=header))

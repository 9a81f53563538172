"""Whose version a conflict copy is: the name that it gets, and who is meant by such a name.

Data flow: verified org log, own device -> `label` -> names of conflict copies;
           a copy's name -> `judge` -> conflicts, and which side is "mine".

Pure. A copy is named after the person who changed it, and after the device only where that person
has several. Where two people have one name, their address stands for it. Names change, people get
devices and lose them, and a copy stays: so `judge` asks for whom a name may stand, at any time.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from parsec_fs.plain_text import plain_name
from parsec_fs.protocol.certificates import Device, User
from parsec_fs.protocol.ids import DeviceId
from parsec_fs.protocol.membership import OrgState
from parsec_fs.recovery import is_paper
from parsec_fs.workspace.conflicts import cut

_REFUSED: Final = '/\\:*?"<>|()'
"""In names of files, by other systems; and what a copy's name puts around the label: whoever is
called `x 2026-01-01 10.10) (conflict, alice` would have their copies read as those of Alice."""
_MAX_SIZE: Final = 60
_PART_MAX_SIZE: Final = 28
_ON: Final = " on "


class Whose(StrEnum):
    """A copy as this device sees it. UNSURE: of this device, or of another one called alike;
    UNKNOWN: nobody here is, or was, called so."""

    MINE = "mine"
    THEIRS = "theirs"
    UNSURE = "unsure"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """Whose a copy is, and the devices that it may be of."""

    whose: Whose
    devices: tuple[Device, ...] = ()


def name_in_copy(data: bytes, *, most: int = _MAX_SIZE) -> str:
    """A name as names of files say it: one line, at most so many bytes, without what other systems
    refuse, and without parentheses; empty if nothing is left."""
    kept = "".join(one for one in plain_name(data) if one not in _REFUSED)
    return cut(" ".join(kept.split()).encode(), most).decode().rstrip()


def label(org: OrgState, own: DeviceId) -> str:
    """What a copy made by this device now is named after: `bob`, or `bob on laptop` where Bob has
    several devices; at most 60 bytes."""
    device = org.device(own).device
    several = sum(not is_paper(one) for one in org.devices_of(device.user)) > 1
    spoken = _spoken(org, org.users[device.user], _PART_MAX_SIZE if several else _MAX_SIZE)
    return _with_device(spoken, device) if several else name_in_copy(spoken)


def judge(org: OrgState, own: DeviceId, said: str) -> Judgement:
    """Whose version a copy with this label is, seen from this device.

    A person alone is meant as a person: the copy is `mine` on every device of theirs, for the other
    version was somebody else's when they had one device. A device is meant as that device."""
    mine = org.device(own).device
    of_person = [one for one in _devices(org) if said in _person_labels(org.users[one.user])]
    of_device = [one for one in _devices(org) if said in _device_labels(org, one)]
    found = tuple(dict.fromkeys((*of_person, *of_device)))
    if not found:
        return Judgement(whose=Whose.UNKNOWN)
    if mine not in found:
        return Judgement(whose=Whose.THEIRS, devices=found)
    if of_device and len(found) > 1:
        return Judgement(whose=Whose.UNSURE, devices=found)
    is_sure = {one.user for one in found} == {mine.user}
    return Judgement(whose=Whose.MINE if is_sure else Whose.UNSURE, devices=found)


def _devices(org: OrgState) -> Iterator[Device]:
    """That can make copies, or could once."""
    return (one.device for one in org.devices.values() if not is_paper(one.device))


def _spoken(org: OrgState, user: User, most: int) -> bytes:
    """The name, the address if somebody else is called so, the id if that says nothing either; told
    apart at the size at which it is used, in bytes."""
    for told in (user.name, user.email):
        others = (one for one in org.users.values() if one.user != user.user)
        name = name_in_copy(told, most=most)
        if name and not any(name in _person_labels(one, most) for one in others):
            return told
    return user.user.hex()[:8].encode()


def _person_labels(user: User, most: int = _MAX_SIZE) -> set[str]:
    names = {name_in_copy(one, most=most) for one in (user.name, user.email)} - {""}
    return names | {user.user.hex()[:8]}


def _device_labels(org: OrgState, device: Device) -> set[str]:
    user = org.users[device.user]
    spoken = (user.name, user.email, user.user.hex()[:8].encode())
    return {_with_device(one, device) for one in spoken}


def _with_device(spoken: bytes, device: Device) -> str:
    name = name_in_copy(spoken, most=_PART_MAX_SIZE)
    called = name_in_copy(device.label, most=_PART_MAX_SIZE) or device.device.hex()[:8]
    return f"{name}{_ON}{called}"

"""Who joined, left, and changed what in an organization and its workspaces; since when.

Data flow: verified certificates, ranges of anchored leaves -> this -> events -> audit --since.

Pure. The epoch of an event is the first one that anchors its leaf, as this device's audits saw it;
its time is the one in the leaf, which the server wrote and which only grows. Names are those that
people and devices have now; ids never come back, so an event is never told of somebody else.
"""

import re
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from parsec_fs.people import profile_name, role_name
from parsec_fs.plain_text import plain_name
from parsec_fs.protocol.certificates import (
    NO_ROLE,
    OWNER,
    ROLE_REGISTERED,
    Content,
    Device,
    DeviceRevoked,
    Genesis,
    RealmCreated,
    RealmRegistered,
    Role,
    Rotation,
    User,
    UserKey,
    UserRevoked,
    decode_content,
    peek_certificate,
)
from parsec_fs.protocol.errors import InputError
from parsec_fs.protocol.ids import DeviceId, LogId, RealmId, UserId
from parsec_fs.protocol.membership import OrgState
from parsec_fs.protocol.records import Leaf, LeafHeader

Json = dict[str, Any]
_UNITS_MS: Final = {"h": 3_600_000, "d": 24 * 3_600_000, "w": 7 * 24 * 3_600_000}


class Kind(StrEnum):
    """What happened, for programs."""

    FOUNDED = "founded"
    JOINED = "joined"
    CHANGED = "changed"
    REVOKED = "revoked"
    DEVICE_ADDED = "device-added"
    DEVICE_REVOKED = "device-revoked"
    KEY_RENEWED = "key-renewed"
    WORKSPACE_CREATED = "workspace-created"
    ROLE = "role"
    WORKSPACE_KEY = "workspace-key"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One certificate. `by` is the device that signed it (the root key's is nobody's); `details`
    are fields of the document that follow from the certificate alone."""

    log: LogId
    index: int
    time_ms: int
    kind: Kind
    by: DeviceId
    user: UserId | None = None
    device: DeviceId | None = None
    realm: RealmId | None = None
    details: tuple[tuple[str, str | int], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """When a leaf was anchored first: in `epoch`; or in one that this device did not record, before
    `before`; or in none so far."""

    epoch: int | None = None
    before: int | None = None

    def cell(self) -> str:
        """For a table."""
        if self.epoch is not None:
            return str(self.epoch)
        return "-" if self.before is None else f"before {self.before}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchors:
    """Epochs of one log's leaves: recorded (first leaf, size, epoch) in log order, and how far the
    log is anchored in the `epochs` epochs that are verified."""

    ranges: Sequence[tuple[int, int, int]] = ()
    size: int = 0
    epochs: int = 0

    def place(self, index: int) -> Place:
        """Of a leaf."""
        at = bisect_right([first for first, _, _ in self.ranges], index)
        if at and index < self.ranges[at - 1][1]:
            return Place(epoch=self.ranges[at - 1][2])
        if at < len(self.ranges):
            return Place(before=self.ranges[at][2])
        return Place(before=self.epochs) if index < self.size else Place()


@dataclass(frozen=True, slots=True, kw_only=True)
class Since:
    """What somebody asked for: from an epoch on, or from a time on (ms since 1970)."""

    epoch: int | None = None
    time_ms: int = 0

    def includes(self, place: Place, time_ms: int) -> bool:
        """What may lie on both sides is included."""
        if self.epoch is None:
            return time_ms >= self.time_ms
        if place.epoch is not None:
            return place.epoch >= self.epoch
        return place.before is None or place.before > self.epoch


def parse_since(text: str, *, now_ms: int) -> Since:
    """An epoch (`812`), a time ago (`12h`, `7d`, `2w`), or a date or time of this machine's zone
    (`2026-08-02`, `2026-08-02T14:30`). Raises InputError."""
    if re.fullmatch(r"[0-9]{1,18}", text):
        return Since(epoch=int(text))
    ago = re.fullmatch(r"([0-9]{1,6})([hdw])", text)
    if ago:
        return Since(time_ms=now_ms - int(ago[1]) * _UNITS_MS[ago[2]])
    try:
        if not re.match(r"[0-9]{4}-[0-9]{2}-", text):
            raise ValueError(text)
        return Since(time_ms=int(datetime.fromisoformat(text).timestamp() * 1000))
    except (ValueError, OverflowError, OSError) as error:
        raise InputError(
            f"--since {text}: give an epoch (812), a time ago (12h, 7d, 2w) or a date (2026-08-02)"
        ) from error


def org_events(leaves: Iterable[Leaf]) -> list[Event]:
    """Of the organization's verified log, in log order."""
    profiles: dict[UserId, int] = {}
    return [
        _org_event(leaf, profiles)
        for leaf in leaves
        # The role itself is told by its workspace's log.
        if peek_certificate(leaf.body).kind != ROLE_REGISTERED
    ]


def _org_event(leaf: Leaf, profiles: dict[UserId, int]) -> Event:
    certificate = peek_certificate(leaf.body)
    content = decode_content(certificate.kind, certificate.content)
    fields: Json = {}
    if isinstance(content, Genesis):
        kind, fields = Kind.FOUNDED, {"details": (("organization", plain_name(content.name)),)}
    elif isinstance(content, User):
        kind, fields = _user_event(content, profiles.get(content.user))
        profiles[content.user] = content.profile
    elif isinstance(content, Device):
        kind, fields = Kind.DEVICE_ADDED, {"user": content.user, "device": content.device}
    elif isinstance(content, UserKey):
        kind = Kind.KEY_RENEWED
        fields = {"user": content.user, "details": (("key", content.generation),)}
    elif isinstance(content, DeviceRevoked):
        kind, fields = Kind.DEVICE_REVOKED, {"device": content.device}
    elif isinstance(content, UserRevoked):
        kind, fields = Kind.REVOKED, {"user": content.user}
    else:
        assert isinstance(content, RealmRegistered), "nothing else is in a verified org log"
        kind, fields = Kind.WORKSPACE_CREATED, {"realm": content.realm}
    return _event(
        leaf.header, certificate.header.context.log, kind, certificate.header.device, fields
    )


def _user_event(content: User, before: int | None) -> tuple[Kind, Json]:
    """`before`: the profile of a user who is known already."""
    details = (("profile", profile_name(content.profile)), ("name", plain_name(content.name)))
    if before is None:
        return Kind.JOINED, {"user": content.user, "details": details}
    more = ("before", profile_name(before))
    return Kind.CHANGED, {"user": content.user, "details": (*details, more)}


def _event(header: LeafHeader, log: LogId, kind: Kind, by: DeviceId, fields: Json) -> Event:
    return Event(log=log, index=header.index, time_ms=header.time_ms, kind=kind, by=by, **fields)


def realm_events(
    certificates: Iterable[tuple[LeafHeader, bytes]], roles: Mapping[UserId, int]
) -> list[Event]:
    """Of a workspace's verified certificates, in log order; `roles` are those before the first."""
    held = dict(roles)
    found = []
    for header, body in certificates:
        certificate = peek_certificate(body)
        content = decode_content(certificate.kind, certificate.content)
        log = certificate.header.context.log
        fields: Json = {"realm": RealmId(log)}
        if isinstance(content, Rotation):
            kind = Kind.WORKSPACE_KEY
            fields["details"] = (("key", content.index),)
        else:
            user, role = _given(content)
            kind = Kind.ROLE
            before = role_name(held.get(user, NO_ROLE))
            fields |= {"user": user, "details": (("role", role_name(role)), ("before", before))}
            held[user] = role
        found.append(_event(header, log, kind, certificate.header.device, fields))
    return found


def _given(content: Content) -> tuple[UserId, int]:
    """Who has which role from a leaf on."""
    if isinstance(content, RealmCreated):
        return content.owner, OWNER
    assert isinstance(content, Role), "nothing else is in a verified realm log"
    return content.user, content.role


# Telling


def event_document(
    event: Event, place: Place, org: OrgState, titles: Mapping[RealmId, str]
) -> Json:
    """For programs; all events have the same fields first, fields are only ever added."""
    by, device = org.devices.get(event.by), None
    if event.device is not None:
        entry = org.devices.get(event.device)
        device = None if entry is None else entry.device
    user = device.user if event.user is None and device is not None else event.user
    return {
        "epoch": place.epoch,
        "before_epoch": place.before,
        "time_ms": event.time_ms,
        "kind": str(event.kind),
        "by": None if by is None else device_document(event.by, org),
        "person": None if user is None else _person(user, org),
        "device": None if device is None else plain_name(device.label),
        "workspace": None if event.realm is None else _title(event.realm, titles),
        "workspace_id": None if event.realm is None else event.realm.hex(),
        **dict(event.details),
    }


def device_document(device: DeviceId, org: OrgState) -> Json:
    """A device and whose it is."""
    entry = org.devices.get(device)
    if entry is None:
        return {"name": "", "email": "", "device": device.hex()}
    return {**_person(entry.device.user, org), "device": plain_name(entry.device.label)}


def _person(user: UserId, org: OrgState) -> Json:
    found = org.users[user]
    return {"name": plain_name(found.name), "email": plain_name(found.email)}


def _title(realm: RealmId, titles: Mapping[RealmId, str]) -> str:
    return titles.get(realm, realm.hex()[:8])


def event_text(document: Json) -> str:
    """What happened, in one line."""
    person, device = who(document["person"]), document["device"]
    where, key = document["workspace"], document.get("key")
    match document["kind"]:
        case Kind.FOUNDED:
            return f"organization {document['organization']} founded"
        case Kind.JOINED:
            return f"{person} joined as {document['profile']}"
        case Kind.CHANGED:
            return _change_text(person, document)
        case Kind.REVOKED:
            return f"{person} revoked, with all devices"
        case Kind.DEVICE_ADDED:
            return f"{person}: device {device} added"
        case Kind.DEVICE_REVOKED:
            return f"{person}: device {device} revoked"
        case Kind.KEY_RENEWED:
            return f"{person}: key renewed, number {key}"
        case Kind.WORKSPACE_CREATED:
            return f"workspace {where} created"
        case Kind.WORKSPACE_KEY:
            return f"{where}: new key, number {key}"
    return f"{where}: {person} {_role_text(document['before'], document['role'])}"


def _change_text(person: str, document: Json) -> str:
    if document["before"] == document["profile"]:
        return f"{person}: called {document['name']}, profile {document['profile']}"
    return f"{person} is {document['profile']} now, was {document['before']}"


def _role_text(before: str, role: str) -> str:
    if role == "none":
        return f"left, was {before}"
    return f"is {role} now" if before == "none" else f"is {role} now, was {before}"


def who(person: Json | None) -> str:
    """As in `bob <bob@acme.example>`."""
    if person is None:
        return "nobody known"
    return f"{person['name']} <{person['email']}>" if person["name"] else "nobody known"


def author(person: Json | None) -> str:
    """As in `bob (laptop)`."""
    if person is None:
        return "the root key"
    return f"{person['name'] or 'an unknown device'} ({person['device']})"


# Changes of contents, without what was changed


def change_documents(
    commits: Iterable[tuple[LeafHeader, DeviceId, int]],
    anchors: Anchors,
    org: OrgState,
    since: Since,
) -> list[Json]:
    """How much each device changed in each epoch: (header, author, objects) of commits, in log
    order, added up. `time_ms` is that of the last of them."""
    found: dict[tuple[Place, DeviceId], Json] = {}
    for header, device, objects in commits:
        place = anchors.place(header.index)
        if not since.includes(place, header.time_ms):
            continue
        row = found.setdefault(
            (place, device),
            {
                "epoch": place.epoch,
                "before_epoch": place.before,
                "time_ms": 0,
                "by": device_document(device, org),
                "commits": 0,
                "operations": 0,
            },
        )
        row["time_ms"] = header.time_ms
        row["commits"] += 1
        row["operations"] += objects
    return list(found.values())

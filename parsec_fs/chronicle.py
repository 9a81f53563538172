"""What `audit --since` tells: events of people, and per workspace how much was changed by whom.

Data flow: stores that an audit has just brought up to date -> `people_log` -> documents.

Reads what is stored and verified, sends nothing. The stores may be those of a running daemon.
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from parsec_fs.audit.audit_store import DeviceAuditStore
from parsec_fs.audit.ports import AuditRecord
from parsec_fs.config import Home
from parsec_fs.connection import Connection
from parsec_fs.directory import Workspace
from parsec_fs.people_log import (
    Anchors,
    Event,
    Json,
    Since,
    change_documents,
    event_document,
    org_events,
    realm_events,
)
from parsec_fs.protocol.codec import decode
from parsec_fs.protocol.ids import LogId, RealmId
from parsec_fs.protocol.records import LeafHeader
from parsec_fs.storage.realm_store import RealmStore


@dataclass(frozen=True, slots=True, kw_only=True)
class Chronicle:
    """Of one device."""

    home: Home
    connection: Connection
    since: Since

    def of_org(self) -> list[Event]:
        """People and devices."""
        org = self.connection.org
        return org_events(org.leaves()[: org.size()])

    def of_realm(self, store: RealmStore) -> list[Event]:
        """Roles and keys of a workspace. Of what lies before a snapshot nothing counts until all of
        it is there."""
        base = store.base()
        start = 0 if base is None else base.state.size
        before = {} if base is None else {one.user: one.role for one in base.roles}
        headers = [_header(store, one) for one in store.certificate_numbers(start)]
        return realm_events(zip(headers, store.certificates(start), strict=True), before)

    def changes(self, store: RealmStore) -> list[Json]:
        """How much each device changed in each epoch."""
        anchors = self.anchors(store.log)
        commits = store.commits(self._first(store, anchors))
        return change_documents(commits, anchors, self.connection.org.state, self.since)

    def told(self, events: Iterable[Event], titles: Mapping[RealmId, str]) -> list[Json]:
        """Those that were asked for, in order of time."""
        org, anchors = self.connection.org.state, dict[LogId, Anchors]()
        found = []
        for event in sorted(events, key=lambda one: one.time_ms):
            if event.log not in anchors:
                anchors[event.log] = self.anchors(event.log)
            place = anchors[event.log].place(event.index)
            if self.since.includes(place, event.time_ms):
                found.append(event_document(event, place, org, titles))
        return found

    def anchors(self, log: LogId) -> Anchors:
        """Epochs of a log's leaves, as the audits on this device saw them."""
        states = [
            decode(AuditRecord, stored).state
            for stored in (
                one.load()
                for one in DeviceAuditStore.all(self.connection.store, self.home.evidence)
            )
            if stored is not None
        ]
        following = [one for one in states if log in one.logs]
        newest = max(following, key=lambda one: one.epochs, default=None)
        return Anchors(
            ranges=self.connection.store.anchored(log),
            size=0 if newest is None else newest.of(log).size,
            epochs=0 if newest is None else newest.epochs,
        )

    def _first(self, store: RealmStore, anchors: Anchors) -> int:
        """A leaf before which nothing was asked for."""
        base = store.base()
        low, high = (0 if base is None else base.state.size), store.position().size
        if self.since.epoch is None:
            leaves = range(low, high)
            found = bisect_left(
                leaves, self.since.time_ms, key=lambda one: _header(store, one).time_ms
            )
            return low + found
        since = self.since.epoch
        return max([low, *(size for _, size, epoch in anchors.ranges if epoch < since)])


def titles_of(workspaces: Iterable[Workspace]) -> dict[RealmId, str]:
    """Names for people."""
    return {one.realm: one.title for one in workspaces}


def _header(store: RealmStore, number: int) -> LeafHeader:
    leaf = store.leaf(number)
    assert leaf is not None, "every leaf from the base on is stored"
    return decode(LeafHeader, leaf.header)

"""Who is told that a log has grown: device event streams (rule 28: commits and certificates only).

Data flow: sequencer -> `announce` -> subscriptions -> http.events -> device pulls the log.

Announcements of one log that a slow reader has not fetched yet are one announcement, so a
subscription holds at most one entry per log and nobody waits for a reader.
"""

from dataclasses import dataclass, field

import anyio

from parsec_fs.protocol.ids import LogId, OrgId
from server.log.sequencer import Caller


@dataclass(slots=True, kw_only=True)
class Subscription:
    """Logs that have grown since the last `take`. `readable`: logs that the device could read so
    far; that one has grown is told once more when it cannot any longer."""

    caller: Caller
    readable: set[LogId] = field(default_factory=set)
    grown: set[LogId] = field(default_factory=set)
    wake: anyio.Event = field(default_factory=anyio.Event)

    async def take(self) -> list[LogId]:
        """Wait until logs have grown; each is named once. Empty when the server closes."""
        await self.wake.wait()
        self.wake = anyio.Event()
        grown, self.grown = self.grown, set()
        return sorted(grown)


class Announcer:
    """All subscriptions of this process."""

    def __init__(self) -> None:
        self._subscriptions: dict[int, Subscription] = {}
        self.closed = False

    def announce(self, org: OrgId, log: LogId) -> None:
        """The log of this organization has got commits or certificates, durably."""
        for one in self._subscriptions.values():
            if one.caller.org == org:
                one.grown.add(log)
                one.wake.set()

    def close(self) -> None:
        """The server is going down: every stream ends."""
        self.closed = True
        for one in self._subscriptions.values():
            one.wake.set()

    def streams(self, caller: Caller) -> int:
        """Open subscriptions of one device."""
        return sum(one.caller == caller for one in self._subscriptions.values())

    def subscribe(self, caller: Caller) -> Subscription:
        """A subscription; it counts until it is given back."""
        subscription = Subscription(caller=caller)
        self._subscriptions[id(subscription)] = subscription
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        """Give a subscription back."""
        self._subscriptions.pop(id(subscription), None)

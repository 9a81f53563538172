"""Read stamps: those that arrive within a window, of all devices, share one leaf.

Data flow: realm/observe -> `StampWindows.observe` -> one leaf per window -> a head for each.

The answer waits for the leaf, so it proves that the head came after the stamp; evaluating a read at
the head of the whole window is still correct (verifiable-history 3.5).
"""

import logging
from dataclasses import dataclass, field
from typing import Final

import anyio
from anyio.abc import TaskGroup

from parsec_fs.protocol.certificates import READER
from parsec_fs.protocol.commands import Observe, Observed, Outcome
from parsec_fs.protocol.ids import OrgId, RealmId
from parsec_fs.protocol.realm_state import RealmState
from parsec_fs.protocol.records import Signed
from server.log.reader import Reader
from server.log.sequencer import Caller, Sequencer
from server.log.transactor import Done

log = logging.getLogger(__name__)

MOST: Final = 4096
"""Stamps in one leaf."""


@dataclass(slots=True, kw_only=True)
class _Window:
    """Stamps on their way into one leaf."""

    requests: list[Observe] = field(default_factory=list)
    settled: anyio.Event = field(default_factory=anyio.Event)
    outcome: "Done[RealmState, int] | Outcome" = Outcome.UNAVAILABLE


class StampWindows:
    """One open window per realm at most."""

    def __init__(
        self, *, sequencer: Sequencer, reader: Reader, tasks: TaskGroup, window_ms: int
    ) -> None:
        self._sequencer = sequencer
        self._reader = reader
        self._tasks = tasks
        self._window_ms = window_ms
        self._open: dict[RealmId, _Window] = {}

    async def observe(self, caller: Caller, request: Observe) -> Observed | Outcome:
        """realm/observe: for every member."""
        state = await self._reader.realm(caller, request.realm, least=READER)
        if isinstance(state, Outcome):
            return state
        window = self._open.get(request.realm)
        if window is None:
            window = self._open[request.realm] = _Window()
            self._tasks.start_soon(self._settle, caller.org, request.realm, window)
        if len(window.requests) >= MOST:
            return Outcome.QUOTA
        position = len(window.requests)
        window.requests.append(request)
        await window.settled.wait()
        if isinstance(window.outcome, Outcome):
            return window.outcome
        head: Signed = window.outcome.heads[position]
        return Observed(index=window.outcome.result, head=head)

    async def _settle(self, org: OrgId, realm: RealmId, window: _Window) -> None:
        await anyio.sleep(self._window_ms / 1000)
        del self._open[realm]
        try:
            window.outcome = await self._sequencer.add_stamps(
                org,
                realm,
                frozenset(one.stamp for one in window.requests),
                [one.nonce for one in window.requests],
            )
        except Exception:  # one realm's trouble must not end the server; the answer says later
            log.exception("stamps of realm %s failed", realm.hex())
        finally:
            window.settled.set()

"""The event loop's side of speed: serve requests without going to sleep between them.

Data flow: kernel -> /dev/fuse -> this (readiness) -> pyfuse3 -> mount/operations.

pyfuse3 waits for its descriptor through `pyfuse3.trio`, the seam that its own asyncio support uses.
The stand-in polls the descriptor before it yields, keeps polling for up to 50 us after a request,
and has a lock that costs nothing when free: measured on two cores, create, write, rename and unlink
become four times as fast, because a wake-up through epoll and trio costs more than a request.
Rules guarded here:
- other tasks get a real turn at least every `TURN_NS` however many requests come, and as soon as a
  worker thread has a result;
- the spin adapts: it is only done while recent pauses were shorter than it (nothing when idle).
Depends on pyfuse3 3.5's use of `trio.lowlevel.wait_readable`, `trio.Lock`, `trio.open_nursery`,
`trio.ClosedResourceError` and `trio.lowlevel.notify_closing`; a test pins the version.
"""

import select
import time
from collections import deque
from types import TracebackType
from typing import Final

import pyfuse3
import trio

from parsec_fs.storage.workers import Workers

SPIN_NS: Final = 50_000
TURN_NS: Final = 2_000_000
"""Longest time without a real turn for other tasks (journal groups are due after 20 ms)."""

PATIENCE: Final = 8
"""Spins in vain before the loop goes to sleep at once, until requests come in a row again."""

BUSY_REQUESTS: Final = 4
BUSY_WITHIN_NS: Final = 50_000_000
"""So many requests within this time: the mount is busy. A stream makes more than 100 a second,
somebody who looks every now and then does not."""

_now = time.perf_counter_ns


class PollFirst:
    """Stands in for `trio.lowlevel` inside pyfuse3: returns at once while requests keep coming."""

    current_task = staticmethod(trio.lowlevel.current_task)
    current_trio_token = staticmethod(trio.lowlevel.current_trio_token)
    notify_closing = staticmethod(trio.lowlevel.notify_closing)

    def __init__(self, workers: Workers, spin_ns: int = SPIN_NS) -> None:
        self._workers = workers
        self._spin_ns = spin_ns
        self._turn = 0
        self._used = self._used_before = 0
        self._vain = 0
        self._poll = select.poll()
        self._fd = -1
        self._asked = deque([-BUSY_WITHIN_NS] * BUSY_REQUESTS, maxlen=BUSY_REQUESTS)

    def busy(self) -> bool:
        """True iff requests keep coming: background work then stands back."""
        return _now() - self._asked[0] < BUSY_WITHIN_NS

    def nobody_waits(self) -> bool:
        """True iff no request is there but the one being answered, and no worker's result that
        somebody waits for."""
        return not (self._workers.turn_wanted or self._poll.poll(0))

    @property
    def last_use_ns(self) -> int:
        """About when the newest request came, on `time.perf_counter_ns`; 0 before the first."""
        return self._used

    def discount(self) -> None:
        """The request being answered, the newest one, is of this program's own making: it is no use
        of the mount, and does not make it busy."""
        self._used = self._used_before
        self._asked.pop()
        self._asked.appendleft(-BUSY_WITHIN_NS)

    def _ready(self, now: int) -> bool:
        poll = self._poll.poll
        if poll(0):
            self._vain = 0
            return True
        if self._vain >= PATIENCE:
            return False
        end = now + self._spin_ns
        while _now() < end:
            if poll(0):
                self._vain = 0
                return True
        self._vain += 1
        return False

    async def wait_readable(self, fd: int) -> None:
        """As trio's, but without a checkpoint when the descriptor is readable soon enough."""
        if fd != self._fd:
            self._poll = select.poll()
            self._poll.register(fd, select.POLLIN)
            self._fd = fd
        now = _now()
        self._asked.append(now)
        self._used_before = self._used
        if self._workers.turn_wanted:
            self._workers.turn_wanted = False
        elif now - self._turn < TURN_NS and self._ready(now):
            return
        asleep = _now()
        await trio.lowlevel.wait_readable(fd)
        self._used = self._turn = _now()
        if self._turn - asleep < 4 * self._spin_ns:
            # The pause was about as short as a spin: the next may be worth waiting for.
            self._vain = 0


class UncontendedLock:
    """Only one task waits for the descriptor at a time; taking a free lock costs no yield."""

    def __init__(self) -> None:
        self._held = False
        self._waiting = 0
        self._freed = trio.Event()

    async def __aenter__(self) -> None:
        while self._held:
            self._waiting += 1
            try:
                await self._freed.wait()
            finally:
                self._waiting -= 1
        self._held = True

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._held = False
        if self._waiting:
            self._freed.set()
            self._freed = trio.Event()


class Seam:
    """What pyfuse3 uses of trio."""

    Lock = UncontendedLock
    ClosedResourceError = trio.ClosedResourceError
    open_nursery = staticmethod(trio.open_nursery)

    def __init__(self, poller: PollFirst) -> None:
        self.lowlevel = poller


def install(workers: Workers, spin_ns: int = SPIN_NS) -> PollFirst:
    """Let pyfuse3 use this loop. Call before `pyfuse3.main`; once per process."""
    poller = PollFirst(workers, spin_ns)
    pyfuse3.trio = Seam(poller)  # type: ignore[attr-defined]
    return poller

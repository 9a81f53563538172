"""Background computation in slices, so that requests of the mount never wait for it.

Data flow: replica, sync (each item or step) -> `pause` -> trio's scheduler.

Measured (decisions.md 6): a computing thread costs the mount 90 % of its speed, slices of 0.2 ms on
the trio thread 20 %. So verifying, sealing and diffing call `pause` between items. While requests
keep coming all of it stands back as well, for at most 5 s (decision 0007): then it goes on in its
slices, until the mount has been calm once. Whoever waits for the log does so in `hurried`.
"""

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Final, TypeVar

import trio

T = TypeVar("T")

SLICE_S: Final = 0.0002
STAND_BACK_S: Final = 5.0
LOOK_AGAIN_S: Final = 0.01


class Slices:
    """Yields to the scheduler when the current slice is used up, and to a mount that is `busy`."""

    def __init__(self, *, clock: Callable[[], float] = time.perf_counter) -> None:
        self.busy: Callable[[], bool] = lambda: False
        self._clock = clock
        self._end = 0.0
        self._patience: float | None = None
        self._hurried = 0

    async def pause(self) -> None:
        """Return at once within a slice; else let everything else that is ready run first."""
        if self._clock() >= self._end:
            await trio.lowlevel.checkpoint()
            await self.stand_back()
            self._end = self._clock() + SLICE_S

    async def stand_back(self) -> None:
        """Wait while requests keep coming and nobody is in a hurry, up to the limit. A hurry gives
        no new patience: changes that keep coming from elsewhere would hold ours back for ever."""
        while self.busy():
            if self._hurried:
                return
            now = self._clock()
            if self._patience is None:
                self._patience = now + STAND_BACK_S
            if now >= self._patience:
                return
            await trio.sleep(LOOK_AGAIN_S)
        self._patience = None

    @contextmanager
    def hurried(self) -> Iterator[None]:
        """Somebody waits for the work: it does not stand back meanwhile."""
        self._hurried += 1
        try:
            yield
        finally:
            self._hurried -= 1

    async def run(self, steps: Generator[None, None, T]) -> T:
        """Drive a computation that yields between its steps; its return value."""
        while True:
            try:
                next(steps)
            except StopIteration as end:
                result: T = end.value
                return result
            await self.pause()

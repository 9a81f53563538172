"""Background computation in slices, so that requests of the mount never wait for it.

Data flow: replica, sync (each item or step) -> `pause` -> trio's scheduler.

Measured (decisions.md 6): a computing thread costs the mount 90 % of its speed, slices of 0.2 ms on
the trio thread 20 %. So verifying, sealing and diffing call `pause` between items.
"""

import time
from collections.abc import Callable, Generator
from typing import Final, TypeVar

import trio

T = TypeVar("T")

SLICE_S: Final = 0.0002


class Slices:
    """Yields to the scheduler when the current slice is used up."""

    def __init__(self, *, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._end = 0.0

    async def pause(self) -> None:
        """Return at once within a slice; else let everything else that is ready run first."""
        if self._clock() >= self._end:
            await trio.lowlevel.checkpoint()
            self._end = self._clock() + SLICE_S

    async def run(self, steps: Generator[None, None, T]) -> T:
        """Drive a computation that yields between its steps; its return value."""
        while True:
            try:
                next(steps)
            except StopIteration as end:
                result: T = end.value
                return result
            await self.pause()

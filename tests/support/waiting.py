"""Waiting for a condition with a deadline, the only way in which tests wait.

Data flow: a test's condition -> polled until it holds -> its value, or AssertionError.
"""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

T = TypeVar("T")


async def eventually(
    probe: Callable[[], Awaitable[T | None]], *, timeout_s: float = 10.0, every_s: float = 0.02
) -> T:
    """First result of `probe` that is neither None nor False, or AssertionError at the deadline."""
    deadline = trio.current_time() + timeout_s
    while True:
        result = await probe()
        if result is not None and result is not False:
            return result
        if trio.current_time() > deadline:
            raise AssertionError(f"nothing after {timeout_s} s: {probe!r}")
        await trio.sleep(every_s)


async def until(
    condition: Callable[[], T | None], timeout_s: float = 10.0, *, every_s: float = 0.02
) -> T:
    """As `eventually`, for a condition that does not wait itself."""

    async def probe() -> T | None:
        return condition()

    return await eventually(probe, timeout_s=timeout_s, every_s=every_s)

"""Token buckets per device or address (rule 19): a stable "later", never a lost record.

Data flow: http -> `Buckets.take` -> go on, or QUOTA (429).
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Final

from server.config import Rate

MOST_KEYS: Final = 100_000
"""Buckets kept; the least recently used start full again."""


class Buckets:
    """One bucket per key, all with the same rate."""

    def __init__(self, rate: Rate, monotonic: Callable[[], float]) -> None:
        self._rate = rate
        self._monotonic = monotonic
        self._buckets: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()

    def take(self, key: Hashable) -> float | None:
        """Tokens left after taking one; None if there is none to take."""
        now = self._monotonic()
        tokens, since = self._buckets.pop(key, (float(self._rate.burst), now))
        tokens = min(self._rate.burst, tokens + (now - since) * self._rate.per_second)
        taken = tokens >= 1
        self._buckets[key] = (tokens - 1 if taken else tokens, now)
        if len(self._buckets) > MOST_KEYS:
            self._buckets.popitem(last=False)
        return tokens - 1 if taken else None

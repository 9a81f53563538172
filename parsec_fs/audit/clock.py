"""The device's two clocks.

Data flow: kernel -> auditor's lag rule (rule 24). Nothing is ever ordered by them.
"""

import time


class SystemClock:
    """CLOCK_BOOTTIME counts through suspend and cannot be set; the wall clock can (T12)."""

    def monotonic_ns(self) -> int:
        """Since boot."""
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME)

    def now_ns(self) -> int:
        """Unix time."""
        return time.time_ns()

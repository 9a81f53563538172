"""Which times of a folder count: those of its latest change.

Data flow: attributes object and pages of one folder -> `latest` -> what stat shows.

A folder's attributes and each of its pages carry (mtime, ctime) of their own (rule 11). Change time
always moves forward, so the pair with the latest change time is the newest state; taking the larger
modification time instead would undo a `touch -d` or `cp -a` that set it back.
"""

from typing import TypeAlias

Times: TypeAlias = tuple[int, int]
"""(mtime, ctime), Unix nanoseconds."""

NEVER: Times = (-(2**63), -(2**63))


def latest(*times: Times) -> Times:
    """The pair with the latest change time; among equals the later modification."""
    return max(times, key=lambda one: (one[1], one[0]))

"""How far the changes of one workspace have come, as status and `wait` ask.

Data flow: sync -> `Progress` -> facts, control -> people.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where changes are: `pending` objects and names not logged, journal positions, log size."""

    pending: int
    journal_position: int
    logged_position: int
    log_size: int
    online: bool
    trouble: str

"""Configuration of the metadata server: frozen values, built once by the command line.

Data flow: `cli` flags -> these -> `app.build` hands each component the few values that it needs.
"""

from dataclasses import dataclass, field
from typing import Final

from parsec_fs.protocol.limits import KIB, MIB

DEFAULT_EPOCH_MS: Final = 60_000
DEFAULT_HEARTBEAT_MS: Final = 60_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """A token bucket: `burst` at once, `per_second` in the long run."""

    per_second: float
    burst: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Quotas:
    """Rule 19: every one ends in a stable outcome (429 or 507), never in a lost record."""

    orgs: int = 1_000
    realm_bytes: int = 1024 * 1024 * MIB
    """Payloads and blocks of one realm."""
    requests: Rate = Rate(per_second=1_000, burst=5_000)
    """Signed requests of one device; blocks are requests too."""
    unsigned: Rate = Rate(per_second=50, burst=500)
    """Requests without a session, of one client address: they cost before anything is known."""
    stamps: Rate = Rate(per_second=20, burst=100)
    """Read stamps of one device."""
    streams_per_device: int = 4
    sessions: int = 10_000
    """Open sessions of the whole server; the oldest make room."""
    mails: int = 10_000
    mail_bytes: int = 64 * KIB
    recoveries: int = 16
    """Recovery kits made by one device; each keeps at most 32 KiB for good."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Milliseconds, except where a name says seconds."""

    stamp_window_ms: int = 100
    """Read stamps that arrive within one window share a leaf (verifiable-history 3.5)."""
    lease_ms: int = 5_000
    """How far ahead of the clock the times of heads are reserved (rule 14)."""
    poll_s: float = 0.25
    """Between two looks at the chain while an epoch is on its way."""
    resend_s: float = 5.0
    """A statement that is not final by then is sent again, the same bytes."""
    mail_s: int = 600
    stream_s: float = 600.0
    """An event stream ends with the session that opened it."""
    keep_alive_s: float = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Everything that is decided outside the program."""

    chain_id: bytes
    rpc_urls: tuple[str, ...]
    quotas: Quotas = field(default_factory=Quotas)
    timing: Timing = field(default_factory=Timing)
    books: int = 10_000
    """Logs that are kept in memory; the least recently used are dropped."""

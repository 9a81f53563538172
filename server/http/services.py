"""What the routers work with: one value that the composition root fills.

Data flow: app.build -> `Services` -> every router module.
"""

from collections.abc import Callable
from dataclasses import dataclass

from server.announcer import Announcer
from server.blocks.base import BlockStore
from server.config import Config
from server.founding import Founder
from server.identity import ServerIdentity
from server.limits import Buckets
from server.log.epochs import EpochReader
from server.log.reader import Reader
from server.log.sequencer import Sequencer
from server.log.stamps import StampWindows
from server.sessions import Sessions
from server.store.database import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """Everything behind the HTTP interface. `wall_ms` is Unix time; `is_open` says whether the
    chain has confirmed that this is the newest copy of the server (rule 32)."""

    config: Config
    identity: ServerIdentity
    database: Database
    sessions: Sessions
    founder: Founder
    sequencer: Sequencer
    reader: Reader
    stamps: StampWindows
    epochs: EpochReader
    announcer: Announcer
    blocks: BlockStore
    request_limits: Buckets
    unsigned_limits: Buckets
    stamp_limits: Buckets
    wall_ms: Callable[[], int]
    is_open: Callable[[], bool]

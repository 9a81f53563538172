"""Why a record was refused: the one table from the protocol's errors to outcomes.

Data flow: rules in `membership` and `realm_state` raise -> `outcome_of` -> answer or refusal.
"""

from parsec_fs.protocol.commands import Outcome
from parsec_fs.protocol.errors import DataError, OutdatedError, ParsecFSError
from parsec_fs.protocol.log_state import DeviceChainError, NotAllowedError, ReplacedError
from parsec_fs.protocol.realm_state import CommitConflictError, KeyIndexError

_TABLE: tuple[tuple[type[ParsecFSError], Outcome], ...] = (
    (DataError, Outcome.BAD_REQUEST),
    (OutdatedError, Outcome.BAD_REQUEST),
    (NotAllowedError, Outcome.NOT_ALLOWED),
    (DeviceChainError, Outcome.BAD_CHAIN),
    (KeyIndexError, Outcome.STALE_KEY),
    (CommitConflictError, Outcome.CONFLICT),
    (ReplacedError, Outcome.CONFLICT),
)


def outcome_of(error: ParsecFSError) -> Outcome:
    """Outcome for a record that the rules reject; INVALID where no class is more precise."""
    for kind, outcome in _TABLE:
        if isinstance(error, kind):
            return outcome
    return Outcome.INVALID

"""Result codes of transactions and queries: the one table.

Data flow: rules, queries -> code -> CheckTx, FinalizeBlock and Query answers -> publisher, clients.

Codes enter the chain (last_results_hash covers them): a number is never given a second meaning.
"""

from enum import IntEnum

CODESPACE = "parsec"


class Code(IntEnum):
    """0 is success; everything else leaves the state as it was."""

    OK = 0
    MALFORMED = 1
    """Not a canonical signed statement, or too large."""
    WRONG_CHAIN = 2
    UNKNOWN_LOG = 3
    """No server with this id was registered."""
    WRONG_EPOCH = 4
    """Not the next epoch. `data` is the decimal number of the next one."""
    ALREADY_ACCEPTED = 5
    """These very bytes are the newest statement: a repeated sending, not a conflict."""
    WRONG_ROOT = 6
    """The signed root is not that of the accepted leaves plus this one."""
    TOO_EARLY = 7
    """Less than half an epoch after the statement before."""
    AHEAD_OF_TIME = 8
    """Later than the time of the block allows."""
    BAD_SIGNATURE = 9
    WRONG_KEYS = 10
    """The carried key changes are not the accepted ones and at most one more."""
    NO_SUCH_PATH = 20
    NOT_FOUND = 21
    HEIGHT_NOT_KEPT = 22
    NOT_READY = 23
    """The chain has not begun."""

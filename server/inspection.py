"""What an operator can look at: logs, sizes, epochs, as JSON.

Data flow: database -> `report` -> parsec-server show.
"""

from typing import Any

from server.store import epochs, logs
from server.store.database import Transaction
from server.store.server_row import due_epoch


def report(transaction: Transaction) -> dict[str, Any]:
    """Logs with their sizes and roots, epochs with how far they are."""
    newest = epochs.newest(transaction)
    return {
        "due_epoch": due_epoch(transaction),
        "epochs": 0 if newest is None else newest.epoch + 1,
        "final_epochs": epochs.count_final(transaction),
        "logs": [
            {
                "log": stored.log.hex(),
                "org": stored.org.hex(),
                "kind": "org" if bytes(stored.log) == stored.org else "realm",
                "size": stored.position.size,
                "log_root": stored.position.root().hex(),
                "map_root": stored.map_root.hex(),
                "time_ms": stored.position.time_ms,
            }
            for stored in logs.all_logs(transaction)
        ],
    }

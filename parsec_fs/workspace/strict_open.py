"""What an `open` waits for on a mount with consistency=strict (rule 27).

Data flow: gate -> own pending changes, a logged read -> what anybody logged before is here.
"""

from collections.abc import Callable

import trio

from parsec_fs.protocol.errors import DeviceRevokedError, OfflineError
from parsec_fs.protocol.hashing import read_stamp
from parsec_fs.workspace.filesystem import Filesystem
from parsec_fs.workspace.replica import RealmReplica
from parsec_fs.workspace.sync import Sync


async def all_logged_is_here(
    filesystem: Filesystem,
    replica: RealmReplica,
    sync: Sync,
    *,
    random: Callable[[int], bytes],
    timeout_s: float,
) -> None:
    """Returns when it is. A device that was revoked gets nothing new and reads what it has: its
    mount is read-only by then and says why. That is the server's word alone, which could just as
    well answer nothing; it cannot pass for an answer. Raises OfflineError, VerificationError."""
    if sync.standing.revoked:
        return
    with trio.move_on_after(timeout_s):
        try:
            if filesystem.dirty_since() is not None:
                await sync.wait_logged()
            await replica.observe(read_stamp(random(32)))
        except DeviceRevokedError as error:
            sync.standing.report(error, "strict open")
        return
    raise OfflineError("strict: the server did not log the read in time")

"""Blocks that the disk did not take are written anew before they count as durable.

Data flow: block_files (fsync failed) -> this -> contents (the bytes, if they open) -> block_files
    (a new file, or given up).

After a failed fsync Linux takes the page for written, and the next fsync succeeds whatever the disk
has. What is left is the page in memory, which may be gone any time: the tag tells.
"""

import threading
from collections.abc import Callable

from parsec_fs.protocol.errors import LocalError
from parsec_fs.protocol.manifests import BlockRef
from parsec_fs.storage.block_files import BlockFiles


class Renewal:
    """Of the blocks of one realm. `checked`: sealed bytes that open; raises LocalError (damaged,
    and reported), FileNotFoundError, or another OSError: it is tried again."""

    def __init__(self, checked: Callable[[BlockRef], bytes]) -> None:
        self._checked = checked
        self._one_at_a_time = threading.Lock()

    def job(self, files: BlockFiles) -> Callable[[], None]:
        """A function for a worker thread: `sync_job`, and what failed before anew. Raises
        OSError."""
        sync = files.sync_job()

        def job() -> None:
            try:
                with self._one_at_a_time:
                    for ref in files.failed():
                        self._renew(files, ref)
            finally:
                sync()  # A disk that has no room to write one anew takes the others.

        return job

    def _renew(self, files: BlockFiles, ref: BlockRef) -> None:
        try:
            sealed = self._checked(ref)
        except (LocalError, FileNotFoundError):
            files.give_up(ref.id)
        else:
            files.renew(ref.id, sealed)

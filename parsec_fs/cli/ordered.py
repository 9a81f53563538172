"""A loaded child waits for its orders, then serves.

Data flow: Orders on standard input -> device file, workspace -> Daemon; Reporter -> the command.
"""

import json
import os
import sys
from pathlib import Path
from typing import Final

from parsec_fs.cli.background import Reporter
from parsec_fs.cli.early import Orders
from parsec_fs.cli.exit_codes import exit_code, first_cause
from parsec_fs.cli.serving import serve
from parsec_fs.config import Consistency, Durability, Home, MountOptions
from parsec_fs.device_file import DeviceFile, NoKeys
from parsec_fs.device_lock import KeyringLock, PassphraseLock
from parsec_fs.directory import Workspace
from parsec_fs.plain_text import plain_lines
from parsec_fs.protocol.errors import ParsecFSError
from parsec_fs.protocol.ids import RealmId

_LINE_MAX_SIZE: Final = 1024 * 1024


class _GivenKey(NoKeys):
    """The file key as the command had it; it cannot be asked for here."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def passphrase_key(self, lock: PassphraseLock) -> bytes:
        """As given."""
        return self._key

    def keyring_key(self, lock: KeyringLock) -> bytes:
        """As given."""
        return self._key


def run(descriptor: int) -> None:
    """`descriptor`: where the command reads. Without orders it has failed, and said so."""
    line = sys.stdin.buffer.readline(_LINE_MAX_SIZE)
    if not line:
        return
    orders = Orders(**json.loads(line))
    _write_to(Path(orders.log))
    try:
        _follow(orders, Reporter(descriptor))
    except (ParsecFSError, TimeoutError, KeyboardInterrupt, BaseExceptionGroup) as error:
        cause = first_cause(error)
        if not isinstance(cause, (ParsecFSError, TimeoutError, KeyboardInterrupt)):
            raise
        print(f"parsec-fs: {plain_lines(str(cause))}", file=sys.stderr)
        sys.exit(int(exit_code(cause)))


def _write_to(log: Path) -> None:
    """Nothing of the command's terminal is held; what is printed goes to the log."""
    with log.open("ab") as output, open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)


def _follow(orders: Orders, reporter: Reporter) -> None:
    home = Home(root=Path(orders.home))
    serve(
        home,
        DeviceFile(home.device, _GivenKey(bytes.fromhex(orders.key))),
        Workspace(realm=RealmId(bytes.fromhex(orders.realm)), name=bytes.fromhex(orders.name)),
        Path(orders.place),
        MountOptions(
            fsync=Durability(orders.fsync),
            consistency=Consistency(orders.consistency),
            cache_size=orders.cache_size,
            allow_other=orders.allow_other,
            stored_owners=orders.stored_owners,
        ),
        reporter,
    )

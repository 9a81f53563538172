"""The keys of a device that paper is about to certify, kept until its device file is written.

Data flow: words -> `begin` (file, sealed under the words) -> certificate -> device file -> `end`.

An interruption after the certificate would otherwise leave a device in the log whose keys nobody
has. Who types the same words again goes on with the same device. Without the words the file is
worth nothing, and under other words it is replaced.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from parsec_fs.config import Home
from parsec_fs.device_file import replace_private
from parsec_fs.identity import DeviceSecrets, label, new_secrets
from parsec_fs.joining import JoinRequest, join_request
from parsec_fs.protocol.codec import decode, encode
from parsec_fs.protocol.errors import DataError, DecryptionError
from parsec_fs.protocol.hashing import tag
from parsec_fs.protocol.sealing import LocalSealer
from parsec_fs.recovery import Kit, RecoveryRecord, paper_secrets

_CONTEXT: Final = tag("begun-recovery")
_FILE: Final = "recovery.begun"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Begun:
    """The new device: what the paper certifies, and its secrets but for the user's keys."""

    request: JoinRequest
    secrets: DeviceSecrets


def begin(home: Home, kit: Kit, record: RecoveryRecord, device_label: str) -> Begun:
    """The device that was begun with these words in this state folder, else a new one; durable when
    this returns. Raises OSError."""
    org, user = record.anchor.org, record.user
    sealer = LocalSealer(paper_secrets(kit.secret, org=org, user=user).local_key)
    found = _found(_path(home), sealer)
    if found is not None and (found.secrets.org, found.secrets.user) == (org, user):
        return found
    secrets = new_secrets(org=org, user=user, user_keys=(), random=os.urandom)
    begun = Begun(request=join_request(secrets, label(device_label)), secrets=secrets)
    _path(home).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    replace_private(_path(home), sealer.seal(encode(begun), context=_CONTEXT, salt=os.urandom(32)))
    return begun


def end(home: Home) -> None:
    """The device file has everything."""
    _path(home).unlink(missing_ok=True)


def _path(home: Home) -> Path:
    return home.device / _FILE


def _found(path: Path, sealer: LocalSealer) -> Begun | None:
    try:
        return decode(Begun, sealer.open(path.read_bytes(), expected_context=_CONTEXT))
    except (FileNotFoundError, DecryptionError, DataError):
        return None

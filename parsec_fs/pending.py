"""Greetings under way, so that Ctrl-C, a crash or a night in between loses nothing.

Data flow: user invite, user join -> one sealed file per greeting -> user greet, user join again.

A file holds what this side drew and all mail so far, its own and the other's: what was received is
never asked for again, and what was sent is only ever sent again byte for byte.
"""

import contextlib
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Final

from parsec_fs.device_file import replace_private
from parsec_fs.greeting import ADMISSION, INVITATION, Link, PersonInvitation, open_person_invitation
from parsec_fs.identity import BoxSeed, DeviceSecrets, UserKeySeed
from parsec_fs.protocol.codec import Bytes32, Label, Size, decode, encode
from parsec_fs.protocol.errors import DataError, DecryptionError, DeviceFileError
from parsec_fs.protocol.hashing import tag
from parsec_fs.protocol.sealing import LocalSealer

_CONTEXT: Final = tag("pending-invitation")
_SUFFIX: Final = ".invitation"
_MAX_SIZE: Final = 1024 * 1024
Mails = Annotated[tuple[Annotated[bytes, Size(1, 65536)], ...], Size(0, ADMISSION + 1)]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Greeting:
    """The inviter's side. `shared` and `nonce` were drawn for this greeting alone."""

    secret: Annotated[bytes, Size(16, 16)]
    invitation: Bytes32
    server_url: Annotated[bytes, Size(1, 1024)]
    shared: Bytes32
    nonce: Bytes32
    mails: Mails

    def link(self) -> Link:
        """What the person was sent."""
        url = self.server_url.decode()
        return Link(secret=self.secret, invitation=self.invitation, server_url=url)

    def terms(self) -> PersonInvitation:
        """Who was invited, as what, until when."""
        return open_person_invitation(self.mails[INVITATION], self.link())

    def is_over(self) -> bool:
        """The person is in the organization."""
        return len(self.mails) > ADMISSION


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Joining:
    """The joiner's side: also the keys of the user and the device that it will be."""

    secret: Annotated[bytes, Size(16, 16)]
    invitation: Bytes32
    server_url: Annotated[bytes, Size(1, 1024)]
    seed: BoxSeed
    nonce: Bytes32
    device: Label
    secrets: DeviceSecrets
    mails: Mails

    def link(self) -> Link:
        """What was received."""
        url = self.server_url.decode()
        return Link(secret=self.secret, invitation=self.invitation, server_url=url)

    def user_key(self) -> UserKeySeed:
        """Drawn here: it never leaves this user's devices."""
        return self.secrets.newest_user_key()


class GreetingFiles:
    """The inviter's greetings, in a folder, sealed under the device's local key."""

    def __init__(self, folder: Path, local_key: bytes) -> None:
        self._folder = folder
        self._sealer = LocalSealer(local_key)

    def save(self, greeting: Greeting) -> None:
        """Durable when this returns."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        sealed = self._sealer.seal(encode(greeting), context=_CONTEXT, salt=os.urandom(32))
        replace_private(self._path(greeting), sealed)

    def remove(self, greeting: Greeting) -> None:
        """Nobody who has the link gets any further."""
        self._path(greeting).unlink(missing_ok=True)

    def all(self, now_ms: int) -> list[Greeting]:
        """Those that have not expired; others are removed. Raises DeviceFileError."""
        found = [self._load(path) for path in sorted(self._folder.glob(f"*{_SUFFIX}"))]
        for old in [one for one in found if one.terms().expires_ms <= now_ms]:
            self.remove(old)
        return [one for one in found if one.terms().expires_ms > now_ms]

    def _path(self, greeting: Greeting) -> Path:
        return self._folder / f"{greeting.invitation.hex()[:16]}{_SUFFIX}"

    def _load(self, path: Path) -> Greeting:
        try:
            plain = self._sealer.open(path.read_bytes(), expected_context=_CONTEXT)
            return decode(Greeting, plain, max_size=_MAX_SIZE)
        except (OSError, DecryptionError, DataError) as error:
            raise DeviceFileError(f"{path}: damaged; delete it and invite again") from error


class JoiningFile:
    """The joiner's only one, readable by this user alone until the device file takes its place."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "joining.dat"

    def save(self, joining: Joining) -> None:
        """Durable when this returns."""
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        replace_private(self._path, encode(joining))

    def load(self) -> Joining | None:
        """None if nothing is under way. Raises DeviceFileError."""
        with contextlib.suppress(FileNotFoundError):
            try:
                return decode(Joining, self._path.read_bytes(), max_size=_MAX_SIZE)
            except DataError as error:
                raise DeviceFileError(f"{self._path}: damaged; delete it, join again") from error
        return None

    def remove(self) -> None:
        """It is over, one way or the other."""
        self._path.unlink(missing_ok=True)


def with_mail(greeting: Greeting, mail: bytes) -> Greeting:
    """One message further."""
    return replace(greeting, mails=(*greeting.mails, mail))

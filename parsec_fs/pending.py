"""Greetings under way, so that Ctrl-C, a crash or a night in between loses nothing.

Data flow: user invite, device add -> one file per greeting -> user greet, device add again;
           user join, device join -> one file -> the same command again.

A file holds what this side drew and all mail so far, its own and the other's: what was received is
never asked for again, and what was sent is only ever sent again byte for byte. It is used by one
process at a time, which reads it after it has locked it: two that answered with one nonce would
let whoever stands between the two people try codes against both.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, TypeVar

from parsec_fs.device_file import DeviceFile, replace_private
from parsec_fs.greeting import (
    ADMISSION,
    INVITATION,
    INVITATIONS,
    REQUEST,
    SECRET_SIZE,
    DeviceInvitation,
    Invitation,
    Link,
    PersonInvitation,
    open_invitation,
)
from parsec_fs.identity import BoxSeed, DeviceSecrets, Random
from parsec_fs.joining import invitation_digest, seal_mail
from parsec_fs.lockfile import LockedError, held
from parsec_fs.protocol.codec import U8, Bytes32, Label, Size, decode, encode
from parsec_fs.protocol.errors import DataError, DecryptionError, DeviceFileError, InputError
from parsec_fs.protocol.hashing import tag
from parsec_fs.protocol.sealing import LocalSealer

_CONTEXT: Final = tag("pending-invitation")
_SUFFIX: Final = ".invitation"
_LOCK: Final = ".lock"
_MAX_SIZE: Final = 1024 * 1024
_ASKED_FOR_MS: Final = 30 * 24 * 3_600_000
Mails = Annotated[tuple[Annotated[bytes, Size(1, 65536)], ...], Size(0, ADMISSION + 1)]
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class _Pending:
    """What both sides keep: the link, and all mail so far."""

    kind: U8
    secret: Annotated[bytes, Size(16, 16)]
    invitation: Bytes32
    server_url: Annotated[bytes, Size(1, 1024)]
    mails: Mails

    def link(self) -> Link:
        """What the person was sent."""
        url, kind = self.server_url.decode(), self.kind
        return Link(secret=self.secret, invitation=self.invitation, server_url=url, kind=kind)

    def has_request(self) -> bool:
        """The new keys were sent: the organization may hold them already, so neither side can be
        forgotten before the other has heard of it."""
        return len(self.mails) > REQUEST


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Greeting(_Pending):
    """The inviter's side. `shared` and `nonce` were drawn for this greeting alone."""

    shared: Bytes32
    nonce: Bytes32

    def terms(self) -> PersonInvitation:
        """Who was invited, as what, until when."""
        return open_invitation(self.mails[INVITATION], self.link(), PersonInvitation)

    def device_terms(self) -> DeviceInvitation:
        """The same of an invitation of a device."""
        return open_invitation(self.mails[INVITATION], self.link(), DeviceInvitation)

    def expires_ms(self) -> int:
        """Of an invitation of either kind."""
        cls = INVITATIONS[self.kind]
        return open_invitation(self.mails[INVITATION], self.link(), cls).expires_ms

    def is_over(self) -> bool:
        """The person or the device is in the organization."""
        return len(self.mails) > ADMISSION

    def is_worthless(self, now_ms: int) -> bool:
        """It has expired, and nobody needs an answer: keys that were sent would be lost without
        one, and whoever was added may be long in asking for it."""
        if self.has_request():
            return self.is_over() and self.expires_ms() + _ASKED_FOR_MS <= now_ms
        return self.expires_ms() <= now_ms


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Joining(_Pending):
    """The joiner's side: also the keys of the user and the device that it will be, or those of the
    device alone. Organization, and the user of a device, are not known before the invitation."""

    seed: BoxSeed
    nonce: Bytes32
    device: Label
    secrets: DeviceSecrets


def invited(kind: int, terms: Invitation, *, random: Random) -> Greeting:
    """The inviter's side of a new invitation, not known to anybody yet."""
    secret = random(SECRET_SIZE)
    sealed = seal_mail(terms, slot=INVITATION, secret=secret, salt=random(32))
    return Greeting(
        kind=kind,
        secret=secret,
        invitation=invitation_digest(encode(terms)),
        server_url=terms.anchor.server_url,
        shared=random(32),
        nonce=random(32),
        mails=(sealed,),
    )


def begun(link: Link, device: bytes, secrets: DeviceSecrets, *, random: Random) -> Joining:
    """The joiner's side before anything was said. `device`: its label."""
    return Joining(
        kind=link.kind,
        secret=link.secret,
        invitation=link.invitation,
        server_url=link.server_url.encode(),
        seed=random(96),
        nonce=random(32),
        device=device,
        secrets=secrets,
        mails=(),
    )


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

    @contextmanager
    def using(self, greeting: Greeting) -> Iterator[Greeting]:
        """The greeting as it is now, for nobody else meanwhile. Raises LockedError; InputError if
        it is not there any more; DeviceFileError."""
        path = self._path(greeting)
        lock = path.with_suffix(_LOCK)
        with _alone(lock, "this invitation"):
            now = self._load(path)
            if now is None:
                lock.unlink(missing_ok=True)
                raise InputError("this invitation is over; see: parsec-fs user invitations")
            yield now

    def remove(self, greeting: Greeting) -> None:
        """Nobody who has the link gets any further. For whoever is `using` it."""
        path = self._path(greeting)
        path.unlink(missing_ok=True)
        # Whoever waits for this lock finds nothing to use behind it.
        path.with_suffix(_LOCK).unlink(missing_ok=True)

    def all(self, now_ms: int, *, kind: int | None = None) -> list[Greeting]:
        """Those that can go on, of one kind if it is given. What is worth nothing any more is
        removed, unless a process is using it. Raises DeviceFileError."""
        paths = sorted(self._folder.glob(f"*{_SUFFIX}"))
        found = [one for path in paths if (one := self._load(path)) is not None]
        old = [one for one in found if one.is_worthless(now_ms)]
        for greeting in old:
            with suppress(LockedError, InputError), self.using(greeting) as now:
                if now.is_worthless(now_ms):
                    self.remove(now)
        return [one for one in found if one not in old and kind in (None, one.kind)]

    def _path(self, greeting: Greeting) -> Path:
        return self._folder / f"{greeting.invitation.hex()[:16]}{_SUFFIX}"

    def _load(self, path: Path) -> Greeting | None:
        return _load(path, Greeting, self._open, "delete it and invite again")

    def _open(self, sealed: bytes) -> bytes:
        return self._sealer.open(sealed, expected_context=_CONTEXT)


class JoiningFile:
    """The joiner's only one, readable by this user alone until the device file takes its place."""

    def __init__(self, folder: Path) -> None:
        self._device = DeviceFile(folder)

    def save(self, joining: Joining) -> None:
        """Durable when this returns."""
        path = self._device.joining_path
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        replace_private(path, encode(joining))

    @contextmanager
    def alone(self) -> Iterator[None]:
        """No other process joins from here meanwhile. Raises LockedError."""
        with _alone(self._device.joining_path.with_suffix(_LOCK), "joining from here"):
            yield

    def load(self) -> Joining | None:
        """None if nothing is under way. Raises DeviceFileError."""
        return _load(self._device.joining_path, Joining, bytes, "delete it, join again")

    def remove(self) -> None:
        """It is over, one way or the other; durable when this returns."""
        self._device.remove_joining()


def _load(path: Path, cls: type[T], opened: Callable[[bytes], bytes], remedy: str) -> T | None:
    """None if there is no such file. Raises DeviceFileError."""
    try:
        return decode(cls, opened(path.read_bytes()), max_size=_MAX_SIZE)
    except FileNotFoundError:
        return None
    except (OSError, DecryptionError, DataError) as error:
        raise DeviceFileError(f"{path}: damaged; {remedy}") from error


@contextmanager
def _alone(lock: Path, what: str) -> Iterator[None]:
    with ExitStack() as stack:
        try:
            stack.enter_context(held(lock))
        except LockedError as error:
            raise LockedError(
                f"{what} is {error}: end that one (Ctrl-C loses nothing), then type this again. "
                "Nothing was changed"
            ) from error
        yield

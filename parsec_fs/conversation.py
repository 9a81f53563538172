"""The server's mailbox, and messages in turns through it, resumed where they stopped.

Data flow: greeting_sides -> `Talk` -> sealed mail in `MailSlots` -> server -> the other side's.
"""

import os
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final, Protocol, TypeVar

import trio

from parsec_fs.greeting import CANCELLED, Cancelled, Words
from parsec_fs.joining import mailbox_address, open_mail, seal_mail
from parsec_fs.protocol.commands import PutMail, ReadMail
from parsec_fs.protocol.errors import DecryptionError, InputError, RefusedError, TakenBackError
from parsec_fs.remote.server_client import PublicClient

_USED: Final = (
    "somebody else has used this link already: tell the other side not to accept, and ask for "
    "another invitation"
)
_TAKEN_BACK: Final = (
    "this invitation was taken back: none of your keys were sent, and the link is worth nothing "
    "any more; ask for another one: "
)
_POLL_S: Final = 0.25
_CANCEL_POLL_S: Final = 1.0
_PUT_AGAIN_S: Final = 120.0
"""The server keeps mail for ten minutes."""
T = TypeVar("T")


class Person(Protocol):
    """Who sits at this side."""

    def reads_out(self, code: str) -> None:
        """Show the code that the other person is to recognize."""

    async def recognizes(self, code: str) -> bool:
        """Is this the code that the other person read out?"""


class MailSlots:
    """The mailbox of one secret, with a slot for each sealed message."""

    def __init__(self, client: PublicClient, secret: bytes) -> None:
        self._client = client
        self._address = mailbox_address(secret)

    async def put(self, slot: int, sealed: bytes, *, taken: str) -> None:
        """Leave a message; again is nothing. Raises InputError(`taken`) if another one is there."""
        try:
            await self._client.put_mail(PutMail(address=self._address, slot=slot, data=sealed))
        except RefusedError as error:
            if error.outcome != "EXISTS":
                raise
            raise InputError(taken) from error

    async def read(self, slot: int) -> bytes | None:
        """The message, if there is one yet."""
        try:
            return await self._client.read_mail(ReadMail(address=self._address, slot=slot))
        except RefusedError as error:
            if error.outcome != "NOT_FOUND":
                raise
        return None


class Talk:
    """One side of the conversation, resumed where it stopped: `mails` are all messages so far."""

    def __init__(
        self,
        client: PublicClient,
        secret: bytes,
        mails: tuple[bytes, ...],
        *,
        keep: Callable[[tuple[bytes, ...]], None],
        expires_ms: int,
        words: Words,
    ) -> None:
        self._slots = MailSlots(client, secret)
        self._secret = secret
        self.mails = mails
        self._keep = keep
        self.expires_ms = expires_ms
        self._words = words

    async def say(
        self, slot: int, cls: type[T], make: Callable[[], T], secret: bytes | None = None
    ) -> T:
        """Send a message, made at its first time only. Raises InputError if somebody else did."""
        secret = self._secret if secret is None else secret
        if len(self.mails) == slot:
            self._take(seal_mail(make(), slot=slot, secret=secret, salt=os.urandom(32)))
        await self._put(slot)
        return open_mail(self.mails[slot], cls, slot=slot, secret=secret)

    async def hear(self, slot: int, cls: type[T], secret: bytes | None = None) -> T:
        """The other side's message. Raises TimeoutError, TakenBackError, DecryptionError."""
        secret = self._secret if secret is None else secret
        sealed = await self.wait(slot)
        found = open_mail(sealed, cls, slot=slot, secret=secret)
        if len(self.mails) == slot:
            self._take(sealed)
        return found

    async def repeat(self, slot: int) -> None:
        """Put a message of this side's again, which the server may have forgotten."""
        await self._put(slot)

    async def wait(self, slot: int) -> bytes:
        """Sealed mail of the other side, not looked into yet. Raises TimeoutError; TakenBackError
        if the other side is an inviter who has taken the invitation back."""
        if len(self.mails) > slot:
            return self.mails[slot]
        ask_at = trio.current_time()
        put_at = ask_at + _PUT_AGAIN_S
        while wall_ms() < self.expires_ms:
            sealed = await self._slots.read(slot)
            if sealed is not None:
                return sealed
            if slot % 2 == 0 and trio.current_time() >= ask_at:
                await self._check_not_cancelled()
                ask_at += _CANCEL_POLL_S
            if slot and trio.current_time() > put_at:
                await self._put(slot - 1)
                put_at += _PUT_AGAIN_S
            await trio.sleep(_POLL_S)
        raise TimeoutError(expired(self._words))

    async def cancel(self, invitation: bytes) -> None:
        """The inviter's last word, for whoever waits now: the server forgets it after minutes."""
        content = Cancelled(invitation=invitation)
        sealed = seal_mail(content, slot=CANCELLED, secret=self._secret, salt=os.urandom(32))
        await self._slots.put(CANCELLED, sealed, taken=_USED)

    async def _check_not_cancelled(self) -> None:
        sealed = await self._slots.read(CANCELLED)
        if sealed is None:
            return
        with suppress(DecryptionError):  # who does not know the link ends nobody's waiting
            open_mail(sealed, Cancelled, slot=CANCELLED, secret=self._secret)
            raise TakenBackError(_TAKEN_BACK + self._words.invite)

    def _take(self, sealed: bytes) -> None:
        self.mails = (*self.mails, sealed)
        self._keep(self.mails)

    async def _put(self, slot: int) -> None:
        await self._slots.put(slot, self.mails[slot], taken=_USED)


def expired(words: Words) -> str:
    """What to say of an invitation whose time is over."""
    return f"this invitation has expired; ask for another one: {words.invite}"


def wall_ms() -> int:
    """Only for expiry, which protects nobody: a link can be cancelled."""
    return time.time_ns() // 1_000_000

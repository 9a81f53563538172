"""What stands round every handler: nothing but FUSEError leaves, missing things are loaded.

Data flow: pyfuse3 -> these -> methods of mount/operations -> FUSEError or an answer.

An exception of another kind that escaped would end the whole mount (peers.md 5.2). Anything
unexpected is logged with its traceback, counted, and answered EIO. What the repeater of remote
changes asks for never gets as far as a handler that changes something (mount/stage).
"""

import functools
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar

from pyfuse3 import FUSEError

from parsec_fs.mount.errnos import errno_of, is_expected
from parsec_fs.mount.stage import Stage
from parsec_fs.workspace.filesystem import Filesystem
from parsec_fs.workspace.gate import Gate
from parsec_fs.workspace.nodes import Missing
from parsec_fs.workspace.room import NAMES_ROOM

log = logging.getLogger(__name__)
T = TypeVar("T")
Handler = Callable[..., Coroutine[Any, Any, T]]


class Guarded(Protocol):
    """What the guards need of the operations."""

    gate: Gate
    filesystem: Filesystem
    stage: Stage
    unexpected: int

    def load(self, missing: Missing) -> None:
        """Load what the tree asked for."""


def failure(operations: Guarded, error: Exception, handler: str) -> FUSEError:
    """What the kernel is told of an error."""
    if not is_expected(error):
        operations.unexpected += 1
        log.error("%s: unexpected error, answered EIO", handler, exc_info=error)
    return FUSEError(errno_of(error))


def answers(function: Callable[..., T]) -> Handler[T]:
    """A handler that answers from memory."""

    @functools.wraps(function)
    async def handler(self: Guarded, *args: Any) -> T:
        while True:
            try:
                return function(self, *args)
            except FUSEError:
                raise
            except Missing as missing:
                self.load(missing)
            except Exception as error:
                raise failure(self, error, function.__name__) from None

    return handler


def changes(function: Callable[..., T]) -> Handler[T]:
    """A handler that changes something, in memory; refused while the gate is closed.

    The request's context, which says whose it is, comes last.
    """

    @functools.wraps(function)
    async def handler(self: Guarded, *args: Any) -> T:
        repeated = args[-1].pid == self.stage.pid
        if self.gate.refusal and not repeated:
            raise FUSEError(self.gate.refusal)
        while True:
            try:
                if repeated:
                    self.stage.on_own()
                    answer: T = self.stage.answer(function.__name__, *args)
                    return answer
                return function(self, *args)
            except FUSEError:
                raise
            except Missing as missing:
                self.load(missing)
            except Exception as error:
                raise failure(self, error, function.__name__) from None

    return handler


def grows(function: Callable[..., T]) -> Handler[T]:
    """A handler that adds something: also refused, before anything is accepted, without room."""

    @functools.wraps(function)
    def checked(self: Guarded, *args: Any) -> T:
        room = self.filesystem.room
        if room.disk < NAMES_ROOM:
            room.require()
        return function(self, *args)

    return changes(checked)


def waits(function: Handler[T]) -> Handler[T]:
    """A handler that may have to wait."""

    @functools.wraps(function)
    async def handler(self: Guarded, *args: Any) -> T:
        try:
            return await function(self, *args)
        except FUSEError:
            raise
        except Exception as error:
            raise failure(self, error, function.__name__) from None

    return handler

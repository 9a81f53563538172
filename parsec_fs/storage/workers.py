"""Threads for calls that release the GIL: sealing, opening, hashing, reading, syncing.

Data flow: event loop -> `submit` or `run` -> thread -> back in the event loop.

Unlike trio's own threads these take their next job without a turn of the event loop, which is busy
answering requests: handing over through it halves the throughput of streams. No Python computation
belongs here (decisions.md 6): it would hold up every request.
`turn_wanted` tells the mount's loop that somebody waits for a result that is there; it then gives
other tasks a real turn. Other results come with the next turn: of a stream that is read ahead, none
has to be waited for, and a turn for each block costs as much as several requests.
What only waits for the disk (`waits`) has a thread of its own: it is not behind the work, nor the
work behind it.
"""

import queue
import threading
from collections.abc import Callable
from typing import Final, Generic, TypeVar

import trio

T = TypeVar("T")

THREADS: Final = 3
"""Two compute while one waits for the disk."""


class Result(Generic[T]):
    """What a job returned or raised, and the event of its end (in the event loop). `finished` iff
    the thread is done with it, `awaited` iff somebody waits (`Workers.hurry`)."""

    __slots__ = ("awaited", "done", "error", "finished", "value")

    def __init__(self) -> None:
        self.awaited = self.finished = False
        self.done = trio.Event()
        self.value: T | None = None
        self.error: Exception | None = None

    def get(self) -> T:
        """The value, or the job's exception raised here."""
        if self.error is not None:
            raise self.error
        return self.value  # type: ignore[return-value]


class Workers:
    """A fixed number of daemonic threads, started with the first job."""

    def __init__(self, threads: int = THREADS) -> None:
        self.turn_wanted = False
        self._working = _Crew("worker", threads)
        self._waiting = _Crew("disk", 1)
        self._token: trio.lowlevel.TrioToken | None = None

    def submit(
        self,
        function: Callable[[], T],
        then: Callable[[Result[T]], None],
        *,
        waits: bool = False,
    ) -> Result[T]:
        """Run `function` in a thread, then `then(result)` in the event loop. Call from the loop."""
        token = self._token = trio.lowlevel.current_trio_token()
        result: Result[T] = Result()

        def finish() -> None:
            then(result)
            result.done.set()

        def job() -> None:
            try:
                result.value = function()
            except Exception as error:
                result.error = error
            result.finished = True
            try:
                token.run_sync_soon(finish)
            except trio.RunFinishedError:
                return
            if result.awaited:
                self.turn_wanted = True

        (self._waiting if waits else self._working).put(job)
        return result

    async def run(self, function: Callable[[], T], *, waits: bool = False) -> T:
        """Run `function` in a thread and wait for it; if cancelled, it ends by itself."""
        result = self.submit(function, _nothing, waits=waits)
        await self.wait(result)
        return result.get()

    async def wait(self, result: Result[T]) -> None:
        """Return when a job is finished, at once if it is; what follows it may still be to come."""
        if not result.finished:
            self.hurry(result)
            await result.done.wait()

    def hurry(self, result: Result[T]) -> None:
        """Somebody waits for what follows this result in the event loop."""
        result.awaited = True
        if result.finished:
            # The thread may have looked before this was set.
            self.turn_wanted = True


class _Crew:
    """Threads with the same queue, started with its first job."""

    def __init__(self, name: str, threads: int) -> None:
        self._name = name
        self._missing = threads
        self._jobs: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()

    def put(self, job: Callable[[], None]) -> None:
        """The next job of whichever thread is free first."""
        self._jobs.put(job)
        while self._missing:
            self._missing -= 1
            name = f"{self._name}-{self._missing}"
            threading.Thread(target=self._work, name=name, daemon=True).start()

    def _work(self) -> None:
        while True:
            self._jobs.get()()


def _nothing(result: Result[T]) -> None:
    return None

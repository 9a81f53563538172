"""Telling the kernel what to forget, from threads of its own.

Data flow: remote changes -> `Notifier.send` -> worker threads -> kernel caches.

Rules guarded here (peers.md 5.2; each of these hung real mounts):
- no notification that can block is ever sent from the event loop's thread: the kernel may wait for
  a request that only the loop can answer;
- the new state is published first, the notification follows, holding no lock;
- the queue is coalesced, so it is bounded by what the kernel can know;
- inodes that are open are told about attributes only; their pages go when they are opened anew.
"""

import contextlib
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Final

import pyfuse3

from parsec_fs.workspace.remote_changes import Invalidation

log = logging.getLogger(__name__)

THREADS: Final = 2
"""More than one: a notification may wait for a slow read while others can proceed."""


class Notifier:
    """A coalescing queue and its threads (daemonic: one that waits never holds up the end)."""

    def __init__(
        self,
        invalidate_inode: Callable[[int, bool], None] = pyfuse3.invalidate_inode,
        invalidate_entry: Callable[[int, bytes], None] = pyfuse3.invalidate_entry,
    ) -> None:
        self._invalidate_inode = invalidate_inode
        self._invalidate_entry = invalidate_entry
        self._waiting: OrderedDict[Invalidation, None] = OrderedDict()
        self._under_way: set[Invalidation] = set()
        self._changed = threading.Condition()
        self._closed = False
        for number in range(THREADS):
            threading.Thread(target=self._work, name=f"notify-{number}", daemon=True).start()

    def send(self, invalidations: Iterable[Invalidation]) -> None:
        """Queue notifications; returns at once."""
        with self._changed:
            self._waiting.update(dict.fromkeys(invalidations))
            self._changed.notify_all()

    def close(self) -> None:
        """Stop; what is queued need not be told to a kernel that unmounts."""
        with self._changed:
            self._closed = True
            self._waiting.clear()
            self._changed.notify_all()

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._closed:
                    self._changed.wait()
                if self._closed:
                    return
                item, _ = self._waiting.popitem(last=False)
                self._under_way.add(item)
            self.deliver(item)
            with self._changed:
                self._under_way.discard(item)
                self._changed.notify_all()

    def settle(self, timeout_s: float) -> None:
        """Wait until the kernel knows of all names that were sent so far, or for the given time (a
        notification may wait for a slow read). Never call it in the event loop's thread."""
        with self._changed:
            left = {one for one in (*self._waiting, *self._under_way) if one.name is not None}
            self._changed.wait_for(
                lambda: self._closed or not left & (self._waiting.keys() | self._under_way),
                timeout_s,
            )

    def deliver(self, item: Invalidation) -> None:
        """Tell the kernel one thing now. May wait: never call it in the event loop's thread."""
        # ENOENT: the kernel does not know it anyway.
        try:
            with contextlib.suppress(FileNotFoundError):
                if item.name is not None:
                    self._invalidate_entry(item.inode, item.name)
                else:
                    self._invalidate_inode(item.inode, item.attr_only)
        except OSError as error:
            log.warning("invalidation failed: %s", error)

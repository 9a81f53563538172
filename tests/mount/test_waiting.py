"""While a slow read is in flight: nothing else waits, invalidation does not hang, unmounting ends.

Data flow: a daemon whose blocks take seconds to open -> a reader in a thread -> everything else.

The kernel holds the page lock of a read that it waits for; telling it to forget that page from the
daemon's event loop would hang the whole mount for ever (peers.md 5.2).
"""

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.mounts import Daemon, mounted
from tests.support.requirements import require_fuse

SLOW_S = 1.5
QUICK_S = SLOW_S / 2


class Reader(threading.Thread):
    """Reads a file; `content` is set when it is done."""

    def __init__(self, path: Path) -> None:
        super().__init__(daemon=True)
        self.path = path
        self.content: bytes | None = None
        self.error: OSError | None = None
        self.under_way = threading.Event()

    def run(self) -> None:
        try:
            with open(self.path, "rb", buffering=0) as file:
                self.under_way.set()
                self.content = file.read()
        except OSError as error:
            self.error = error


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[tuple[Daemon, bytes]]:
    """A daemon with slow reads, and the content of its file `large` (3 blocks), not cached."""
    require_fuse()
    content = os.urandom(3 << 20)
    with mounted(tmp_path) as daemon:
        (daemon.path / "large").write_bytes(content)
        (daemon.path / "small").write_bytes(b"small")
        daemon.unmount()
        daemon.arguments = ("--slow-reads", str(SLOW_S))
        yield daemon.start(), content


def reading(daemon: Daemon) -> Reader:
    """A reader whose first request is waiting in the daemon."""
    reader = Reader(daemon.path / "large")
    reader.start()
    assert reader.under_way.wait(10)
    assert reader.content is None
    return reader


def quickly(action: object) -> None:
    """The action ends long before the slow read does."""
    start = time.monotonic()
    action()  # type: ignore[operator]
    assert time.monotonic() - start < QUICK_S


def test_others_do_not_wait_for_a_slow_read(slow: tuple[Daemon, bytes]) -> None:
    daemon, content = slow
    reader = reading(daemon)
    quickly(lambda: (daemon.path / "new").write_bytes(b"new"))
    quickly(lambda: (daemon.path / "small").read_bytes())
    quickly(lambda: os.listdir(daemon.path))
    assert reader.is_alive()
    reader.join(30)
    assert reader.content == content


def test_invalidation_during_a_slow_read_does_not_hang(slow: tuple[Daemon, bytes]) -> None:
    daemon, content = slow
    reader = reading(daemon)
    assert daemon.process is not None
    for _ in range(3):
        daemon.invalidate()
        quickly(lambda: (daemon.path / "small").stat())
        quickly(lambda: (daemon.path / "small").read_bytes())
    assert reader.is_alive()
    reader.join(30)
    assert reader.content == content
    daemon.unmount()


def test_terminating_during_a_slow_read_ends_in_time(slow: tuple[Daemon, bytes]) -> None:
    daemon, _ = slow
    reader = reading(daemon)
    start = time.monotonic()
    daemon.terminate()
    assert time.monotonic() - start < 15
    reader.join(10)
    assert not reader.is_alive()
    assert not daemon.path.is_mount()
